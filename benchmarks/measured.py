"""What one measurement gives, whoever was asked."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.pair import Images

SHUT = -1
"""In place of an area, where the gate stayed shut."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One pass over a workload.

    Attributes:
        seconds: from the first request to the last answer.
        latencies_s: of every request, (N,); of every batch where batches are asked for.
        areas: pixels of every mask, (N,), `SHUT` where the gate stayed shut.
        stages_s: seconds in each network, where they are known.
        masks: as `pack` has them, (N, 8192), until they have been checked; None of who finds nothing worth checking.
    """

    seconds: float
    latencies_s: NDArray[np.float64]
    areas: NDArray[np.int64]
    stages_s: dict[str, float] = field(default_factory=dict)
    masks: NDArray[np.uint8] | None = None

    @property
    def opened(self) -> int:
        """For how many slices the gate opened."""
        return int((self.areas != SHUT).sum())

    @classmethod
    def of(
        cls, seconds: float, latencies_s: NDArray[np.float64], masks: Sequence[NDArray[Any]], opened: Sequence[bool]
    ) -> "Measured":
        """What a server's masks, (256, 256) or the like each, and its decisions come to."""
        areas = np.array([area(*each) for each in zip(masks, opened, strict=True)])
        return cls(seconds, latencies_s, areas, masks=pack(masks))

    @classmethod
    def parse(cls, document: dict[str, Any], masks: NDArray[np.uint8] | None = None) -> "Measured":
        """Reads what a worker wrote; its masks come beside."""
        return cls(
            document["seconds"],
            np.array(document["latencies_s"], float),
            np.array(document["areas"], np.int64),
            document.get("stages_s", {}),
            masks,
        )


class Asked(Protocol):
    """Whoever can be asked about slices, a number of them at a time."""

    def __call__(self, images: Images, in_flight: int) -> Measured:
        """Asks about all slices once."""


def area(mask: NDArray[np.uint8], opened: bool) -> int:
    """One of `Measured.areas`."""
    return int(mask.sum()) if opened else SHUT


def pack(masks: Sequence[NDArray[Any]]) -> NDArray[np.uint8]:
    """Masks with a bit for each pixel, which is an eighth of what they take otherwise."""
    return np.stack([np.packbits(np.asarray(mask).ravel()) for mask in masks])


def closed_loop(
    count: int, in_flight: int, send: Callable[[int], None], receive: Callable[[], int]
) -> tuple[float, NDArray[np.float64]]:
    """Keeps a number of requests under way until all are answered.

    Args:
        count: how many requests.
        in_flight: how many are under way at a time.
        send: starts the request of that place and returns at once.
        receive: waits for any answer and returns its place.

    Returns:
        Seconds for all, and for each (N,).
    """
    started, latencies = np.empty(count), np.empty(count)
    start = time.perf_counter()
    for place in range(count + in_flight):
        if place >= in_flight and place - in_flight < count:
            done = receive()
            latencies[done] = time.perf_counter() - started[done]
        if place < count:
            started[place] = time.perf_counter()
            send(place)
    return time.perf_counter() - start, latencies
