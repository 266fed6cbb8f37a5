"""A wire that can be cut: a TCP relay between the load and the server, in a thread."""

import asyncio
import contextlib
import socket
import struct
import threading

_AT_ONCE = 65_536
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a connection that is to end with a reset."""


class Relay:
    """Passes bytes on to a server.

    Attributes:
        url: where it listens, HOST:PORT.
        delay_s: how much later each piece is passed on.
    """

    def __init__(self, url: str) -> None:
        self.delay_s = 0.0
        self._host, _, port = url.rpartition(":")
        self._port = int(port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._swallowed: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), daemon=True).start()
        started.wait()

    def cut(self) -> None:
        """Ends all connections there are with a reset, on both sides."""
        self._loop.call_soon_threadsafe(self._cut)

    def swallow(self) -> None:
        """Lets all connections there are stay open, and passes nothing on any more, in neither direction."""
        self._loop.call_soon_threadsafe(lambda: self._swallowed.update(self._writers))

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, to_writer}
        self._writers |= both
        try:
            await asyncio.gather(self._pass_on(reader, to_writer), self._pass_on(to_reader, writer))
        finally:
            self._writers -= both
            self._swallowed -= both
            for each in both:
                each.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_AT_ONCE):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if writer not in self._swallowed:
                    writer.write(data)
                    await writer.drain()
            writer.close()

    def _cut(self) -> None:
        for writer in self._writers:
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
