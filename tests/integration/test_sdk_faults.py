"""What a client makes of a real Triton that is paused, killed, restarted, slow, half loaded or cut off."""

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from support.signals import signal_triton
from support.tiny_networks import slices
from support.waiting import wait_for
from tritonclient.grpc import InferenceServerClient

from gliogate import (
    TLS,
    Analysis,
    AsyncClient,
    Client,
    DeadlineExceededError,
    ModelNotReadyError,
    Retries,
    ServerUnavailableError,
)
from gliogate.contract import SEGMENTER
from gliogate.embedded import EmbeddedServer

CLEAR, TUMOR = (slices(level)[0] for level in (0.25, 0.75))

TO_SPARE_S = 1.0
"""How much later than its deadline an error may come on a busy machine."""


@pytest.fixture(scope="module")
def server(tiny_repository):
    """A server that a test may pause."""
    with EmbeddedServer(tiny_repository) as server:
        yield server


@pytest.fixture
def mortal_server(tiny_repository):
    """A server that a test may kill."""
    with EmbeddedServer(tiny_repository) as server:
        yield server


def analyze(url: str, **options):
    with Client(url) as client:
        return client.analyze(TUMOR, **options)


def analyze_async(url: str, **options):
    async def ask():
        async with AsyncClient(url) as client:
            return await client.analyze(TUMOR, **options)

    return asyncio.run(ask())


@contextlib.contextmanager
def paused(server: EmbeddedServer) -> Iterator[None]:
    signal_triton(server, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(LookupError):  # It was killed meanwhile.
            signal_triton(server, signal.SIGCONT)


@contextlib.contextmanager
def later(seconds: float, *call) -> Iterator[None]:
    timer = threading.Timer(seconds, call[0], call[1:])
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.mark.parametrize("ask", [analyze, analyze_async])
def test_a_server_that_is_paused_costs_its_deadline_and_no_more(server, ask):
    started = time.monotonic()

    with paused(server), pytest.raises(DeadlineExceededError, match=r"within 1 s") as caught:
        ask(server.url, timeout_s=1)

    assert time.monotonic() - started < 1 + TO_SPARE_S
    assert (caught.value.status, caught.value.url, caught.value.may_retry) == ("DEADLINE_EXCEEDED", server.url, True)
    assert ask(server.url).tumor


@pytest.mark.parametrize("ask", [analyze, analyze_async])
def test_a_server_that_is_killed_in_mid_call_is_told_of_at_once(mortal_server, ask):
    started = time.monotonic()

    # Paused first, so that the call is certainly under way.
    with (
        paused(mortal_server),
        later(0.5, signal_triton, mortal_server, signal.SIGKILL),
        pytest.raises(ServerUnavailableError, match="no Triton answers gRPC") as caught,
    ):
        ask(mortal_server.url, timeout_s=20)

    assert time.monotonic() - started < 10
    assert caught.value.status == "UNAVAILABLE"
    assert caught.value.request_id


@pytest.mark.parametrize("ask", [analyze, analyze_async])
def test_a_server_that_is_slow_is_waited_for(server, ask):
    with paused(server), later(1, signal_triton, server, signal.SIGCONT):
        assert ask(server.url, timeout_s=20).latency_s > 0.9


def test_many_go_on_through_a_restart_with_patience_enough(tiny_repository):
    """Twelve seconds and more are between the first and the last attempt; none of the pictures fails."""
    patient = Retries(attempts=5, initial_backoff_s=2, max_backoff_s=10, multiplier=2)
    with EmbeddedServer(tiny_repository) as first:
        port = int(first.url.rpartition(":")[2])
        client = Client(first.url, retries=patient)
        results = client.analyze_many(itertools.repeat(TUMOR, 40), in_flight=4)
        done = list(itertools.islice(results, 10))
        signal_triton(first, signal.SIGKILL)
    with client, EmbeddedServer(tiny_repository, grpc_port=port):
        done += results

    assert [analysis.tumor for analysis in done] == [True] * 40


def test_without_patience_a_restart_costs_what_was_under_way_then(tiny_repository):
    with EmbeddedServer(tiny_repository) as first:
        port = int(first.url.rpartition(":")[2])
        client = Client(first.url, retries=Retries(attempts=1))
        back = threading.Event()

        def pictures():
            for index in range(12):
                if index == 8:
                    assert back.wait(60)
                yield TUMOR

        results = client.analyze_many(pictures(), in_flight=4, on_error="return")
        done = [next(results) for _ in range(3)]
        signal_triton(first, signal.SIGKILL)
    # Pictures are taken as results are: the eighth is asked for with the fifth result.
    done.append(next(results))
    with client, EmbeddedServer(tiny_repository, grpc_port=port):
        client.wait_until_ready(20)
        back.set()
        done += results

    failed = [result for result in done if isinstance(result, ServerUnavailableError)]
    assert len(done) == 12
    assert 1 <= len(failed) <= 5
    assert all(isinstance(result, Analysis) for result in (*done[:3], *done[8:]))


class Proxy(threading.Thread):
    """What stands between client and server and can cut all connections."""

    def __init__(self, url: str, *, port: int = 0) -> None:
        super().__init__(daemon=True)
        host, _, behind = url.rpartition(":")
        self._behind = (host, int(behind))
        self._listener = socket.create_server(("127.0.0.1", port))
        self._sockets: list[socket.socket] = []
        self.url = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(self._behind)
                self._sockets.extend((here, there))
                for source, sink in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)

    def cut(self) -> None:
        """Ends the connections that there are; one that a client makes meanwhile is a new one and stays."""
        for _ in range(len(self._sockets)):
            connection = self._sockets.pop(0)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


def test_a_server_that_came_back_is_found_by_the_first_request(server):
    found = 0
    for _ in range(5):
        with Proxy(server.url) as proxy:
            client = Client(proxy.url)
            client.analyze(CLEAR)
        # gRPC's waits between connections grow while somebody asks in vain.
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            with pytest.raises(ServerUnavailableError):
                client.analyze(CLEAR)
        with (
            Proxy(server.url, port=int(proxy.url.rpartition(":")[2])),
            client,
            contextlib.suppress(ServerUnavailableError),
        ):
            found += client.analyze(TUMOR).tumor

    assert found >= 4, "a busy machine may be late once"


def test_a_server_that_came_back_is_found_by_an_asynchronous_client(tiny_server):
    async def ask() -> None:
        with Proxy(tiny_server.url) as proxy:
            client = AsyncClient(proxy.url)
            assert not (await client.analyze(CLEAR)).tumor
        with pytest.raises(ServerUnavailableError):
            await client.analyze(CLEAR)
        with Proxy(tiny_server.url, port=int(proxy.url.rpartition(":")[2])):
            await client.wait_until_ready(20)
            assert (await client.analyze(TUMOR)).tumor
            await client.close()

    asyncio.run(ask())


def test_a_call_whose_connection_is_cut_is_sent_again(server):
    with Proxy(server.url) as proxy, Client(proxy.url) as client:
        client.analyze(CLEAR)
        with paused(server), later(0.5, proxy.cut), later(1, signal_triton, server, signal.SIGCONT):
            assert client.analyze(TUMOR, timeout_s=20).tumor


def test_a_call_whose_connection_is_cut_fails_where_retries_are_off(server):
    with Proxy(server.url) as proxy, Client(proxy.url, retries=Retries(attempts=1)) as client:
        client.analyze(CLEAR)
        with (
            paused(server),
            later(0.5, proxy.cut),
            later(0.6, signal_triton, server, signal.SIGCONT),
            pytest.raises(ServerUnavailableError),
        ):
            client.analyze(TUMOR, timeout_s=20)
        assert client.analyze(TUMOR).tumor


def test_what_became_of_a_call_is_asked_within_its_deadline(server):
    """The connection is cut, and behind the new one is a server that does not answer."""
    with Proxy(server.url) as proxy, Client(proxy.url, retries=Retries(attempts=1)) as client:
        client.analyze(CLEAR)
        started = time.monotonic()
        with paused(server), later(0.5, proxy.cut), pytest.raises(ServerUnavailableError):
            client.analyze(TUMOR, timeout_s=1)

    assert time.monotonic() - started < 1 + TO_SPARE_S


def test_a_server_that_does_not_answer_is_not_waited_for_longer_than_asked(server):
    with paused(server), Client(server.url) as client:
        started = time.monotonic()
        with pytest.raises(ServerUnavailableError, match="no Triton answers"):
            client.wait_until_ready(0.5)

    assert time.monotonic() - started < 0.5 + TO_SPARE_S


def test_a_model_that_is_unloaded_is_named_until_it_is_back(started_with):
    server = started_with("--model-control-mode=explicit", "--load-model=*")
    with Client(server.url) as client, contextlib.closing(InferenceServerClient(server.triton_url)) as admin:
        assert client.analyze(TUMOR).tumor
        admin.unload_model(SEGMENTER.name)
        deadline = time.monotonic() + 20
        while client.is_ready() and time.monotonic() < deadline:
            time.sleep(0.05)

        with pytest.raises(ModelNotReadyError, match=f"{SEGMENTER.name} not ready at {server.url}") as caught:
            client.analyze(TUMOR)
        assert caught.value.may_retry
        with pytest.raises(ModelNotReadyError):
            client.wait_until_ready(0.2)
        # Who asks for a probability alone never wakes the segmenter, so nothing is amiss.
        assert client.detect(TUMOR).detected

        admin.load_model(SEGMENTER.name)
        client.wait_until_ready(20)
        assert client.analyze(TUMOR).tumor


def test_tls_of_another_authority_is_refused_within_the_deadline(tiny_repository, tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    for name, pem in (
        ("root", authority.cert_pem),
        ("other", trustme.CA().cert_pem),
        ("key", certificate.private_key_pem),
        ("certificate", certificate.cert_chain_pems[0]),
    ):
        pem.write_to_path(tmp_path / name)
    with EmbeddedServer(
        tiny_repository, tls_certificate=tmp_path / "certificate", tls_private_key=tmp_path / "key"
    ) as server:
        with Client(server.url, tls=TLS(root_certificates=tmp_path / "root")) as client:
            assert client.analyze(TUMOR).tumor
        for tls in (TLS(root_certificates=tmp_path / "other"), None):
            started = time.monotonic()
            with Client(server.url, tls=tls) as client, pytest.raises(ServerUnavailableError):
                client.analyze(TUMOR, timeout_s=5)
            assert time.monotonic() - started < 5 + TO_SPARE_S


def test_ctrl_c_ends_a_call_at_once(server):
    ask = f"Client({server.url!r}).analyze(np.zeros((256, 256, 3), np.uint8))"
    code = f"import numpy as np; from gliogate import Client; {ask}"

    with paused(server), subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: connections_to(server.url, process.pid))
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=10)
        finally:
            process.kill()

    assert told.rstrip().endswith("KeyboardInterrupt")


def connections_to(url: str, process: int | str = "self") -> int:
    """How many TCP connections a process has to an address."""
    port = int(url.rpartition(":")[2])
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path("/proc/net", name).read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[3] == "01" and int(row[2].split(":")[1], 16) == port}
    links = []
    for file in Path("/proc", str(process), "fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.readlink(file))  # noqa: PTH115
    return sum(link.removeprefix("socket:[").rstrip("]") in inodes for link in links if link.startswith("socket:"))


def use_well(server: EmbeddedServer) -> None:
    with Client(server.url) as client:
        client.analyze(TUMOR)
        list(client.analyze_many([TUMOR] * 4))


def use_while_paused(server: EmbeddedServer) -> None:
    with paused(server), Client(server.url) as client, pytest.raises(DeadlineExceededError):
        client.analyze(TUMOR, timeout_s=0.3)


def leave_in_the_middle(server: EmbeddedServer) -> None:
    with Client(server.url) as client:
        next(client.analyze_many([TUMOR] * 8, in_flight=8))


def ask_nobody(_: EmbeddedServer) -> None:
    with Client("127.0.0.1:9") as client, pytest.raises(ServerUnavailableError):
        client.analyze(TUMOR, timeout_s=5)


def forget(server: EmbeddedServer) -> None:
    client = Client(server.url)
    client.analyze(TUMOR)


def use_async(server: EmbeddedServer) -> None:
    async def ask() -> None:
        async with AsyncClient(server.url) as client:
            assert [found.tumor async for found in client.analyze_many([TUMOR] * 4)] == [True] * 4

    asyncio.run(ask())


@pytest.mark.parametrize(
    "use",
    [use_well, use_while_paused, leave_in_the_middle, ask_nobody, forget, use_async],
    ids=lambda use: use.__name__,
)
def test_nothing_is_left_of_a_client(tiny_server, use):
    use(tiny_server)  # What gRPC starts once and keeps.
    gc.collect()
    threads, files = set(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(5):
        use(tiny_server)
    gc.collect()

    wait_for(lambda: set(threading.enumerate()) <= threads)
    wait_for(lambda: len(list(Path("/proc/self/fd").iterdir())) <= files)
    wait_for(lambda: connections_to(tiny_server.url) == 0)
