"""`gliogate serve`: the embedded server in the foreground, until a signal."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Final, NoReturn

from gliogate.embedded.repository import find_model_repository
from gliogate.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POLL_S: Final = 0.2


def serve(
    *,
    model_repository: Path | None = None,
    host: str = "127.0.0.1",
    grpc_port: int | None = None,
    http_port: int | None = None,
    metrics_port: int | None = None,
    model_config_name: str = "",
) -> None:
    """Serves until SIGTERM or SIGINT, or until the process that started this one is gone.

    Prints one line with the addresses when every model is ready. Must be called in the main thread.

    Args:
        model_repository: see `find_model_repository`.
        host: the address to listen on.
        grpc_port: None picks a free one; so do the next two.
        http_port: see `EmbeddedServer`.
        metrics_port: see `EmbeddedServer`.
        model_config_name: see `EmbeddedServer`.

    Raises:
        EmbeddedServerError: the server did not start, or died.
        KeyboardInterrupt: at SIGINT, as by Ctrl-C, when the server has ended.
    """
    parent = os.getppid()
    with (
        _stopped_by_signals(),
        EmbeddedServer(
            find_model_repository(model_repository),
            host=host,
            grpc_port=grpc_port,
            http_port=http_port,
            metrics_port=metrics_port,
            model_config_name=model_config_name,
        ) as server,
    ):
        addresses = f"gRPC {server.url}, HTTP {server.http_url}, metrics {server.metrics_url}"
        print(f"gliogate is ready: {addresses}", flush=True)
        while os.getppid() == parent:
            time.sleep(_POLL_S)
            server.check()


class _StopRequested(BaseException):
    """SIGTERM said stop; like KeyboardInterrupt no `Exception`, so that nothing but `serve` catches it."""


_STOPPING: Final[dict[signal.Signals, type[BaseException]]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: _StopRequested,
}


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Leaves the block at the first stopping signal; further ones do not disturb the leaving."""

    def stop(number: int, _: object) -> NoReturn:
        for each in _STOPPING:
            signal.signal(each, signal.SIG_IGN)
        raise _STOPPING[signal.Signals(number)]

    previous = {number: signal.signal(number, stop) for number in _STOPPING}
    try:
        yield
    except _StopRequested:
        pass
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
