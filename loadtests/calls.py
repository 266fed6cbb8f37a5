"""What is asked for: the calls of the SDK that a scenario mixes."""

from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from gliogate.contract import GateMode


@dataclass(frozen=True)
class Call:
    """One call of the SDK.

    Attributes:
        name: how reports tell it from others.
        gate: what the gate is told; None asks for the detector's word only.
        slices: how many slices one call asks about.
        in_flight: how many of them may be under way at a time.
        mask_probability: whether the probability of every pixel is asked for too.
    """

    name: str
    gate: GateMode | None = "auto"
    slices: int = 1
    in_flight: int = 1
    mask_probability: bool = False


GATED: Final = Call("gated")
ALWAYS: Final = Call("always", gate="always")
DETECTOR: Final = Call("detector", gate=None)
BATCH: Final = Call("batch of 8", slices=8, in_flight=8)


@dataclass(frozen=True)
class Mix:
    """Calls, and how often each is made.

    Attributes:
        calls: what is asked.
        weights: one for each call, in any unit.
    """

    calls: tuple[Call, ...] = (GATED,)
    weights: tuple[float, ...] = (1.0,)

    def draw(self, count: int, seed: int) -> NDArray[np.intp]:
        """Which call each of `count` arrivals makes; the same seed gives the same ones."""
        if len(self.calls) == 1:
            return np.zeros(count, np.intp)
        generator = np.random.Generator(np.random.PCG64(seed))
        shares = np.array(self.weights) / sum(self.weights)
        return generator.choice(len(self.calls), size=count, p=shares)

    def to_json(self) -> dict[str, Any]:
        """As a message or a report has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Mix":
        """What `to_json` was called on."""
        return cls(tuple(Call(**call) for call in content["calls"]), tuple(content["weights"]))


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        opened: for how many slices the gate opened; 0 where no mask was asked for.
        suspicious: how many of them are, see `gliogate.contract.verdict_of`.
        received_bytes: of tensors.
    """

    opened: int
    suspicious: int
    received_bytes: int


class Caller(Protocol):
    """Something that makes calls: over gRPC or over HTTP."""

    protocol: str
    """What Locust files the requests under."""

    def wait_until_ready(self, timeout_s: float) -> None:
        """Returns when the server is ready.

        Raises:
            GliogateError: it is not, in time.
        """
        ...

    def ask(self, call: Call, pictures: list[NDArray[np.uint8]]) -> Answer:
        """Makes a call about as many pictures as it has slices.

        Raises:
            GliogateError: it failed; of several slices, the first that did.
        """
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...
