"""One start of Triton: its process, its log, and what it leaves behind."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from gliogate.embedded import guard
from gliogate.embedded.log import Log
from gliogate.embedded.proxy.http_proxy import UnixConnection
from gliogate.embedded.stubs import has_died, stubs_of
from gliogate.errors import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event

    from gliogate.embedded.installation import Installation

_POLL_S: Final = 0.02
_PROBE_TIMEOUT_S: Final = 1.0
_LAST_MOMENT_S: Final = 1.0
_REAPED_WITHIN_S: Final = 2.0
"""How long a process that has ended may wait for Triton to take notice."""
_LAST_ANSWERS_S: Final = 0.1
"""From when Triton has answered its last request to when the answer is on its way."""
_LOOKS_FOR_MODELS_S: Final = 5.0
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  where Linux keeps POSIX shared memory
_KILLED: Final = 128
"""What a shell, and the guard, add to the number of the signal that ended a process."""


class StarvedError(EmbeddedServerError):
    """Triton gave up waiting for one of its own processes, as it does on a machine that has far too much to do."""


class Sockets(NamedTuple):
    """The paths of the Unix sockets that Triton listens on."""

    grpc: str
    http: str
    metrics: str

    @classmethod
    def within(cls, folder: Path) -> Sockets:
        """Those of a server whose folder this is."""
        # gRPC takes no address without a port, and makes it a part of the name.
        return cls(f"{folder}/grpc:1", f"{folder}/http", f"{folder}/metrics")


class Triton:
    """A Triton that was started, and is not to be started again: another one is."""

    def __init__(
        self,
        installation: Installation,
        model_repository: Path,
        model_config_name: str,
        folder: Path,
        stop_timeout_s: float,
        arguments: Sequence[str] = (),
        *,
        verbose: bool,
    ) -> None:
        """Starts it; `wait_until_ready` waits for its models.

        Args:
            installation: where its parts are.
            model_repository: what it serves.
            model_config_name: see `EmbeddedServer`.
            folder: an empty one with a harmless path, whose name becomes the server's; it is there still at the end.
            stop_timeout_s: see `EmbeddedServer`.
            arguments: further ones of `tritonserver`.
            verbose: see `EmbeddedServer`.
        """
        self._stop_timeout_s = stop_timeout_s
        self._id = folder.name
        self._sockets = Sockets.within(folder)
        self._folder = folder / "triton"
        try:
            for socket in self._sockets:
                Path(socket).unlink(missing_ok=True)  # Of one before, that was killed.
            self._folder.mkdir()
            installation.assemble(self._folder)
            models = self._folder / "models"
            models.symlink_to(model_repository)
            command = [
                str(installation.executable),
                f"--id={self._id}",
                f"--model-repository={models}",
                *([f"--model-config-name={model_config_name}"] if model_config_name else []),
                f"--backend-directory={self._folder / 'backends'}",
                f"--backend-config=python,shm-region-prefix-name={self._id}",
                f"--grpc-address=unix:{self._sockets.grpc.removesuffix(':1')}",
                "--grpc-port=1",
                f"--http-address=unix:{self._sockets.http}",
                f"--metrics-address=unix:{self._sockets.metrics}",
                f"--exit-timeout-secs={max(1, round(stop_timeout_s))}",
                # Asking for a GPU that is not there costs two seconds.
                "--allow-gpu-metrics=false",
                # The configurations are complete; completing them would start every model twice.
                "--disable-auto-complete-config",
                *arguments,
            ]
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", guard.__file__),
                    *(str(os.getpid()), str(stop_timeout_s), str(self._folder), self._id),
                    *command,
                ],
                env=installation.environment(self._folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal is for this process, which then stops the server.
                start_new_session=True,
            )
        except BaseException:
            guard.remove_traces(self._folder, self._id)
            raise
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        self._log = Log(self._process.stdout, echo=verbose, aliases={str(models): str(model_repository)})

    def wait_until_ready(self, timeout_s: float, stopping: Event) -> None:
        """Waits until every model is ready.

        Args:
            timeout_s: how long.
            stopping: is set where nobody waits any more.

        Raises:
            StarvedError: it gave up; another start may go better.
            EmbeddedServerError: it ended, or took too long; the message holds its own reason.
        """
        deadline = time.monotonic() + timeout_s
        while not self._is_ready():
            # A Triton that cannot load a model unloads the others, which takes seconds that nobody needs to wait for.
            if self._log.unloading.is_set() or self._process.poll() is not None:
                self.kill()
                kind = StarvedError if self._log.names_lost_lock() else EmbeddedServerError
                raise kind(f"the embedded Triton did not start: {self._log.reason()}")
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"the embedded Triton was not ready after {timeout_s:g} s; the end of its log:\n{self._log.tail()}"
                )
            if stopping.wait(_POLL_S):
                raise EmbeddedServerError("the embedded Triton was stopped while it started")
        self._find_models()

    def check(self) -> None:
        """Does nothing while it runs.

        Raises:
            EmbeddedServerError: it died, or a process of it that runs a model did; the message says how, and where the
                log is.
        """
        died = self._died()
        if not died and time.monotonic() >= self._looked_at + _LOOKS_FOR_MODELS_S:
            self._find_models()
        # They die with Triton, too, and are gone a moment before it is; so are those of a model that it unloads.
        deadline = time.monotonic() + _REAPED_WITHIN_S
        while died and self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            died = self._died()
        if (code := self._process.poll()) is not None:
            self._log.wait_for_end()
            raise EmbeddedServerError(
                f"the embedded Triton {_how_it_ended(code)}: {self._log.reason()}; {self._log.keep()}"
            )
        if died:
            raise EmbeddedServerError(f"the embedded Triton lost the process of {', '.join(died)}; {self._log.keep()}")

    def keep_log(self) -> str:
        """Keeps the log as it is, and says where."""
        return self._log.keep()

    def stop(self) -> None:
        """Stops it, and waits until all its processes are gone."""
        self._process.terminate()
        # Unloading a model takes Triton seconds, for nothing: a second signal has the guard kill what is left.
        deadline = time.monotonic() + self._stop_timeout_s
        while self._process.poll() is None and time.monotonic() < deadline and not self._log.unloading.wait(_POLL_S):
            pass
        time.sleep(_LAST_ANSWERS_S)
        self.kill()

    def kill(self) -> None:
        """Ends it at once, and waits until all its processes are gone."""
        # The first signal has the guard ask, if it has not yet, and a second one end; two at once are one.
        deadline = time.monotonic() + self._stop_timeout_s
        while self._process.poll() is None and time.monotonic() < deadline:
            self._process.terminate()
            time.sleep(_POLL_S)
        try:
            self._process.wait(_LAST_MOMENT_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        # A guard that was killed left what its server had started.
        for process in stubs_of(self._id):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._log.close()
        # Again, should the guard have been killed.
        guard.remove_traces(self._folder, self._id)

    def _died(self) -> list[str]:
        """The instances whose process has died."""
        return sorted(instance for process, instance in self._stubs.items() if has_died(process))

    def _find_models(self) -> None:
        """Looks which models run; Triton may have been told to load others."""
        self._looked_at = time.monotonic()
        self._stubs = stubs_of(self._id)
        for region in _SHARED_MEMORY.glob(f"{self._id}*"):
            # Everybody could read the slices in them.
            with contextlib.suppress(OSError):
                region.chmod(0o600)

    def _is_ready(self) -> bool:
        # Metrics are the last that Triton starts.
        return self._answers(self._sockets.http, "/v2/health/ready") and self._answers(
            self._sockets.metrics, "/metrics"
        )

    def _answers(self, socket: str, path: str) -> bool:
        connection = UnixConnection(socket, _PROBE_TIMEOUT_S)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status == HTTPStatus.OK
        return False


def _how_it_ended(code: int) -> str:
    if code > _KILLED:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(code - _KILLED).name}"
    return f"died, exit code {code}"
