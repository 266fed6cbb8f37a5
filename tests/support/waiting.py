"""Waiting for what another process does in its own time."""

import time
from collections.abc import Callable
from typing import TypeVar

STILL_S = 0.2
"""Longer than the gate keeps a count to itself."""

Figure = TypeVar("Figure")


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Returns when the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def settled(read: Callable[[], Figure]) -> Figure:
    """What Triton counted, once it stands still: an answer is counted after it was sent."""
    figure = read()
    while True:
        time.sleep(STILL_S)
        before, figure = figure, read()
        if figure == before:
            return figure
