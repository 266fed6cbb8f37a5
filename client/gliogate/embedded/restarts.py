"""When a server that died is started again."""

from __future__ import annotations

from collections import deque
from typing import Final

LIMIT: Final = 5
WINDOW_S: Final = 600.0
_LONGEST_S: Final = 30.0


class Restarts:
    """Counts restarts: `LIMIT` within `WINDOW_S`, the first at once, each further one after twice the wait."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def next_delay_s(self, now: float) -> float | None:
        """Counts one more; returns the seconds to wait before it, or None where there were too many already.

        Args:
            now: seconds on any clock that only goes forward.
        """
        while self._times and now - self._times[0] > WINDOW_S:
            self._times.popleft()
        if len(self._times) == LIMIT:
            return None
        self._times.append(now)
        return min(_LONGEST_S, 2.0 ** (len(self._times) - 2)) if len(self._times) > 1 else 0.0

    @property
    def count(self) -> int:
        """How many there were within the window."""
        return len(self._times)
