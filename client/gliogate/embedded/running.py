"""A server that was started: a proxy, a Triton behind it, and whoever looks after both."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import replace
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from gliogate.embedded.proxy.main import STOPPING, TRITON_STARTED
from gliogate.embedded.proxy_process import Proxy
from gliogate.embedded.restarts import LIMIT, WINDOW_S, Restarts
from gliogate.embedded.triton import Sockets, StarvedError, Triton
from gliogate.errors import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gliogate.embedded.proxy.settings import Settings

_ATTEMPTS: Final = 5
_LOOKS_EVERY_S: Final = 0.1
HANGS_AFTER_S: Final = 30.0
"""Of requests that wait and none is answered, or that fail inside and none succeeds."""


class _ProxyError(EmbeddedServerError):
    """The proxy has died, and Triton has not."""


class Running:
    """A server that was started.

    Attributes:
        proxy: what listens.
        address: the numeric address that it listens on.
        sockets: what Triton listens on.
        client_host: the address that a client on this machine connects to.
        scheme: http or https.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        launch: Callable[[], Triton],
        *,
        start_timeout_s: float,
        restart: bool,
        on_event: Callable[[str], None],
    ) -> None:
        """Starts it, and returns when every model is ready.

        Args:
            settings: the proxy's.
            folder: the server's own; removed at the end.
            launch: starts a Triton.
            start_timeout_s: see `EmbeddedServer`; so are the next two.
            restart: see there.
            on_event: see there.

        Raises:
            EmbeddedServerError: it did not start.
        """
        self.address: str = settings.address
        host = settings.host
        # No address to bind to, here, but to connect to.
        self.client_host: str = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
        self.scheme: str = "https" if settings.certificate else "http"
        self.sockets: Sockets = Sockets.within(folder)
        self._folder = folder
        self._launch = launch
        self._start_timeout_s = start_timeout_s
        self._on_event = on_event
        self._stopping = Event()
        self._error: EmbeddedServerError | None = None
        self._keeper: Thread | None = None
        with contextlib.ExitStack() as undoing:
            undoing.callback(shutil.rmtree, folder, ignore_errors=True)
            self.proxy = Proxy(settings)
            undoing.callback(self.proxy.stop)
            self._triton = self._start_triton()
            undoing.pop_all()
        ports = self.proxy.ports
        self._settings = replace(settings, grpc_port=ports.grpc, http_port=ports.http, metrics_port=ports.metrics)
        if restart:
            self._keeper = Thread(target=self._keep, name="triton-keeper", daemon=True)
            self._keeper.start()

    def check(self) -> None:
        """See `EmbeddedServer.check`."""
        if self._keeper is None:
            self._inspect()
        elif self._error is not None:
            raise self._error

    def stop(self) -> None:
        """See `EmbeddedServer.stop`."""
        self._stopping.set()
        if self._keeper:
            self._keeper.join()
        self.proxy.tell(STOPPING)
        self._triton.stop()
        self.proxy.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_triton(self) -> Triton:
        for attempt in range(1, _ATTEMPTS + 1):
            triton = self._launch()
            try:
                _ = self.proxy.ports  # A port that is taken is known before the models are loaded.
                triton.wait_until_ready(self._start_timeout_s, self._stopping)
            except BaseException as error:
                triton.kill()
                if not isinstance(error, StarvedError) or attempt == _ATTEMPTS:
                    raise
            else:
                return triton
        raise AssertionError

    def _inspect(self) -> None:
        """Does nothing while all is well, and raises an error otherwise."""
        if not self.proxy.is_alive:
            raise _ProxyError("the proxy before the embedded Triton has died")
        self._triton.check()
        if self.proxy.broken:
            raise EmbeddedServerError(f"the embedded Triton is broken: {self.proxy.broken}; {self._triton.keep_log()}")
        if self.proxy.stalled_s >= HANGS_AFTER_S:
            raise EmbeddedServerError(
                f"the embedded Triton hangs: requests wait, and none was answered for {HANGS_AFTER_S:g} s; "
                f"{self._triton.keep_log()}"
            )
        if self.proxy.failing_s >= HANGS_AFTER_S:
            raise EmbeddedServerError(
                f"the embedded Triton is broken: every request failed inside it for {HANGS_AFTER_S:g} s; "
                f"{self._triton.keep_log()}"
            )

    def _keep(self) -> None:
        restarts = Restarts()
        while not self._stopping.wait(_LOOKS_EVERY_S):
            try:
                self._inspect()
            except EmbeddedServerError as error:
                self._recover(error, restarts)
                if self._error is not None:
                    return

    def _recover(self, error: EmbeddedServerError, restarts: Restarts) -> None:
        """Starts again what died, until it is there, or that makes no sense any more."""
        begin = time.monotonic()
        while not self._stopping.is_set():
            delay_s = restarts.delay_s(time.monotonic())
            if delay_s is None:
                often = f"it was started again {LIMIT} times within {WINDOW_S / 60:g} minutes, and is not any more"
                self._error = EmbeddedServerError(f"{error}; {often}")
                self._triton.kill()
                return
            when = f" in {delay_s:g} s" if delay_s else ""
            self._on_event(f"{error}; it is started again{when} ({restarts.count} of {LIMIT})")
            if self._stopping.wait(delay_s):
                return
            try:
                if isinstance(error, _ProxyError):
                    self.proxy.stop()
                    self.proxy = Proxy(self._settings)
                    _ = self.proxy.ports
                else:
                    self._triton.kill()
                    self._triton = self._start_triton()
                    self.proxy.tell(TRITON_STARTED)
            except EmbeddedServerError as another:
                error = another
            else:
                self._on_event(f"ready again after {time.monotonic() - begin:.1f} s")
                return
