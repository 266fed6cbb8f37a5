"""HTTP: health, descriptions and metrics; inference only if asked, its body read, bounded and checked here."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any, Final

from .admission import TooLargeError
from .bodies import BODY_BYTES, BodyError, check, decompressed
from .inference import Inference, RefusedError
from .settings import NO_TOKEN, Settings

if TYPE_CHECKING:
    from .progress import Progress

CONNECTIONS: Final = 64
CONNECTIONS_FOR_INFERENCE: Final = 512
READING: Final = 8
"""How many bodies may be read at a time: JSON takes much more memory read than written."""
HEAD_WITHIN_S: Final = 10.0
"""How long a TLS handshake, and what comes before a body, may take."""
BODY_WITHIN_S: Final = 30.0
IDLE_S: Final = 60.0
"""How long a connection may say nothing between two requests."""
ANSWERED_WITHIN_S: Final = {"GET": 10.0, "POST": 120.0}

_NAME: Final = r"[\w-][\w.-]*"
_HEALTH: Final = re.compile(rf"/v2/health/(live|ready)|/v2/models/{_NAME}(/versions/\d+)?/ready", re.ASCII)
_DESCRIBING: Final = re.compile(
    rf"/v2/?|/v2/models/stats|/v2/models/{_NAME}(/versions/\d+)?(/(config|stats))?", re.ASCII
)
_INFER: Final = re.compile(rf"/v2/models/{_NAME}(/versions/\d+)?/infer", re.ASCII)
_METRICS: Final = "/metrics"

_UNREADABLE: Final = re.compile(rb"(Unable|failed) to (parse|get request params)")
"""What Triton says of JSON that is no request, and takes for its own fault."""

_HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_PASSED_ON: Final = ("Content-Type", _HEADER_LENGTH, "traceparent", "tracestate")
_PASSED_BACK: Final = ("Content-Type", _HEADER_LENGTH)
_AT_ONCE: Final = 65_536


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
        inference: the way into Triton, in the event loop.
        loop: that event loop.
        progress: how requests fare; a server in which none is answered is not ready.
        is_for_metrics: whether this is the port for Prometheus.
        reading: limits the bodies that are read at a time.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        settings: Settings,
        inference: Inference,
        progress: Progress,
        loop: asyncio.AbstractEventLoop,
        *,
        is_for_metrics: bool,
    ) -> None:
        """Starts to listen.

        Raises:
            OSError: it cannot.
        """
        self.settings, self.inference, self.progress, self.loop = settings, inference, progress, loop
        self.is_for_metrics = is_for_metrics
        self.reading = BoundedSemaphore(READING)
        self.address_family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
        has_inference = settings.http_inference and not is_for_metrics
        self._free = BoundedSemaphore(CONNECTIONS_FOR_INFERENCE if has_inference else CONNECTIONS)
        self._tls = _context(settings)
        super().__init__((settings.address, settings.metrics_port if is_for_metrics else settings.http_port), _Handler)

    def server_bind(self) -> None:
        """Binds, without the look at DNS that the base class takes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.settings.address, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Gives a connection its thread, as long as there are not too many."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves a connection."""
        try:
            request.settimeout(HEAD_WITHIN_S)
            if self._tls:
                request = self._tls.wrap_socket(request, server_side=True)
            super().process_request_thread(request, client_address)
        except OSError:  # No TLS, or another one.
            self.shutdown_request(request)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a client that went away, or that speaks no HTTP."""


class _Handler(BaseHTTPRequestHandler):
    server: HttpProxy
    protocol_version = "HTTP/1.1"
    server_version = "gliogate"
    sys_version = ""
    timeout = IDLE_S
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        if self.headers.get("Transfer-Encoding") or self.headers.get("Content-Length", "0") != "0":
            # A body that nobody reads would be the next request.
            self.close_connection = True
        path, settings = self.path.partition("?")[0], self.server.settings
        if self.server.is_for_metrics:
            known, is_health, where = path == _METRICS, False, settings.metrics_socket
        else:
            is_health = bool(_HEALTH.fullmatch(path))
            known, where = is_health or bool(_DESCRIBING.fullmatch(path)), settings.http_socket
        if not known:
            self._refuse(HTTPStatus.NOT_FOUND, f"no {path} here")
        elif not is_health and not self._may_enter():
            self._refuse(HTTPStatus.UNAUTHORIZED, NO_TOKEN)
        elif path.endswith("/ready") and self.server.progress.is_in_doubt:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "requests are not being answered")
        else:
            self._answer(self._ask(where, "GET", path))

    def do_POST(self) -> None:
        # What is refused unread cannot be told from the next request.
        self.close_connection = True
        if self.server.is_for_metrics or not _INFER.fullmatch(self.path):
            self._refuse(HTTPStatus.NOT_FOUND, f"no {self.path} here")
        elif not self.server.settings.http_inference:
            self._refuse(
                HTTPStatus.FORBIDDEN, "inference over HTTP is off: `gliogate serve --http-inference` turns it on"
            )
        elif not self._may_enter():
            self._refuse(HTTPStatus.UNAUTHORIZED, NO_TOKEN)
        else:
            try:
                with self.server.reading:
                    body = self._body()
            except BodyError as error:
                self._refuse(error.status, str(error))
            else:
                self.close_connection = False
                self._infer(body)

    def _may_enter(self) -> bool:
        return self.server.settings.lets_in(self.headers.get("Authorization", ""))

    def _body(self) -> bytes:
        lengths = self.headers.get_all("Content-Length", [])
        if self.headers.get("Transfer-Encoding") or len(lengths) != 1 or not re.fullmatch(r"[0-9]{1,20}", lengths[0]):
            raise BodyError("the body needs a Content-Length, and cannot come in chunks", HTTPStatus.LENGTH_REQUIRED)
        length = int(lengths[0])
        if length > BODY_BYTES:
            raise BodyError(f"the body has {length} bytes, more than {BODY_BYTES}", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        body = decompressed(self._read(length), self.headers.get("Content-Encoding", ""))
        check(body, self.headers.get(_HEADER_LENGTH, ""))
        return body

    def _read(self, length: int) -> bytes:
        deadline, pieces, left = time.monotonic() + BODY_WITHIN_S, [], length
        while left:
            piece = self.rfile.read1(min(left, _AT_ONCE))
            if not piece:
                raise BodyError(f"the body ends after {length - left} of {length} bytes")
            if time.monotonic() > deadline:
                raise BodyError(f"the body did not arrive within {BODY_WITHIN_S:g} s", HTTPStatus.REQUEST_TIMEOUT)
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def _infer(self, body: bytes) -> None:
        inference, loop = self.server.inference, self.server.loop
        way = inference.of(len(body), None)
        try:
            asyncio.run_coroutine_threadsafe(way.__aenter__(), loop).result()
        except TooLargeError:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the machine has no shared memory for so many slices")
            return
        except RefusedError as error:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
            return
        try:
            status, headers, content = self._ask(self.server.settings.http_socket, "POST", self.path, body)
        finally:
            asyncio.run_coroutine_threadsafe(way.__aexit__(None, None, None), loop).result()
        if status == HTTPStatus.INTERNAL_SERVER_ERROR and _UNREADABLE.search(content):
            status = HTTPStatus.BAD_REQUEST
        if status == HTTPStatus.OK:
            loop.call_soon_threadsafe(inference.succeeded)
        elif status == HTTPStatus.INTERNAL_SERVER_ERROR:
            loop.call_soon_threadsafe(inference.failed, _reason(content))
        self._answer((status, headers, content))

    def _ask(self, where: str, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """What Triton answers: status, headers and body."""
        told = {name: value for name in _PASSED_ON if (value := self.headers.get(name))}
        connection = UnixConnection(where, ANSWERED_WITHIN_S[method])
        with contextlib.closing(connection):
            try:
                connection.request(method, path, body or None, told)
                answer = connection.getresponse()
                headers = {name: value for name in _PASSED_BACK if (value := answer.getheader(name))}
                return answer.status, headers, answer.read()
            except (OSError, ValueError, http.client.HTTPException) as error:
                reason = json.dumps({"error": f"Triton does not answer: {error}"}).encode()
                return HTTPStatus.SERVICE_UNAVAILABLE, {"Content-Type": "application/json"}, reason

    def _answer(self, answer: tuple[int, dict[str, str], bytes]) -> None:
        status, headers, content = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        headers = {"Content-Type": "application/json"}
        if status is HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        self._answer((status, headers, json.dumps({"error": reason}).encode()))

    def log_message(self, *arguments: object) -> None:
        """Logs nothing."""


def _reason(content: bytes) -> str:
    """What Triton says of a failure."""
    with contextlib.suppress(ValueError, AttributeError):
        return str(json.loads(content).get("error", ""))
    return ""


def _context(settings: Settings) -> ssl.SSLContext | None:
    if not settings.certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # It takes files only: this one is in memory, and nobody's but ours.
    file = os.memfd_create("certificate")
    try:
        os.write(file, f"{settings.certificate}\n{settings.private_key}".encode())
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    if settings.client_authority:
        context.load_verify_locations(cadata=settings.client_authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
