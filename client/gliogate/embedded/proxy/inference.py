"""The way of a request into Triton, by whatever protocol: bounded, held while Triton is started again, and counted."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from .admission import Admission

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .progress import Progress
    from .settings import Settings

WAITING_BYTES: Final = 256 * 2**20
"""How many bytes of requests may be under way, those in Triton among them."""
GONE_WITHIN_S: Final = 20.0
"""How long a request waits for a Triton that nobody starts again; this process ends before that."""
RETURNING: Final = 32
"""Of those that waited for Triton, how many may be in it at a time: all at once would fill its queue."""

_LOOKS_EVERY_S: Final = 0.05

ENDING: Final = "Server exiting"
"""What a Triton says that ends."""
_STOPPING: Final = "Server is stopping, scheduler for model has stopped accepting new inference requests"
_GONE: Final = re.compile(
    rf"(\w+: )?(Stub process ('\S+' )?is not healthy|{ENDING}$)|(\[request id: [^]]*\] )?{_STOPPING}\Z"
)
"""How Triton says that a process of its own has ended, or does not move, or that it ends. Callers' words come later on,
and in a request's id, behind which the rest must be just that."""


class RefusedError(Exception):
    """A request is not let in now; another time it may be."""


def _do_nothing() -> None: ...


class Inference:
    """Lets requests into Triton.

    Attributes:
        hold_s: see `Settings`.
        is_there: whether Triton can be asked.
        on_broken: is called when Triton has lost one of its processes.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.hold_s = settings.hold_s
        self.is_there: Callable[[], bool] = lambda: True
        self.on_broken: Callable[[], None] = _do_nothing
        self._progress = progress
        self._admission = Admission(settings.bytes_at_once)
        self._returning = asyncio.Semaphore(RETURNING)
        self._under_way = 0

    def triton_started(self) -> None:
        """Triton was started again."""
        self._progress.start_anew()

    def stopping(self) -> None:
        """Triton is not started again any more; nobody need wait for it."""
        self.hold_s = 0.0

    @asynccontextmanager
    async def of(self, size: int, left_s: float | None) -> AsyncIterator[None]:
        """Waits until a request may go to Triton, which it does in the context.

        Args:
            size: how many bytes it has.
            left_s: in how many seconds its deadline is; None for none.

        Raises:
            RefusedError: too much is under way, or Triton is not there in time.
            TooLargeError: Triton's machine has no memory for so large a request.
        """
        if self._under_way + size > WAITING_BYTES:
            raise RefusedError(f"requests of {self._under_way >> 20} MiB are under way: send fewer at a time")
        self._under_way += size
        try:
            has_waited = await self._wait_for_triton(left_s)
            async with self._returning if has_waited else nullcontext(), self._admission.of(size):
                with self._progress.request():
                    yield
        finally:
            self._under_way -= size

    def succeeded(self) -> None:
        """Triton answered one."""
        self._progress.answered()

    def failed(self, reason: str) -> bool:
        """Triton failed one by its own fault; returns whether it lost a process or ends, and is to be started again."""
        if not _GONE.match(reason):
            self._progress.failed()
            return False
        if not self._progress.broken:
            self._progress.broken = reason
            self.on_broken()
        return True

    async def _wait_for_triton(self, left_s: float | None) -> bool:
        """Waits for a Triton that is being started again, so that its clients need not know; says whether it had to."""
        if self._is_whole():
            return False
        hold_s = self.hold_s or GONE_WITHIN_S
        try:
            async with asyncio.timeout(hold_s if left_s is None else min(hold_s, left_s)):
                while not self._is_whole():
                    await asyncio.sleep(_LOOKS_EVERY_S)  # Triton does not say when it is there.
        except TimeoutError:
            raise RefusedError("Triton is being started again, and is not there yet") from None
        return True

    def _is_whole(self) -> bool:
        # What is broken is waited for only where it is replaced: another instance may answer meanwhile.
        return self.is_there() and not (self.hold_s and self._progress.broken)
