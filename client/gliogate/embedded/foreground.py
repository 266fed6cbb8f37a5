"""`gliogate serve`: the embedded server in the foreground, until a signal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from gliogate.embedded.server import EmbeddedServer
from gliogate.errors import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLL_S: Final = 0.2
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


def find_model_repository(path: Path | None = None) -> Path:
    """Returns the model repository to serve.

    Args:
        path: the one to take; None takes `model_repository` in the current folder, or else the one of the checkout that
            gliogate is installed from.

    Raises:
        EmbeddedServerError: there is none; names the folders that were tried.
    """
    checkout = Path(__file__).resolve().parents[3]
    candidates = [path] if path is not None else [Path.cwd() / "model_repository", checkout / "model_repository"]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    tried = " and ".join(str(candidate) for candidate in candidates)
    raise EmbeddedServerError(f"no model repository: {tried} is not a folder; give one with --model-repository")


def serve(
    *,
    model_repository: Path | None = None,
    host: str = "127.0.0.1",
    grpc_port: int | None = None,
    http_port: int | None = None,
    metrics_port: int | None = None,
    model_config_name: str = "",
) -> int:
    """Serves until SIGTERM or SIGINT, or until the process that started this one is gone.

    Prints one line with the addresses when every model is ready. Must be called in the main thread.

    Args:
        model_repository: see `find_model_repository`.
        host: the address to listen on.
        grpc_port: None picks a free one; so do the next two.
        http_port: see `EmbeddedServer`.
        metrics_port: see `EmbeddedServer`.
        model_config_name: see `EmbeddedServer`.

    Returns:
        The exit code: 0 when it was stopped, 1 with one line on stderr when the server did not start, or died.
    """
    parent = os.getppid()
    try:
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
    except EmbeddedServerError as error:
        print(f"gliogate: {error}", file=sys.stderr)
        return 1
    return 0


class _StopRequested(BaseException):
    """A signal said stop; like KeyboardInterrupt no `Exception`, so that nothing but `serve` catches it."""


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Leaves the block, and says nothing, at the first stopping signal; further ones do not disturb the leaving."""

    def stop(*_: object) -> NoReturn:
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)
        raise _StopRequested

    previous = {number: signal.signal(number, stop) for number in _STOPPING}
    try:
        yield
    except _StopRequested:
        pass
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
