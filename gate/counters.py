"""What the gate counts, beside what Triton does, on the same metrics port. All instances of the gate count together.

Triton itself takes every answer of a Python model for a success, errors among them.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from time import perf_counter
from typing import TYPE_CHECKING

import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTCOMES = ("answered", "invalid", "cancelled", "unavailable", "failed")
DECISIONS = ("opened", "shut")
STAGES = ("detector", "segmenter", "gate")
ROWS = (1, 2, 4, 8, 16, 32)
"""Upper edges of the histogram of batches."""

TOLD_WITHIN_S = 0.05
"""Each counter is told to Triton in a message of its own, a millisecond for all that a batch changes. So a thread does
that, and no answer waits for it."""


class Counters:
    """Counters for Prometheus.

    Attributes:
        requests: by outcome.
        slices: those that could have been segmented, by what the gate decided.
        seconds: that batches spent, by stage; `gate` is what is left without the networks.
    """

    def __init__(self) -> None:
        self.requests = _Counter("gliogate_requests_total", "Requests by how the gate ended them", "outcome", OUTCOMES)
        self.slices = _Counter("gliogate_slices_total", "Slices by what the gate decided", "decision", DECISIONS)
        self.seconds = _Counter("gliogate_seconds_total", "Seconds that batches spent, by stage", "stage", STAGES)
        # What Prometheus takes for a histogram; this Triton has no such metric for a Python model.
        name, edges = "gliogate_batch_rows", (*map(str, ROWS), "+Inf")
        self._rows_at_most = _Counter(f"{name}_bucket", "Batches that the gate made, by their most rows", "le", edges)
        self._rows_sum = _Counter(f"{name}_sum", "Rows of all batches that the gate made", "", ("",))
        self._batches = _Counter(f"{name}_count", "Batches that the gate made, of one request or several", "", ("",))
        self._changed, self._closed = Event(), Event()
        self._teller = Thread(target=self._tell, name="gate-counters", daemon=True)
        self._teller.start()

    def count_batch(self, rows: int) -> None:
        """Counts a batch of so many rows."""
        for edge in ROWS:
            self._rows_at_most.add(rows <= edge, str(edge))
        self._rows_at_most.add(1, "+Inf")
        self._rows_sum.add(rows)
        self._batches.add()

    def tell_soon(self) -> None:
        """Has Triton told of what was counted."""
        self._changed.set()

    def close(self) -> None:
        """Tells what is left, and nothing more."""
        self._closed.set()
        self._changed.set()
        self._teller.join()

    def _tell(self) -> None:
        counters = [each for each in vars(self).values() if isinstance(each, _Counter)]
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
