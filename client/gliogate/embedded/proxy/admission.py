"""How much of what is asked may be in Triton at a time."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_OVERHEAD: Final = 4096
"""What a request has besides its tensor."""


class TooLargeError(Exception):
    """A request has more bytes than there is room for."""


class Admission:
    """Lets requests in, in their order, as long as there is room for their bytes."""

    def __init__(self, room: int | None) -> None:
        """Starts empty.

        Args:
            room: how many bytes may be inside; None for any number.
        """
        self._room = math.inf if room is None else room
        self._inside = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def of(self, size: int) -> AsyncIterator[None]:
        """Waits until there is room for so many bytes, and takes it.

        Raises:
            TooLargeError: there will never be.
        """
        if size - _OVERHEAD > self._room:
            raise TooLargeError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._let_in()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._inside -= size
            elif (size, turn) in self._waiting:
                self._waiting.remove((size, turn))
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if self._inside and self._inside + size > self._room:
                return
            self._waiting.popleft()
            if not turn.done():  # Or whoever waited has gone.
                self._inside += size
                turn.set_result(None)
