"""Whether requests are answered: what a server that hangs, or is broken inside, looks like from outside."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

TICK_S: Final = 0.5
FAILURES: Final = 5
"""Fewer failures in a row say nothing: an input may be one that fails."""
UNREADY_AFTER_S: Final = 5.0
"""A server in which requests wait or fail so long, and none is answered, is not ready; the proxy asks it, too."""
FORGOTTEN_AFTER_S: Final = 30.0
"""Failures that lie further apart are not of one trouble."""


class Progress:
    """Counts for how long nothing has succeeded though something was asked.

    Time is counted in ticks, not read from a clock: none passes while the machine sleeps or this process is stopped.
    What the caller did wrong, and what a full queue refuses, says nothing of the models: neither is counted.

    Attributes:
        stalled_s: seconds in which requests waited, since one was last answered.
        failing_s: seconds from the first failure inside the server to the last, with no success between them.
        broken: what Triton said of a process of its own that is gone, which does not come back; empty while it did not.
    """

    def __init__(self) -> None:
        self._ticks = 0
        self._asked: dict[object, int] = {}
        self.start_anew()

    def start_anew(self) -> None:
        """Forgets what was; for a server that was started again."""
        self.stalled_s, self.failing_s, self.broken = 0.0, 0.0, ""
        self._failures, self._first_failure, self._last_failure = 0, 0, 0

    @property
    def is_in_doubt(self) -> bool:
        """Whether the server is not ready, as far as requests tell."""
        return bool(self.broken) or max(self.stalled_s, self.failing_s) >= UNREADY_AFTER_S

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request is in the server."""
        key = object()
        self._asked[key] = self._ticks
        try:
            yield
        finally:
            del self._asked[key]

    def answered(self) -> None:
        """One was answered."""
        if not self.broken:  # Another instance may answer for a while.
            self.start_anew()

    def failed(self) -> None:
        """One failed inside the server."""
        if not self._failures or (self._ticks - self._last_failure) * TICK_S > FORGOTTEN_AFTER_S:
            self._failures, self._first_failure = 0, self._ticks
        self._failures += 1
        self._last_failure = self._ticks
        if self._failures >= FAILURES:
            self.failing_s = (self._last_failure - self._first_failure) * TICK_S

    def tick(self) -> None:
        """`TICK_S` have passed."""
        self._ticks += 1
        # The first is the oldest. One that came just now has not waited.
        oldest = next(iter(self._asked.values()), self._ticks)
        if self._ticks - oldest > 1:
            self.stalled_s += TICK_S
