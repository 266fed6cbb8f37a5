"""Slices through memory that client and a real Triton share: what it answers, what it leaves, and what goes wrong."""

import asyncio
import contextlib
import itertools
import os
import re
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.signals import signal_triton
from support.tiny_networks import slices
from tritonclient.grpc import InferenceServerClient

from gliogate import (
    AsyncClient,
    Client,
    DeadlineExceededError,
    ForkedClientError,
    Retries,
    SharedMemoryError,
    shared_memory,
)
from gliogate.embedded import EmbeddedServer

LEVELS = [level / 32 for level in range(32)]
PICTURES = slices(*LEVELS)
IN_FLIGHT = 8


@pytest.fixture(params=[Client, AsyncClient])
def probabilities(request):
    """Analyzes pictures with a client of either kind, and closes it."""

    async def ask(url, pictures, options):
        async with AsyncClient(url, **options) as client:
            return [found.tumor_probability async for found in client.analyze_many(pictures, in_flight=IN_FLIGHT)]

    def probabilities(url, pictures=PICTURES, **options):
        options = {"shared_memory": True} | options
        if request.param is AsyncClient:
            return asyncio.run(ask(url, pictures, options))
        with Client(url, **options) as client:
            return [found.tumor_probability for found in client.analyze_many(pictures, in_flight=IN_FLIGHT)]

    return probabilities


@pytest.fixture
def started(tiny_repository, monkeypatch):
    """Starts a server that a test may harm, with more arguments for Triton."""
    with contextlib.ExitStack() as stack:

        def start(*arguments, **options) -> EmbeddedServer:
            popen = subprocess.Popen
            with monkeypatch.context() as patch:
                patch.setattr(subprocess, "Popen", lambda command, **rest: popen([*command, *arguments], **rest))
                return stack.enter_context(EmbeddedServer(tiny_repository, **options))

        yield start


def regions(server: EmbeddedServer) -> set[str]:
    """What is registered with a server."""
    with contextlib.closing(InferenceServerClient(server.url)) as admin:
        return set(admin.get_system_shared_memory_status().regions)


def files() -> set[str]:
    """What clients have in /dev/shm."""
    return {path.name for path in Path("/dev/shm").glob("gliogate-client*")}


@contextlib.contextmanager
def paused(server: EmbeddedServer):
    signal_triton(server, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_triton(server, signal.SIGCONT)


def test_every_picture_gets_its_own_answer_and_nothing_stays(tiny_server, probabilities):
    assert probabilities(tiny_server.url) == LEVELS
    assert regions(tiny_server) == files() == set()


def test_as_many_slots_are_made_as_requests_are_under_way_at_a_time(tiny_server):
    with Client(tiny_server.url, shared_memory=True) as client:
        for _ in range(3):
            client.analyze(PICTURES[0])
        assert len(regions(tiny_server)) == 1
        assert files() == set()
        list(client.analyze_many(PICTURES, in_flight=IN_FLIGHT))
        assert 1 < len(regions(tiny_server)) <= IN_FLIGHT


def test_threads_share_the_slots_of_a_client(tiny_server):
    with Client(tiny_server.url, shared_memory=True) as client, ThreadPoolExecutor(IN_FLIGHT) as threads:
        found = list(threads.map(client.analyze, [*PICTURES] * 3))
    assert [analysis.tumor_probability for analysis in found] == LEVELS * 3
    assert regions(tiny_server) == set()


def test_answers_are_those_of_the_connection_for_pictures_of_any_size(tiny_server):
    picture = np.random.default_rng(0).integers(0, 256, (300, 200), np.uint8)
    with Client(tiny_server.url) as wire, Client(tiny_server.url, shared_memory=True) as shared:
        one, other = (client.analyze(picture, return_mask_probability=True) for client in (wire, shared))

    assert one.tumor_probability == other.tumor_probability
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_array_equal(one.mask_probability, other.mask_probability)


def test_the_slot_of_a_request_that_was_not_answered_is_not_used_again(started):
    server = started()
    with Client(server.url, shared_memory=True) as client:
        client.analyze(PICTURES[4])
        before = regions(server)
        with paused(server), pytest.raises(DeadlineExceededError):
            client.analyze(PICTURES[8], timeout_s=0.5)

        assert client.analyze(PICTURES[12]).tumor_probability == LEVELS[12]
        assert client.analyze(PICTURES[16]).tumor_probability == LEVELS[16]
        assert regions(server) - before


def test_the_slot_of_a_task_that_was_cancelled_is_not_used_again(started):
    server = started()

    async def ask():
        async with AsyncClient(server.url, shared_memory=True) as client:
            await client.analyze(PICTURES[4])
            before = regions(server)
            with paused(server):
                task = asyncio.create_task(client.analyze(PICTURES[8]))
                await asyncio.sleep(0.5)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert (await client.analyze(PICTURES[12])).tumor_probability == LEVELS[12]
            assert regions(server) - before

    asyncio.run(ask())
    assert regions(server) == set()


KILLED = """
import os, signal, sys, numpy as np
from gliogate import Client
client = Client(sys.argv[1], shared_memory=True)
list(client.analyze_many(np.zeros((8, 256, 256, 3), np.uint8), in_flight=4))
os.kill(os.getpid(), signal.SIGKILL)
"""

KILLED_WHILE_REGISTERING = """
import os, signal, sys, grpc, numpy as np
from gliogate import Client
client = Client(sys.argv[1], shared_memory=True)
client._triton.SystemSharedMemoryRegister = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
client.analyze(np.zeros((256, 256, 3), np.uint8))
"""


def test_what_killed_clients_leave_is_removed_by_the_next(tiny_server, probabilities):
    def run_killed(code):
        assert subprocess.run([sys.executable, "-c", code, tiny_server.url]).returncode == -signal.SIGKILL

    run_killed(KILLED)
    assert files() == set()
    left = regions(tiny_server)
    assert 1 <= len(left) <= 4
    run_killed(KILLED_WHILE_REGISTERING)
    assert len(files()) == 1

    assert probabilities(tiny_server.url) == LEVELS
    assert regions(tiny_server) == files() == set()


def test_what_living_clients_have_is_left_alone(tiny_server):
    with Client(tiny_server.url, shared_memory=True) as one, Client(tiny_server.url, shared_memory=True) as other:
        one.analyze(PICTURES[0])
        of_one = regions(tiny_server)
        other.analyze(PICTURES[0])
        assert of_one < regions(tiny_server)
        other.close()
        assert regions(tiny_server) == of_one


def test_a_forked_process_neither_uses_nor_removes_the_memory(tiny_server):
    with Client(tiny_server.url, shared_memory=True) as client:
        client.analyze(PICTURES[0])
        before = regions(tiny_server)
        child = os.fork()
        if not child:
            try:
                with client:
                    client.analyze(PICTURES[1])
            except ForkedClientError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert regions(tiny_server) == before
        assert client.analyze(PICTURES[2]).tumor_probability == LEVELS[2]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_server_that_was_started_anew_gets_the_memory_anew(started, kind):
    first = started()
    port = int(first.url.rpartition(":")[2])

    async def ask():
        client = kind(first.url, shared_memory=True)

        async def result(value):
            return await value if kind is AsyncClient else value

        assert (await result(client.analyze(PICTURES[8]))).tumor_probability == LEVELS[8]
        first.stop()
        second = started(grpc_port=port)
        await result(client.wait_until_ready(60))
        assert (await result(client.analyze(PICTURES[24]))).tumor_probability == LEVELS[24]
        assert len(regions(second)) == 1
        await result(client.close())
        assert regions(second) == set()

    asyncio.run(ask())


def test_many_go_on_through_a_restart(started):
    """Twelve seconds and more are between the first and the last attempt; none of the pictures fails."""
    patient = Retries(attempts=5, initial_backoff_s=2, max_backoff_s=10, multiplier=2)
    first = started()
    port = int(first.url.rpartition(":")[2])
    with Client(first.url, shared_memory=True, retries=patient) as client:
        results = client.analyze_many(PICTURES, in_flight=4)
        done = list(itertools.islice(results, 10))
        signal_triton(first, signal.SIGKILL)
        first.stop()
        started(grpc_port=port)
        done += results
    assert [analysis.tumor_probability for analysis in done] == LEVELS


def test_a_server_that_does_not_let_clients_share_memory_is_named_with_its_reason(started, probabilities):
    server = started("--grpc-restricted-protocol=shared-memory:admin=secret")

    with pytest.raises(
        SharedMemoryError, match=rf"shared_memory=True: the server at {server.url} .*restricted"
    ) as told:
        probabilities(server.url)
    assert not told.value.may_retry
    assert probabilities(server.url, metadata={"triton-grpc-protocol-admin": "secret"}) == LEVELS
    assert files() == set()


def test_a_server_that_does_not_see_the_memory_is_told_of(tiny_server, probabilities, monkeypatch, tmp_path):
    """A folder of its own stands for the /dev/shm of another machine, or of a container."""
    monkeypatch.setattr(shared_memory, "_FOLDER", tmp_path)

    with pytest.raises(SharedMemoryError, match=r"is it on this machine, with the same /dev/shm.*Unable to open"):
        probabilities(tiny_server.url)
    assert list(tmp_path.iterdir()) == []


def test_memory_that_is_short_is_an_error_and_no_signal(tiny_server, probabilities):
    """A limit on the size of files stands for a /dev/shm that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(SharedMemoryError, match=r"shared_memory=True: .*too large"):
            probabilities(tiny_server.url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files() == set()


def test_registering_keeps_to_the_deadline_of_the_request(started):
    server = started()
    with paused(server):
        started_at = time.monotonic()
        with pytest.raises(DeadlineExceededError, match="within 1 s"), Client(server.url, shared_memory=True) as client:
            client.analyze(PICTURES[0], timeout_s=1)
        # Closing asks the paused server once more.
        assert time.monotonic() - started_at < 5


def test_names_tell_processes_from_those_that_had_their_number_before(tiny_server):
    with Client(tiny_server.url, shared_memory=True) as client:
        client.analyze(PICTURES[0])
        (name,) = regions(tiny_server)
        process, began = re.fullmatch(r"gliogate-client\..+\.(\d+)\.(\d+)\.\w+\.\d+", name).groups()
        assert int(process) == os.getpid()
        earlier = Path("/dev/shm", name.replace(f".{process}.{began}.", f".{process}.{int(began) - 1}."))
        earlier.touch()
        list(client.analyze_many(PICTURES[:4], in_flight=4))
        assert files() == set()

        # As another user's, this one cannot be unlinked: it disturbs nobody.
        earlier.mkdir()
        try:
            list(client.analyze_many(PICTURES[:8], in_flight=8))
            assert files() == {earlier.name}
        finally:
            earlier.rmdir()
