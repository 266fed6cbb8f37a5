"""`EmbeddedServer`: starts Triton on a model repository behind a proxy, keeps it running if asked, stops it."""

from __future__ import annotations

import math
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tritonclient.grpc import service_pb2

from gliogate.contract import ENSEMBLE, IMAGE, TUMOR_PROBABILITY
from gliogate.embedded.folders import make_folder
from gliogate.embedded.installation import Installation
from gliogate.embedded.proxy.settings import Settings
from gliogate.embedded.repository import check_repository
from gliogate.embedded.running import Running
from gliogate.embedded.shared_memory import room_for_requests, warning
from gliogate.embedded.triton import Sockets, Triton
from gliogate.errors import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType


PROBE_ID: Final = "gliogate-probe"
"""What requests that nobody asked are called; the gate counts them by themselves."""


class EmbeddedServer:
    """A Triton that serves a model repository from this machine, for as long as this process lives.

    A context manager; `start` and `stop` do the same by hand, and do nothing the second time. However this process
    ends, killed included, the server ends with it.

    Triton itself can be reached by this user only; what listens on ports is a proxy before it, which lets through
    inference over gRPC, health, descriptions and metrics, each request bounded in size.
    """

    def __init__(
        self,
        model_repository: Path | str,
        *,
        host: str = "127.0.0.1",
        grpc_port: int | None = None,
        http_port: int | None = None,
        metrics_port: int | None = None,
        http_inference: bool = False,
        tls_certificate: Path | str | None = None,
        tls_private_key: Path | str | None = None,
        tls_client_authority: Path | str | None = None,
        token: str | None = None,
        restart: bool = False,
        on_event: Callable[[str], None] | None = None,
        model_config_name: str = "",
        start_timeout_s: float = 60.0,
        stop_timeout_s: float = 10.0,
        triton_arguments: Sequence[str] = (),
        verbose: bool = False,
    ) -> None:
        """Describes a server; nothing is started yet.

        Args:
            model_repository: the folder with gliogate's models.
            host: the address to listen on, or a name that has one; `0.0.0.0` and `::` are every one.
            grpc_port: None picks a free one; so do the next two.
            http_port: for health, and for inference if `http_inference`.
            metrics_port: for Prometheus.
            http_inference: answer inference by KServe's HTTP protocol, too.
            tls_certificate: a PEM file with the server's certificate, and those between it and its authority; the
                server speaks in clear text where it is None.
            tls_private_key: the PEM file of the certificate's key.
            tls_client_authority: a PEM file of the authorities that clients' certificates have to come from (mutual
                TLS); clients need none where it is None.
            token: what requests have to carry, see `gliogate.connection.ConnectionOptions`; it takes TLS. Health is
                told without.
            restart: start Triton again when it dies, or hangs: within requests' deadlines their clients do not notice.
                At most five times in ten minutes.
            on_event: is called with a line when that happens, in a thread, and with what there is to know at the start.
            model_config_name: serve `configs/NAME.pbtxt` of each model that has it, and `config.pbtxt` of the others,
                of all where the name is empty. Those of a checkout have `fp32`: the networks in 32 bits, in place of 8.
            start_timeout_s: how long the models may take to load.
            stop_timeout_s: how long requests in flight may take to end before the server is killed.
            triton_arguments: further ones of `tritonserver`, for its traces or how it loads models.
            verbose: show Triton's log on stderr.

        Raises:
            ValueError: TLS or the token cannot be used so.
        """
        self._model_repository = Path(model_repository).absolute()
        self._host = host
        self._ports = (grpc_port or 0, http_port or 0, metrics_port or 0)
        self._http_inference = http_inference
        self._tls = _read_tls(tls_certificate, tls_private_key, tls_client_authority)
        if token and not tls_certificate:
            raise ValueError("a token goes over TLS only: give a certificate too")
        if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
            raise ValueError("the token cannot be used: expected printable ASCII without spaces, at least a character")
        self._token = token or ""
        self._restart = restart
        self._on_event = on_event or _say_nothing
        self._config_name = model_config_name
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._triton_arguments = tuple(triton_arguments)
        self._verbose = verbose
        self._running: Running | None = None

    @property
    def url(self) -> str:
        """The gRPC address, HOST:PORT, as `gliogate.Client` takes it."""
        running = self._started()
        return f"{running.client_host}:{running.ports.grpc}"

    @property
    def http_url(self) -> str:
        """Where health is told, and KServe's HTTP protocol is spoken: http://HOST:PORT, or https."""
        running = self._started()
        return f"{running.scheme}://{running.client_host}:{running.ports.http}"

    @property
    def metrics_url(self) -> str:
        """The page with metrics for Prometheus, http://HOST:PORT/metrics, or https."""
        running = self._started()
        return f"{running.scheme}://{running.client_host}:{running.ports.metrics}/metrics"

    @property
    def triton_url(self) -> str:
        """Where this user, and nobody else, reaches Triton itself by gRPC, its administration included: unix:PATH."""
        return f"unix:{self._started().sockets.grpc}"

    @property
    def address(self) -> str:
        """The numeric address that it listens on."""
        return self._started().address

    def start(self) -> None:
        """Starts the server and returns when every model is ready, in two or three seconds.

        Raises:
            EmbeddedServerError: it did not start; the message holds Triton's own reason.
        """
        if self._running is not None:
            return
        installation = Installation.find()
        check_repository(self._model_repository, self._config_name)
        address = _resolve(self._host)
        room = room_for_requests()
        if room is not None:
            self._on_event(warning(room))
        folder = make_folder("gliogate-")
        sockets = Sockets.within(folder)
        settings = Settings(
            address=address,
            grpc_port=self._ports[0],
            http_port=self._ports[1],
            metrics_port=self._ports[2],
            grpc_socket=sockets.grpc,
            http_socket=sockets.http,
            metrics_socket=sockets.metrics,
            probe=str(_write_probe(folder)),
            http_inference=self._http_inference,
            token=self._token,
            bytes_at_once=room,
            hold_s=self._start_timeout_s if self._restart else 0.0,
            **self._tls,
        )

        def launch() -> Triton:
            return Triton(
                installation,
                self._model_repository,
                self._config_name,
                folder,
                self._stop_timeout_s,
                self._triton_arguments,
                verbose=self._verbose,
            )

        self._running = Running(
            settings,
            folder,
            launch,
            start_timeout_s=self._start_timeout_s,
            restart=self._restart,
            on_event=self._on_event,
        )

    def stop(self) -> None:
        """Stops the server and waits until all its processes are gone."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def check(self) -> None:
        """Does nothing while the server runs, or is being started again.

        Raises:
            EmbeddedServerError: it was never started, or it died, or a process of it that runs a model did; the message
                says how, and where its log is.
        """
        self._started().check()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _started(self) -> Running:
        if self._running is None:
            raise EmbeddedServerError("the embedded Triton is not running: call start(), or use it in a `with` block")
        return self._running


def _write_probe(folder: Path) -> Path:
    """Writes a request about one black slice, for its probability alone, that overtakes others."""
    request = service_pb2.ModelInferRequest(model_name=ENSEMBLE.name, id=PROBE_ID)
    request.inputs.add(name=IMAGE.name, datatype=IMAGE.dtype, shape=(1, *IMAGE.shape))
    request.outputs.add(name=TUMOR_PROBABILITY.name)
    request.parameters["priority"].uint64_param = 1
    request.raw_input_contents.append(bytes(math.prod(IMAGE.shape)))
    path = folder / "probe"
    path.write_bytes(request.SerializeToString())
    return path


def _resolve(host: str) -> str:
    """The numeric address of a host, IPv4 where it has both."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise EmbeddedServerError(f"cannot listen on {host!r}, which is no IP address and no name of one") from error
    addresses = {family: str(address[0]) for family, _, _, _, address in reversed(found)}
    return addresses.get(socket.AF_INET) or addresses[socket.AF_INET6]


def _read_tls(
    certificate: Path | str | None, private_key: Path | str | None, authority: Path | str | None
) -> dict[str, str]:
    """The files' contents, as the proxy is told of them; checked here, where their names are known."""
    if (certificate is None) != (private_key is None):
        raise ValueError("a TLS certificate and its private key go together")
    if certificate is None or private_key is None:
        if authority is not None:
            raise ValueError("clients show their certificates over TLS only: give the server's certificate too")
        return {}
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, private_key, password=_no_password)
        found = {
            "certificate": Path(certificate).read_text("ascii"),
            "private_key": Path(private_key).read_text("ascii"),
        }
    except (OSError, ValueError) as error:  # An ssl.SSLError is an OSError.
        raise ValueError(f"{certificate}, {private_key}: cannot be used for TLS: {error}") from error
    if authority is not None:
        try:
            context.load_verify_locations(authority)
            found["client_authority"] = Path(authority).read_text("ascii")
        except (OSError, ValueError) as error:
            raise ValueError(f"{authority}: cannot be used for TLS: {error}") from error
    return found


def _say_nothing(_: str) -> None: ...


def _no_password() -> str:
    raise ValueError("the private key is encrypted; give one that is not")
