"""The load: right requests through the SDK, sent when they are due, whatever became of those before."""

import asyncio
import threading
import time
from dataclasses import dataclass

import numpy as np

from gliogate import AsyncClient, Keepalive, Retries
from gliogate.errors import DeadlineExceededError, GliogateError
from gliogate.phantom import make_phantoms
from gliogate.results import Analysis

DEADLINE_S = 30.0
OPTIONS = {
    "retries": Retries(attempts=5, initial_backoff_s=0.2, max_backoff_s=2.0, budget=1000),
    "keepalive": Keepalive(every_s=5, timeout_s=5),
}
PICTURES = 8
_TOLERANCE = 0.05
"""In 8 bits an answer depends a little on the batch that the slice is in."""


@dataclass
class Sent:
    """One request, its times in seconds on the monotonic clock.

    Attributes:
        due: when it was to be sent.
        began: when it was.
        done: when it was answered or failed; None for one that never was.
        error: what failed it; empty where it was answered.
        is_late: whether it failed by its deadline.
        is_wrong: whether it was answered otherwise than by a server that nothing has befallen.
    """

    due: float
    began: float
    done: float | None = None
    error: str = ""
    is_late: bool = False
    is_wrong: bool = False


class Load:
    """Sends at a constant rate until it is stopped.

    Attributes:
        sent: all requests, as they were due.
    """

    def __init__(self, url: str, rate: float) -> None:
        self.sent: list[Sent] = []
        self._url, self._rate = url, rate
        self._pictures = [phantom.image for phantom in make_phantoms(PICTURES)]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Sends no more, and waits until each has an answer or an error, or should have had one long ago."""
        self._stopping.set()
        self._thread.join()

    async def _run(self) -> None:
        async with AsyncClient(self._url, **OPTIONS) as client:
            expected = [await client.analyze(picture) for picture in self._pictures]
            tasks = set()
            start, number = time.monotonic(), 0
            while not self._stopping.is_set():
                due = start + number / self._rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                index = number % PICTURES
                task = asyncio.create_task(self._ask(client, due, self._pictures[index], expected[index]))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                number += 1
            if tasks:
                await asyncio.wait(tasks, timeout=2 * DEADLINE_S)

    async def _ask(self, client: AsyncClient, due: float, picture: np.ndarray, expected: Analysis) -> None:
        sent = Sent(due, time.monotonic())
        self.sent.append(sent)
        try:
            found = await client.analyze(picture, timeout_s=DEADLINE_S)
        except GliogateError as error:
            sent.error = f"{type(error).__name__}: {error}"
            sent.is_late = isinstance(error, DeadlineExceededError)
        except Exception as error:
            sent.error = f"no error of gliogate's: {error!r}"
        else:
            sent.is_wrong = differ(found, expected)
        sent.done = time.monotonic()


def differ(found: Analysis, expected: Analysis) -> bool:
    """Whether two answers are not of the same picture."""
    is_off = abs(found.tumor_probability - expected.tumor_probability) > _TOLERANCE
    return (
        is_off
        or found.verdict != expected.verdict
        or abs(found.area_px - expected.area_px) > max(20, 0.1 * expected.area_px)
    )
