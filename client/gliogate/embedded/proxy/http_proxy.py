"""HTTP: health, descriptions and metrics; inference only if asked, its body read, bounded and checked here."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import tempfile
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any, Final

from .bodies import BODY_BYTES, BodyError, check, unpacked

if TYPE_CHECKING:
    from .progress import Progress
    from .settings import Settings

_CONNECTIONS: Final = 64
_CONNECTIONS_FOR_INFERENCE: Final = 1024
_IDLE_S: Final = 60.0
_ANSWERED_WITHIN_S: Final = {"GET": 10.0, "POST": 120.0}

_HEALTH: Final = re.compile(r"/v2/health/(live|ready)|/v2/models/[\w.-]+(/versions/\d+)?/ready")
_DESCRIBING: Final = re.compile(r"/v2/?|/v2/models/stats|/v2/models/[\w.-]+(/versions/\d+)?(/(config|stats))?")
_INFER: Final = re.compile(r"/v2/models/[\w.-]+(/versions/\d+)?/infer")
_METRICS: Final = re.compile(r"/metrics")

_UNREADABLE: Final = re.compile(rb"(Unable|failed) to (parse|get request params)")
"""What Triton says of JSON that is no request, and takes for its own fault."""

_HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_PASSED_ON: Final = ("Content-Type", _HEADER_LENGTH, "traceparent", "tracestate")
_READING: Final = Lock()
"""One body at a time: JSON takes much more memory read than written."""
_PASSED_BACK: Final = ("Content-Type", _HEADER_LENGTH)


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        """Connects with the first request.

        Args:
            path: the socket's.
            timeout: seconds to wait for it at a time.
        """
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connects."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class HttpProxy(ThreadingHTTPServer):
    """Listens for HTTP on one port.

    Attributes:
        settings: those of the proxy.
        is_for_metrics: whether this is the port for Prometheus.
        progress: how requests fare; a server in which none is answered is not ready.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, settings: Settings, progress: Progress, *, is_for_metrics: bool) -> None:
        """Starts to listen.

        Raises:
            OSError: it cannot.
        """
        self.settings = settings
        self.is_for_metrics = is_for_metrics
        self.progress = progress
        self.address_family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
        self._free = BoundedSemaphore(_CONNECTIONS_FOR_INFERENCE if settings.http_inference else _CONNECTIONS)
        self._tls = _context(settings)
        port = settings.metrics_port if is_for_metrics else settings.http_port
        super().__init__((settings.address, port), _Handler)

    def server_bind(self) -> None:
        """Binds, without the look at DNS that the base class takes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.settings.address, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Gives a connection its thread, as long as there are not too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves a connection."""
        try:
            request.settimeout(_IDLE_S)
            if self._tls:
                with contextlib.suppress(OSError):
                    request = self._tls.wrap_socket(request, server_side=True)
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a client that went away, or that speaks no HTTP."""


class _Handler(BaseHTTPRequestHandler):
    server: HttpProxy
    protocol_version = "HTTP/1.1"
    server_version = "gliogate"
    sys_version = ""
    timeout = _IDLE_S
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        settings = self.server.settings
        if self.server.is_for_metrics:
            known, is_open, where = bool(_METRICS.fullmatch(path)), False, settings.metrics_socket
        else:
            is_open = _HEALTH.fullmatch(path) is not None
            known, where = is_open or bool(_DESCRIBING.fullmatch(path)), settings.http_socket
        if not known:
            self._refuse(HTTPStatus.NOT_FOUND, f"no {path} here")
        elif not is_open and not self._may_enter():
            self._refuse(HTTPStatus.UNAUTHORIZED, "this server asks for a token, and for the right one")
        elif path == "/v2/health/ready" and self.server.progress.is_stalled:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "requests are not being answered")
        else:
            self._pass_on(where, "GET", path, b"")

    def do_POST(self) -> None:
        # What is refused unread cannot be told from the next request.
        self.close_connection = True
        settings = self.server.settings
        if self.server.is_for_metrics or not _INFER.fullmatch(self.path):
            self._refuse(HTTPStatus.NOT_FOUND, f"no {self.path} here")
        elif not settings.http_inference:
            self._refuse(
                HTTPStatus.FORBIDDEN, "inference over HTTP is off: `gliogate serve --http-inference` turns it on"
            )
        elif not self._may_enter():
            self._refuse(HTTPStatus.UNAUTHORIZED, "this server asks for a token, and for the right one")
        else:
            try:
                body = self._body()
            except BodyError as error:
                self._refuse(error.status, str(error))
            else:
                self.close_connection = False
                self._pass_on(settings.http_socket, "POST", self.path, body)

    def _may_enter(self) -> bool:
        return self.server.settings.lets_in(self.headers.get("Authorization", ""))

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not re.fullmatch(r"\d{1,20}", length):
            raise BodyError("the body needs a Content-Length, and cannot come in chunks", HTTPStatus.LENGTH_REQUIRED)
        if int(length) > BODY_BYTES:
            raise BodyError(f"the body has {length} bytes, more than {BODY_BYTES}", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        packed = self.rfile.read(int(length))
        if len(packed) < int(length):
            raise BodyError(f"the body ends after {len(packed)} of {length} bytes")
        with _READING:
            body = unpacked(packed, self.headers.get("Content-Encoding", ""))
            check(body, self.headers.get(_HEADER_LENGTH, ""))
        return body

    def _pass_on(self, where: str, method: str, path: str, body: bytes) -> None:
        headers = {name: value for name in _PASSED_ON if (value := self.headers.get(name))}
        connection = UnixConnection(where, _ANSWERED_WITHIN_S[method])
        with contextlib.closing(connection):
            try:
                connection.request(method, path, body or None, headers)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"Triton does not answer: {error}")
                return
        status = answer.status
        if status == HTTPStatus.INTERNAL_SERVER_ERROR and _UNREADABLE.search(content):
            status = HTTPStatus.BAD_REQUEST
        self.send_response(status)
        for name in _PASSED_BACK:
            if value := answer.getheader(name):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        content = json.dumps({"error": reason}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Logs nothing."""


def _context(settings: Settings) -> ssl.SSLContext | None:
    if not settings.certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile("w") as pem:  # It takes files only; readable by this user alone.
        pem.write(settings.certificate + "\n" + settings.private_key)
        pem.flush()
        context.load_cert_chain(pem.name)
    if settings.client_authority:
        context.load_verify_locations(cadata=settings.client_authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
