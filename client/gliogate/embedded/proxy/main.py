"""The process: reads its settings, listens, obeys its owner, and ends when the owner is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from threading import Thread
from typing import TYPE_CHECKING, Final

from .grpc_proxy import GrpcProxy
from .http_proxy import HttpProxy
from .progress import TICK_S, Progress
from .settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

TRITON_STARTED: Final = "started"
STOPPING: Final = "stopping"


def main() -> None:
    """Runs until standard input ends.

    The first line of standard input has the settings; further ones are `TRITON_STARTED` and `STOPPING`. On standard
    output go the ports, or what went wrong, and then how long requests have not been answered, each a JSON object in a
    line.
    """
    # Ctrl-C in a terminal is for the owner, which then closes our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = Settings.read(sys.stdin.readline())
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(_run(settings))
    os._exit(0)  # Threads that still serve somebody must not keep it.


async def _run(settings: Settings) -> None:
    progress = Progress()
    proxy = GrpcProxy(settings, progress)

    try:
        with _naming(settings.grpc_port):
            _check_free(settings.address, settings.grpc_port)
            grpc_port = await proxy.start()
        with _naming(settings.http_port):
            pages = [HttpProxy(settings, progress, is_for_metrics=False)]
        with _naming(settings.metrics_port):
            pages.append(HttpProxy(settings, progress, is_for_metrics=True))
    except ListeningError as error:
        _tell({"error": str(error)})
        return
    for page in pages:
        Thread(target=page.serve_forever, kwargs={"poll_interval": 60}, daemon=True).start()
    _tell({"ports": [grpc_port, *(page.server_port for page in pages)]})

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell_progress() -> None:
        _tell({"stalled_s": progress.stalled_s, "failing_s": progress.failing_s, "broken": progress.broken})

    proxy.on_broken = tell_progress

    def obey(line: str) -> None:
        if line == TRITON_STARTED:
            progress.start_anew()
            proxy.is_whole.set()
        elif line == STOPPING:
            proxy.hold_s = 0.0
            proxy.is_whole.set()

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(obey, line.strip())
        loop.call_soon_threadsafe(ended.set)

    Thread(target=listen, daemon=True).start()
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_S):
                await ended.wait()
        progress.tick()
        tell_progress()
    await proxy.stop()


class ListeningError(Exception):
    """A port cannot be listened on; the message names it."""


@contextlib.contextmanager
def _naming(port: int) -> Iterator[None]:
    try:
        yield
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise ListeningError(f"port {port}: {error}") from error


def _check_free(address: str, port: int) -> None:
    """Raises an OSError that says what is wrong with an address; gRPC would say it on standard error."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        # As gRPC does: a port whose last connections are still being wound up is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))
        probe.listen()


def _tell(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)
