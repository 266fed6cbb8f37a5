"""What strangers send: wrong requests, and what ends or fills a Triton 2.51. Each runs in a process of its own."""

import contextlib
import random
import socket
from collections import Counter
from multiprocessing.synchronize import Event
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import grpc
from support.wrong_requests import generate
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gliogate.contract import ENSEMBLE

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

UNLIMITED = [("grpc.max_send_message_length", -1)]
TIMEOUT_S = 20.0


def ask_wrongly(addresses: dict[str, str], seed: float, until: Event, told: "SimpleQueue[Counter[str]]") -> None:
    """Sends one wrong request after the other; tells how many ended with which status."""
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    with grpc.insecure_channel(addresses["url"], options=UNLIMITED) as channel:
        triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        while not until.is_set():
            try:
                triton.ModelInfer(generate(chance), timeout=TIMEOUT_S)
                counts["wrong, answered"] += 1
            except grpc.RpcError as error:
                counts[f"wrong, {error.code().name}"] += 1
    told.put(counts)


def attack(addresses: dict[str, str], seed: float, until: Event, told: "SimpleQueue[Counter[str]]") -> None:
    """Sends one attack after the other to every port; tells how many."""
    chance = random.Random(seed)
    head = b"POST /v2/models/brain_tumor/infer HTTP/1.1\r\nHost: a\r\n"
    chunks = [head + b"Transfer-Encoding: chunked\r\n\r\n", *([b"1\r\na\r\n" * 10_000] * 60)]
    nested = [head + b"Content-Length: 3000000\r\n\r\n", b"[" * 3_000_000]
    counts: Counter[str] = Counter()
    while not until.is_set():
        garbage = [chance.randbytes(chance.randrange(1, 100_000))]
        for name in ("http_url", "metrics_url", "url"):
            for pieces in (chunks, nested, garbage):
                _send(addresses[name], pieces)
                counts["attacks"] += 1
        _send_bomb(addresses["url"])
        counts["attacks"] += 1
    told.put(counts)


def _send(url: str, pieces: list[bytes]) -> None:
    parts = urlsplit(url if "//" in url else f"//{url}")
    with contextlib.suppress(OSError), socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
        for piece in pieces:
            connection.sendall(piece)
        connection.recv(65_536)


def _send_bomb(url: str) -> None:
    """Half a gigabyte of nothing, in half a megabyte."""
    request = service_pb2.ModelInferRequest(model_name=ENSEMBLE.name, raw_input_contents=[bytes(2**29)])
    gzip = grpc.Compression.Gzip
    with grpc.insecure_channel(url, UNLIMITED, compression=gzip) as channel, contextlib.suppress(grpc.RpcError):
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=TIMEOUT_S)
