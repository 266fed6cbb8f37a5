"""What the gate counts, beside what Triton does, on the same metrics port. All instances of the gate count together.

Triton itself takes every answer of a Python model for a success, errors among them.
"""

from __future__ import annotations

from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTCOMES = ("answered", "invalid", "cancelled", "unavailable", "failed")
DECISIONS = ("opened", "shut")
STAGES = ("detector", "segmenter", "gate")


class Counters:
    """Counters for Prometheus.

    Attributes:
        requests: by outcome.
        slices: those that could have been segmented, by what the gate decided.
        batches: of the gate, each made of one request or several.
        seconds: that batches spent, by stage; `gate` is what is left without the networks.
    """

    def __init__(self) -> None:
        self.requests = _Counter("gliogate_requests_total", "Requests by how the gate ended them", "outcome", OUTCOMES)
        self.slices = _Counter("gliogate_slices_total", "Slices by what the gate decided", "decision", DECISIONS)
        self.batches = _Counter("gliogate_batches_total", "Batches that the gate made of requests", "", ("",))
        self.seconds = _Counter("gliogate_seconds_total", "Seconds that batches spent, by stage", "stage", STAGES)


class _Counter:
    """One family of counters, told apart by one label, or a single one without."""

    def __init__(self, name: str, description: str, label: str, values: tuple[str, ...]) -> None:
        try:
            self._family = pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.COUNTER)
            self._counters = {value: self._family.Metric(labels={label: value} if label else {}) for value in values}
        except pb_utils.TritonModelException:  # A server without metrics.
            self._counters = {}

    def add(self, amount: float = 1, value: str = "") -> None:
        """Adds to the counter of a label's value."""
        if amount and value in self._counters:
            self._counters[value].increment(amount)


class Stopwatch:
    """Seconds of one batch, by stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what happens inside; stages inside it count for themselves alone."""
        outside = sum(self.seconds.values())
        start = perf_counter()
        try:
            yield
        finally:
            elsewhere = sum(self.seconds.values()) - outside
            self.seconds[name] += perf_counter() - start - elsewhere
