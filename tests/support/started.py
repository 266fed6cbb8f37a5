"""Processes that a test starts, of which none outlives it."""

from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen

ENDING_S = 60.0


@contextmanager
def ended_after() -> Iterator[list[Popen[str]]]:
    """A list for processes; those that still run at the end are asked to end, and waited for."""
    started: list[Popen[str]] = []
    try:
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=ENDING_S)
