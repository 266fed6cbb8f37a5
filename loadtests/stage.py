"""A stage: one kind of load for a while. A run is one stage after the other."""

from dataclasses import dataclass, field
from typing import Any

from loadtests.arrivals import Arrivals
from loadtests.calls import Mix


def told_share(prevalence: float | None) -> str:
    """What the requests of a stage hold, in words."""
    return "pictures" if prevalence is None else f"{100 * prevalence:g}% tumor"


def warm_up_of(duration_s: float) -> float:
    """How long a stage of a scenario warms up, in seconds: a fifth of it, and a second at most."""
    return min(1.0, duration_s / 5)


@dataclass(frozen=True)
class Stage:
    """One kind of load, for a while. Exactly one of `arrivals` and `users` is given.

    Attributes:
        name: how reports tell it from others.
        duration_s: for how long requests are sent.
        arrivals: when they are: open loop, whatever becomes of the earlier ones.
        users: how many send one after the other: closed loop, the next when the last was answered.
        calls: in a closed loop, how many are made in all, at most; 0 for as many as there is time for.
        mix: what is asked.
        prevalence: the share of the phantoms that shows tumor; None for the pictures of a folder.
        warm_up_s: how long at the beginning nothing is counted; part of the duration.
        seed: of what is drawn in the stage.
    """

    name: str
    duration_s: float
    arrivals: Arrivals | None = None
    users: int = 0
    calls: int = 0
    mix: Mix = field(default_factory=Mix)
    prevalence: float | None = 0.35
    warm_up_s: float = 0.0
    seed: int = 0

    @property
    def is_open(self) -> bool:
        """Whether arrivals do not wait for answers."""
        return self.arrivals is not None

    @property
    def counted_s(self) -> float:
        """For how long requests are counted."""
        return self.duration_s - self.warm_up_s

    def to_json(self) -> dict[str, Any]:
        """As a message or a report has it."""
        return vars(self) | {"arrivals": self.arrivals and self.arrivals.to_json(), "mix": self.mix.to_json()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Stage":
        """What `to_json` was called on."""
        arrivals = content["arrivals"]
        return cls(
            **content | {"arrivals": arrivals and Arrivals.from_json(arrivals), "mix": Mix.from_json(content["mix"])}
        )
