"""A server that was started: a proxy, a Triton behind it, and whoever looks after both."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import replace
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from gliogate.embedded.proxy_process import Ports, Proxy
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
"""Of requests that wait and none is answered, or that fail inside and none succeeds; of a proxy that says nothing."""


class Running:
    """A server that was started.

    Attributes:
        ports: what the proxy listens on, restarts included.
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
            # Both start at once; a port that is taken is known before the models are loaded.
            self._proxy = Proxy(settings)
            undoing.callback(self._proxy.stop)
            triton = launch()
            undoing.callback(lambda: triton.kill())
            self.ports: Ports = self._proxy.wait_until_listening()
            triton = self._triton = self._wait_for(triton)
            self._proxy.triton_started()
            self._settings = replace(
                settings, grpc_port=self.ports.grpc, http_port=self.ports.http, metrics_port=self.ports.metrics
            )
            if restart:
                self._keeper = Thread(target=self._keep, name="triton-keeper", daemon=True)
                self._keeper.start()
            undoing.pop_all()

    def check(self) -> None:
        """See `EmbeddedServer.check`."""
        if self._error is not None:
            raise self._error
        if self._keeper is None:
            self._inspect()

    def stop(self) -> None:
        """See `EmbeddedServer.stop`."""
        with contextlib.ExitStack() as ending:
            ending.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self._stopping.set()
            if self._keeper:
                self._keeper.join()
            ending.callback(self._proxy.stop)
            self._proxy.stopping()
            self._triton.stop()

    def _wait_for(self, triton: Triton) -> Triton:
        """Waits until a Triton is ready, or another one that was started in its place."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                triton.wait_until_ready(self._start_timeout_s, self._stopping)
            except BaseException as error:
                triton.kill()
                if not isinstance(error, StarvedError) or attempt == _ATTEMPTS:
                    raise
                triton = self._launch()
            else:
                break
        return triton

    def _inspect(self) -> None:
        """Does nothing while all is well, and raises an error otherwise."""
        self._triton.check()
        self._inspect_proxy()
        trouble = ""
        if self._proxy.broken:
            trouble = f"is broken: {self._proxy.broken}"
        elif self._proxy.stalled_s >= HANGS_AFTER_S:
            trouble = f"hangs: requests wait, and none was answered for {HANGS_AFTER_S:g} s"
        elif self._proxy.failing_s >= HANGS_AFTER_S:
            trouble = f"is broken: every request failed inside it for {HANGS_AFTER_S:g} s"
        if trouble:
            raise EmbeddedServerError(f"the embedded Triton {trouble}; {self._triton.keep_log()}")

    def _inspect_proxy(self) -> None:
        if not self._proxy.is_alive:
            raise EmbeddedServerError("the proxy before the embedded Triton has died")
        # Looks are counted, not seconds: while this process is stopped, nothing is heard of any other.
        self._proxy.silent_looks += 1
        if self._keeper and self._proxy.silent_looks * _LOOKS_EVERY_S > HANGS_AFTER_S:
            raise EmbeddedServerError(f"the proxy before the embedded Triton has said nothing for {HANGS_AFTER_S:g} s")

    def _keep(self) -> None:
        restarts = Restarts()
        try:
            while not self._stopping.wait(_LOOKS_EVERY_S) and self._error is None:
                try:
                    self._inspect()
                except EmbeddedServerError as error:
                    self._recover(error, restarts)
        except Exception as error:
            self._error = EmbeddedServerError(f"the embedded server is not looked after any more: {error!r}")
            raise

    def _recover(self, error: Exception, restarts: Restarts) -> None:
        """Starts again what died, until it is there, or that makes no sense any more."""
        begin = time.monotonic()
        while not self._stopping.is_set():
            delay_s = restarts.next_delay_s(time.monotonic())
            if delay_s is None:
                often = f"it was started again {LIMIT} times within {WINDOW_S / 60:g} minutes, and is not any more"
                self._error = EmbeddedServerError(f"{error}; {often}")
                self._proxy.stopping()
                self._triton.kill()
                return
            when = f" in {delay_s:g} s" if delay_s else ""
            self._say(f"{error}; it is started again{when} ({restarts.count} of {LIMIT})")
            if self._stopping.wait(delay_s):
                return
            try:
                self._replace_what_is_broken()
            except (EmbeddedServerError, OSError) as another:
                error = another
            else:
                self._say(f"ready again after {time.monotonic() - begin:.1f} s")
                return

    def _replace_what_is_broken(self) -> None:
        try:
            self._inspect_proxy()
        except EmbeddedServerError:
            self._proxy.stop()
            self._proxy = Proxy(self._settings)
            self._proxy.wait_until_listening()
            self._proxy.triton_started()
        try:
            self._inspect()
        except EmbeddedServerError:
            self._triton.kill()
            self._triton = self._wait_for(self._launch())
            self._proxy.triton_started()

    def _say(self, line: str) -> None:
        # Whoever listens may be gone; the server goes on.
        with contextlib.suppress(Exception):
            self._on_event(line)
