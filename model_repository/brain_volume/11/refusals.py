"""Tells Triton's log of requests that got no answer, so that an operator can find their caller by the request's id."""

from __future__ import annotations

import reprlib
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 1.0
"""Who sends wrong requests sends many: a log has no line for each."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = 100
"""More than any usual id has."""


class Refusals:
    """Lines about refused requests, at most one in `EVERY_S`.

    Args:
        log: takes a line.
        clock: seconds that only grow.
    """

    def __init__(self, log: Callable[[str], object], clock: Callable[[], float] = monotonic) -> None:
        self._log = log
        self._clock = clock
        self._next = -float("inf")
        self._untold = 0

    def tell(self, request_id: str, error: Exception) -> None:
        """Says what was wrong with a request, or counts it for the next line."""
        if self._clock() < self._next:
            self._untold += 1
            return
        more = f" ({self._untold} more since the last such line)" if self._untold else ""
        # Neither a long id nor one with line breaks makes more than a line.
        self._log(f"request {_SHORT.repr(request_id)}: {' '.join(str(error).split())}{more}")
        self._next, self._untold = self._clock() + EVERY_S, 0
