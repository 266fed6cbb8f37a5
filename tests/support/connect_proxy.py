"""An HTTP proxy as gRPC knows them, which remembers what it saw."""

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import parse_headers
from selectors import EVENT_READ, DefaultSelector
from socket import create_connection, socket


class ConnectProxy(socketserver.ThreadingTCPServer):
    """Leads whatever it is asked for to one address, as if that were what the names stand for.

    Attributes:
        url: http://HOST:PORT.
        asked: the first line of each connection.
        authorization: what clients said of themselves.
        seen: all bytes that went through it, in both directions.
    """

    daemon_threads = True

    def __init__(self, leads_to: str | None) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.url = "http://{}:{}".format(*self.server_address)
        self.leads_to = leads_to
        self.asked: list[str] = []
        self.authorization: list[str | None] = []
        self.seen = bytearray()


class _Tunnel(socketserver.StreamRequestHandler):
    server: ConnectProxy
    rbufsize = 0

    def handle(self) -> None:
        self.server.asked.append(self.rfile.readline().decode().strip())
        self.server.authorization.append(parse_headers(self.rfile)["proxy-authorization"])
        if self.server.leads_to is None:
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        host, _, port = self.server.leads_to.rpartition(":")
        with create_connection((host, int(port))) as server, contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self._carry(self.connection, server)

    def _carry(self, client: socket, server: socket) -> None:
        with DefaultSelector() as both:
            both.register(client, EVENT_READ, server)
            both.register(server, EVENT_READ, client)
            while True:
                for key, _ in both.select():
                    content = key.fileobj.recv(65536)
                    if not content:
                        return
                    self.server.seen += content
                    key.data.sendall(content)


@contextmanager
def connect_proxy(leads_to: str | None = None) -> Iterator[ConnectProxy]:
    """Runs one, which leads to HOST:PORT or, where that is None, refuses everybody."""
    with ConnectProxy(leads_to) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
