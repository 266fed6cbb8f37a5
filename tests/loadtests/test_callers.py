"""Calls over gRPC and HTTP: what is counted of an answer; and servers that are none, whose answers are errors."""

import json
import shutil
import socket
import threading
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from support.tiny_networks import slices

from gliogate import RequestError, ServerUnavailableError
from gliogate.contract import DETECTION_THRESHOLD, ENSEMBLE, MASK_THRESHOLD
from gliogate.embedded import EmbeddedServer
from loadtests.callers import HttpCaller, make_caller
from loadtests.calls import ALWAYS, DETECTOR, GATED, Call
from loadtests.settings import Settings

ANSWERS = {
    "garbage": b"nonsense\r\n\r\n",
    "no JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a gateway": b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n<html",
    "nothing": b"",
}


@contextmanager
def server_of(answer):
    """Answers every request with the same bytes, and hangs up."""

    def serve():
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    _read(connection)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def _read(connection):
    """All of a request: a server that hangs up before resets the connection."""
    got = b""
    while b"\r\n\r\n" not in got and (more := connection.recv(65536)):
        got += more
    head, _, body = got.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    left = int(lengths[0]) - len(body) if lengths else 0
    while left > 0 and (more := connection.recv(65536)):
        left -= len(more)


def test_both_protocols_count_what_is_suspicious(tiny_repository, tmp_path):
    """The gate opens for anything, and of a black slice nothing is outlined."""
    repository = shutil.copytree(tiny_repository, tmp_path / "repository")
    point = repository / ENSEMBLE.name / "1" / "operating_point.json"
    point.write_text(json.dumps({DETECTION_THRESHOLD: 0, MASK_THRESHOLD: 0.5}))
    pictures, few = list(slices(0, 0.75, 0)), Call("three", slices=3, in_flight=3)
    with EmbeddedServer(repository, http_inference=True) as server:
        for protocol in ("grpc", "http"):
            caller = make_caller(
                Settings(protocol=protocol, url=server.url, http_url=server.http_url.removeprefix("http://"))
            )
            told = [caller.ask(few, pictures), *(caller.ask(call, pictures[:1]) for call in (GATED, ALWAYS, DETECTOR))]
            caller.close()
            assert [(answer.opened, answer.suspicious) for answer in told] == [(3, 2), (1, 1), (1, 0), (0, 0)], protocol


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_no_triton_would_answer_is_a_request_that_failed(answer):
    with server_of(ANSWERS[answer]) as url:
        caller = HttpCaller(Settings(http_url=url, timeout_s=5.0))
        with pytest.raises(RequestError, match=url):
            caller.ask(GATED, [np.zeros((256, 256, 3), np.uint8)])
        caller.close()


def test_a_port_that_speaks_no_http_is_told():
    with server_of(ANSWERS["garbage"]) as url:
        caller = HttpCaller(Settings(http_url=url, timeout_s=5.0))
        with pytest.raises(
            ServerUnavailableError, match=f"no Triton answers HTTP at {url}: is it running, and is that"
        ):
            caller.wait_until_ready(0.0)
        caller.close()
