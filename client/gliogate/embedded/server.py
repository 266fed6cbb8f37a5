"""`EmbeddedServer`: starts Triton on a model repository, waits until every model is ready, stops it."""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from gliogate.embedded import guard
from gliogate.embedded.installation import Installation
from gliogate.embedded.log import Log
from gliogate.embedded.repository import check_repository
from gliogate.embedded.stubs import has_died, stubs_of
from gliogate.errors import EmbeddedServerError

if TYPE_CHECKING:
    from types import TracebackType

_POLL_S: Final = 0.02
_PROBE_TIMEOUT_S: Final = 1.0
_ATTEMPTS: Final = 5
_LAST_MOMENT_S: Final = 1.0
_LAST_ANSWERS_S: Final = 0.1
"""From when Triton has answered its last request to when the answer is on its way."""


class _Ports(NamedTuple):
    grpc: int
    http: int
    metrics: int


class _PortTakenError(EmbeddedServerError):
    """A port was free when it was chosen and taken when Triton wanted it."""


class _StarvedError(EmbeddedServerError):
    """Triton gave up waiting for one of its own processes, as it does on a machine that has far too much to do."""


class EmbeddedServer:
    """A Triton that serves a model repository from this machine, for as long as this process lives.

    A context manager; `start` and `stop` do the same by hand, and do nothing the second time. However this process
    ends, killed included, the server ends with it.
    """

    def __init__(
        self,
        model_repository: Path | str,
        *,
        host: str = "127.0.0.1",
        grpc_port: int | None = None,
        http_port: int | None = None,
        metrics_port: int | None = None,
        model_config_name: str = "",
        start_timeout_s: float = 60.0,
        stop_timeout_s: float = 10.0,
        verbose: bool = False,
    ) -> None:
        """Describes a server; nothing is started yet.

        Args:
            model_repository: the folder with gliogate's models.
            host: the address to listen on, an IPv4 address or a name that has one; `0.0.0.0` is every one.
            grpc_port: None picks a free one; so do the next two.
            http_port: for KServe's HTTP protocol, and for health checks.
            metrics_port: for Prometheus.
            model_config_name: serve `configs/NAME.pbtxt` of each model that has it, and `config.pbtxt` of the others,
                of all where the name is empty. Those of a checkout have `fp32`: the networks in 32 bits, in place of 8.
            start_timeout_s: how long the models may take to load.
            stop_timeout_s: how long requests in flight may take to end before the server is killed.
            verbose: show Triton's log on stderr.
        """
        self._model_repository = Path(model_repository).absolute()
        self._host = host
        self._wanted_ports = (grpc_port, http_port, metrics_port)
        self._config_name = model_config_name
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._verbose = verbose
        self._run: _Run | None = None

    @property
    def url(self) -> str:
        """The gRPC address, HOST:PORT, as `gliogate.Client` takes it."""
        run = self._started()
        return f"{run.client_address}:{run.ports.grpc}"

    @property
    def http_url(self) -> str:
        """Where KServe's HTTP protocol is spoken, http://HOST:PORT."""
        run = self._started()
        return f"http://{run.client_address}:{run.ports.http}"

    @property
    def metrics_url(self) -> str:
        """The page with metrics for Prometheus, http://HOST:PORT/metrics."""
        run = self._started()
        return f"http://{run.client_address}:{run.ports.metrics}/metrics"

    def start(self) -> None:
        """Starts the server and returns when every model is ready, in two or three seconds.

        Raises:
            EmbeddedServerError: it did not start; the message holds Triton's own reason.
        """
        if self._run is not None:
            return
        installation = Installation.find()
        check_repository(self._model_repository, self._config_name)
        address = _resolve(self._host)
        for attempt in range(1, _ATTEMPTS + 1):
            ports = choose_ports(address, self._wanted_ports)
            run = _Run(
                installation,
                self._model_repository,
                self._config_name,
                address,
                ports,
                self._stop_timeout_s,
                verbose=self._verbose,
            )
            try:
                run.wait_until_ready(self._start_timeout_s)
            except (_PortTakenError, _StarvedError) as error:
                run.stop()
                # Another process was faster; on a port that the caller insists on there is no other to try.
                is_final = isinstance(error, _PortTakenError) and all(self._wanted_ports)
                if is_final or attempt == _ATTEMPTS:
                    raise
            except BaseException:
                run.stop()
                raise
            else:
                self._run = run
                return

    def stop(self) -> None:
        """Stops the server and waits until all its processes are gone."""
        if self._run is not None:
            run, self._run = self._run, None
            run.stop()

    def check(self) -> None:
        """Does nothing while the server runs.

        Raises:
            EmbeddedServerError: it was never started, or it died, or a process of it that runs a model did; the message
                holds the end of its log, or names the model.
        """
        self._started().check()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _started(self) -> _Run:
        if self._run is None:
            raise EmbeddedServerError("the embedded Triton is not running: call start(), or use it in a `with` block")
        return self._run


class _Run:
    """One start of Triton: its process, its log, and what it leaves behind."""

    def __init__(
        self,
        installation: Installation,
        model_repository: Path,
        model_config_name: str,
        address: str,
        ports: _Ports,
        stop_timeout_s: float,
        *,
        verbose: bool,
    ) -> None:
        self.address = address
        self.ports = ports
        self._stop_timeout_s = stop_timeout_s
        self._id = f"gliogate-{secrets.token_hex(6)}"
        self._folder = Path(tempfile.mkdtemp(prefix=f"{self._id}-"))
        try:
            installation.assemble(self._folder)
            command = [
                str(installation.executable),
                f"--id={self._id}",
                f"--model-repository={model_repository}",
                *([f"--model-config-name={model_config_name}"] if model_config_name else []),
                f"--backend-directory={self._folder / 'backends'}",
                f"--backend-config=python,shm-region-prefix-name={self._id}",
                f"--grpc-address={address}",
                f"--http-address={address}",
                f"--metrics-address={address}",
                f"--grpc-port={ports.grpc}",
                f"--http-port={ports.http}",
                f"--metrics-port={ports.metrics}",
                f"--exit-timeout-secs={max(1, round(stop_timeout_s))}",
                # Asking for a GPU that is not there costs two seconds.
                "--allow-gpu-metrics=false",
                # The configurations are complete; completing them would start every model twice.
                "--disable-auto-complete-config",
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
        self._log = Log(self._process.stdout, echo=verbose)

    @property
    def client_address(self) -> str:
        """The address that a client on this machine connects to."""
        return "127.0.0.1" if self.address == "0.0.0.0" else self.address  # noqa: S104  no binding here

    def wait_until_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self._is_ready():
            # A Triton that cannot load a model unloads the others, which takes seconds that nobody needs to wait for.
            if self._log.unloading.is_set() or self._process.poll() is not None:
                self.stop()
                raise self._error()(f"the embedded Triton did not start: {self._log.reason()}")
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"the embedded Triton was not ready after {timeout_s:g} s; the end of its log:\n{self._log.tail()}"
                )
            time.sleep(_POLL_S)
        self._stubs = stubs_of(self._id)

    def _error(self) -> type[EmbeddedServerError]:
        if self._log.names_taken_port():
            return _PortTakenError
        return _StarvedError if self._log.names_lost_lock() else EmbeddedServerError

    def check(self) -> None:
        died = sorted(instance for process, instance in self._stubs.items() if has_died(process))
        if died:
            # They die with Triton, too, and are gone a moment before it is.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_MOMENT_S)
        if (code := self._process.poll()) is not None:
            self._log.wait_for_end()
            raise EmbeddedServerError(f"the embedded Triton died, exit code {code}: {self._log.reason()}")
        if died:
            raise EmbeddedServerError(f"the embedded Triton lost the process of {', '.join(died)}; start it again")

    def stop(self) -> None:
        self._process.terminate()
        # Unloading a model takes Triton seconds, for nothing: a second signal has the guard kill what is left.
        deadline = time.monotonic() + self._stop_timeout_s
        while self._process.poll() is None and time.monotonic() < deadline and not self._log.unloading.wait(_POLL_S):
            pass
        time.sleep(_LAST_ANSWERS_S)
        self._process.terminate()
        try:
            # The guard kills a server that takes too long; it needs little time itself.
            self._process.wait(self._stop_timeout_s + 5)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        self._log.close()
        # Again, should the guard have been killed.
        guard.remove_traces(self._folder, self._id)

    def _is_ready(self) -> bool:
        # The id tells this Triton from another one that has its port. Metrics are the last that Triton starts.
        return (
            f'"name":"{self._id}"' in self._get(self.ports.http, "/v2")
            and bool(self._get(self.ports.http, "/v2/models/stats"))
            and bool(self._get(self.ports.metrics, "/metrics"))
        )

    def _get(self, port: int, path: str) -> str:
        """Returns the body, or nothing where there is no good answer."""
        connection = http.client.HTTPConnection(self.client_address, port, timeout=_PROBE_TIMEOUT_S)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            response = connection.getresponse()
            if response.status == http.HTTPStatus.OK:
                return response.read().decode(errors="replace")
        return ""


def _resolve(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise EmbeddedServerError(f"cannot listen on {host!r}, which is no IPv4 address and no name of one") from error


def choose_ports(address: str, wanted: tuple[int | None, ...]) -> _Ports:
    """Returns the wanted ports, and free ones for those that are None; all were free a moment ago."""
    with contextlib.ExitStack() as stack:
        chosen = []
        for port in wanted:
            listener = stack.enter_context(socket.socket())
            # As Triton does: a port whose last connections are still being wound up is free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((address, port or 0))
                listener.listen()
            except (OSError, OverflowError) as error:
                raise EmbeddedServerError(f"cannot listen on {address}, port {port}: {error}") from error
            chosen.append(listener.getsockname()[1])
    return _Ports(*chosen)
