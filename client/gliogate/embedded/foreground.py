"""`gliogate serve`: the embedded server in the foreground, until a signal."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, NoReturn

from gliogate.embedded.repository import find_model_repository
from gliogate.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POLL_S: Final = 0.2


def serve(*, model_repository: Path | None = None, restart: bool = True, **options: Any) -> None:
    """Serves until SIGTERM or SIGINT; until then it goes on without the process that started it.

    Prints one line with the addresses when every model is ready, and on stderr a line each time Triton is started
    again, and what is open where it listens on more than loopback. Must be called in the main thread.

    Args:
        model_repository: see `find_model_repository`.
        restart: see `EmbeddedServer`.
        **options: further ones of `EmbeddedServer`.

    Raises:
        EmbeddedServerError: the server did not start, or died and was not started again.
        KeyboardInterrupt: at SIGINT, as by Ctrl-C, when the server has ended.
    """
    server = EmbeddedServer(find_model_repository(model_repository), restart=restart, on_event=_tell, **options)
    with _stopped_by_signals(), server:
        if warning := _what_is_open(server, options):
            _tell(warning)
        addresses = f"gRPC {server.url}, HTTP {server.http_url}, metrics {server.metrics_url}"
        print(f"gliogate is ready: {addresses}", flush=True)
        while True:
            time.sleep(_POLL_S)
            server.check()


def _tell(line: str) -> None:
    print(f"gliogate: {line}", file=sys.stderr, flush=True)


def _what_is_open(server: EmbeddedServer, options: dict[str, Any]) -> str:
    """A warning of what others than this machine's users can reach; empty where that is nothing."""
    if ip_address(server.address).is_loopback:
        return ""
    is_mutual = options.get("tls_client_authority") is not None
    gaps = [
        *(["in clear text"] if options.get("tls_certificate") is None else []),
        *(["without a token or a client's certificate"] if not (is_mutual or options.get("token")) else []),
    ]
    inference = "inference over gRPC and HTTP" if options.get("http_inference") else "inference over gRPC"
    reached = f"warning: {server.address} is not loopback: whoever reaches it is told health and metrics"
    return f"{reached}, and gets {inference} {' and '.join(gaps)}" if gaps else ""


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
