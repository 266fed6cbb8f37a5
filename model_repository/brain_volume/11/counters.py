"""What the gate counts, beside what Triton does, on the same metrics port. All instances of the gate count together.

Triton itself takes every answer of a Python model for a success, errors among them.
"""

from __future__ import annotations

from bisect import bisect_left
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from time import perf_counter
from typing import TYPE_CHECKING

import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTCOMES = ("answered", "invalid", "cancelled", "unavailable", "failed", "probe", "probe_failed")
"""Of the probes' own requests it is only told whether they were answered. They are no share of anybody's requests."""
DECISIONS = ("opened", "shut")
STAGES = ("detector", "segmenter", "gate")
ROWS = (1, 2, 4, 8, 16, 32)
"""Upper edges of the histogram of batches."""
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper edges of the histogram of requests."""

TOLD_WITHIN_S = 0.1
"""Each counter is told to Triton in a message of its own, a millisecond for all that a batch changes. So a thread does
that, and no answer waits for it."""


class Counters:
    """Counters for Prometheus.

    Attributes:
        requests: by outcome.
        slices: those that could have been segmented, by what the gate decided.
        suspicious: those of them that opened the gate by their probability, and have an empty mask.
        seconds: that batches spent, by stage; `gate` is what is left without the networks.
        batch_rows: of the batches that the gate made, of one request or several.
        request_seconds: from when the gate got requests until they were ended: those that were answered, and those that
            were given up while they were worked on, which would have taken longer still. Triton does not tell the gate
            how long they waited in its queue before. The probes' own are left out.
    """

    def __init__(self) -> None:
        self.requests = _Counter("gliogate_requests_total", "Requests by how the gate ended them", "outcome", OUTCOMES)
        self.slices = _Counter("gliogate_slices_total", "Slices by what the gate decided", "decision", DECISIONS)
        self.suspicious = _Counter(
            "gliogate_suspicious_slices_total", "Slices that opened the gate, and have an empty mask", "", ("",)
        )
        self.seconds = _Counter("gliogate_seconds_total", "Seconds that batches spent, by stage", "stage", STAGES)
        self.batch_rows = _Histogram("gliogate_batch_rows", "rows of the batches that the gate made", ROWS)
        self.request_seconds = _Histogram("gliogate_request_seconds", "seconds of requests in the gate", SECONDS)
        self._changed, self._closed = Event(), Event()
        self._teller = Thread(target=self._tell, name="gate-counters", daemon=True)
        self._teller.start()

    def tell_soon(self) -> None:
        """Has Triton told of what was counted."""
        self._changed.set()

    def close(self) -> None:
        """Tells what is left, and nothing more."""
        self._closed.set()
        self._changed.set()
        self._teller.join()

    def _tell(self) -> None:
        counters = [each for each in vars(self).values() if isinstance(each, _Counter | _Histogram)]
        while not self._closed.is_set():
            self._changed.wait()
            self._closed.wait(TOLD_WITHIN_S)  # What is counted meanwhile goes along.
            self._changed.clear()
            for counter in counters:
                counter.tell()


class _Counter:
    """One family of counters, told apart by one label, or a single one without."""

    def __init__(self, name: str, description: str, label: str, values: tuple[str, ...]) -> None:
        self._lock = Lock()
        self._untold = dict.fromkeys(values, 0.0)
        try:
            self._family = pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.COUNTER)
            self._counters = {value: self._family.Metric(labels={label: value} if label else {}) for value in values}
        except pb_utils.TritonModelException:  # A server without metrics.
            self._counters = {}

    def add(self, amount: float = 1, value: str = "") -> None:
        """Adds to the counter of a label's value."""
        with self._lock:
            self._untold[value] += amount

    def tell(self) -> None:
        """Tells Triton what was added since."""
        with self._lock:
            told, self._untold = self._untold, dict.fromkeys(self._untold, 0.0)
        # A server that is stopping takes no count any more.
        with suppress(pb_utils.TritonModelException):
            for value, counter in self._counters.items():
                if told[value]:
                    counter.increment(told[value])


class _Histogram:
    """What Prometheus takes for a histogram; a Triton of 2.51 has no such metric for a Python model."""

    def __init__(self, name: str, what: str, edges: tuple[float, ...]) -> None:
        self._edges = edges
        self._labels = (*map(str, edges), "+Inf")
        self._buckets = _Counter(f"{name}_bucket", f"Counts the {what}, up to each edge", "le", self._labels)
        self._sum = _Counter(f"{name}_sum", f"Sum of the {what}", "", ("",))
        self._count = _Counter(f"{name}_count", f"Counts the {what}", "", ("",))

    def add(self, value: float, amount: int = 1) -> None:
        """Counts a value, so many times, or none."""
        if not amount:
            return
        for label in self._labels[bisect_left(self._edges, value) :]:
            self._buckets.add(amount, label)
        self._sum.add(value * amount)
        self._count.add(amount)

    def tell(self) -> None:
        """Tells Triton what was added since."""
        for counter in (self._buckets, self._sum, self._count):
            counter.tell()


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
