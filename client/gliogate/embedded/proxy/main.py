"""The process: reads its settings, listens, obeys its owner, and ends when the owner is gone."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final

from .grpc_proxy import GrpcProxy
from .http_proxy import HttpProxy
from .inference import Inference
from .progress import TICK_S, Progress
from .settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

TRIMS_EVERY_S: Final = 30.0
TRITON_STARTED: Final = "started"
STOPPING: Final = "stopping"


def main() -> None:
    """Runs until standard input ends, or the owner does.

    The first line of standard input has the settings; further ones are `TRITON_STARTED` with a number, and `STOPPING`.
    On standard output go the ports, or what went wrong, and then how requests fare, each a JSON object in a line, with
    the last of those numbers.
    """
    # Ctrl-C in a terminal is for the owner, which then closes our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # An owner that is suspended reads nothing; that must not keep requests waiting.
    os.set_blocking(sys.stdout.fileno(), False)
    settings = Settings.read(sys.stdin.readline())
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    owner, loop = os.getppid(), asyncio.get_running_loop()
    progress = Progress()
    inference = Inference(settings, progress)
    proxy = GrpcProxy(settings, inference, progress)
    try:
        with _naming(settings.grpc_port):
            _check_free(settings.address, settings.grpc_port)
            grpc_port = proxy.bind()
        with _naming(settings.http_port):
            pages = [HttpProxy(settings, inference, progress, loop, is_for_metrics=False)]
        with _naming(settings.metrics_port):
            pages.append(HttpProxy(settings, inference, progress, loop, is_for_metrics=True))
    except ListeningError as error:
        _tell({"error": str(error)})
        return
    for page in pages:
        Thread(target=page.serve_forever, kwargs={"poll_interval": 60}, daemon=True).start()
    _tell({"ports": [grpc_port, *(page.server_port for page in pages)]})

    ended = asyncio.Event()
    starts = "0"
    tasks: set[asyncio.Task[None]] = set()

    async def serve() -> None:
        await proxy.start()
        # Where nobody starts Triton again, a port that answers would only draw requests from others that do.
        if not settings.hold_s:
            await proxy.wait_until_triton_is_gone()
            ended.set()

    def tell_progress() -> None:
        seconds = {"stalled_s": progress.stalled_s, "failing_s": progress.failing_s}
        _tell(seconds | {"broken": progress.broken, "starts": starts})

    def obey(line: str) -> None:
        nonlocal starts
        what, _, number = line.partition(" ")
        if what == TRITON_STARTED:
            starts = number
            inference.triton_started()
            if not tasks:
                tasks.add(asyncio.create_task(serve()))
        elif what == STOPPING:
            inference.stopping()
            proxy.drain()

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(obey, line.strip())
        loop.call_soon_threadsafe(ended.set)

    inference.on_broken = tell_progress
    Thread(target=listen, daemon=True).start()
    probe_message, probing = Path(settings.probe).read_bytes(), None
    trimmed = loop.time()
    while not ended.is_set() and os.getppid() == owner:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_S):
                await ended.wait()
        progress.tick()
        tell_progress()
        # In doubt, and if nobody asks any more, the proxy does: so the doubt ends, one way or the other.
        if progress.is_in_doubt and (probing is None or probing.done()):
            probing = asyncio.create_task(proxy.probe(probe_message))
        if loop.time() - trimmed > TRIMS_EVERY_S:
            _trim_memory()
            trimmed = loop.time()
    # At once: who is connected still finds the connection broken, as when a server dies, and asks elsewhere or again.
    os._exit(0)


def _trim_memory() -> None:
    """Gives back what a burst of requests took; the allocator would keep hundreds of MiB until the next one."""
    gc.collect()  # Requests that failed hang in their errors' frames.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # Of glibc alone.
    if trim is not None:
        trim(0)


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
    # As short a line as this goes into a pipe in one piece, or not at all.
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        os.write(sys.stdout.fileno(), f"{json.dumps(message)}\n".encode())
