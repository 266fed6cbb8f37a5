"""A server that dies or hangs is started again, at the same ports, and its clients do not notice."""

import contextlib
import os
import re
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.signals import models_of, pid_of_proxy, pid_of_triton, signal_triton
from support.tiny_networks import slices
from support.waiting import wait_for
from tritonclient.grpc import InferenceServerClient

from gliogate import Client
from gliogate.embedded import EmbeddedServer, running
from gliogate.embedded.restarts import LIMIT, WINDOW_S, Restarts
from gliogate.errors import EmbeddedServerError, GliogateError

TUMOR = slices(0.75)[0]
HANGS_AFTER_S = 3.0


@pytest.fixture
def kept(tiny_repository, monkeypatch):
    """A server that is started again, its client, and what it says."""
    monkeypatch.setattr(running, "HANGS_AFTER_S", HANGS_AFTER_S)
    events = []
    with EmbeddedServer(tiny_repository, restart=True, on_event=events.append) as server, Client(server.url) as client:
        client.detect(TUMOR)
        yield server, client, events


def is_answered(client):
    return client.detect(TUMOR, timeout_s=60).tumor_probability == pytest.approx(0.75)


def test_a_triton_that_is_killed_is_started_again_and_no_request_is_lost(kept):
    server, client, events = kept
    url = server.url
    answers = client.analyze_many([TUMOR] * 400, in_flight=8)
    next(answers)

    signal_triton(server, signal.SIGKILL)

    assert sum(1 for _ in answers) == 399
    assert server.url == url
    assert "was killed by SIGKILL" in events[0]
    assert f"it is started again (1 of {LIMIT})" in events[0]
    assert events[1].startswith("ready again after ")
    assert len(events) == 2
    server.check()


def test_a_triton_that_somebody_ends_is_started_again_and_no_request_is_lost(kept):
    """While it ends, it says that there are no such models; after a pause it may end by itself."""
    server, client, events = kept

    signal_triton(server, signal.SIGTERM)

    while len(events) < 2:
        assert is_answered(client)
    assert events[1].startswith("ready again after ")
    server.check()


def test_a_process_of_a_model_that_is_killed_is_replaced(kept):
    server, client, events = kept
    os.kill(next(iter(models_of(server))), signal.SIGKILL)

    wait_for(lambda: len(events) == 2)
    assert "lost the process of " in events[0]
    assert is_answered(client)
    server.check()


@pytest.mark.parametrize("model", ["brain_tumor", "tumor_detector"])
def test_a_model_that_hangs_is_found_by_the_requests_that_wait(kept, model):
    server, client, events = kept
    for process, instance in models_of(server).items():
        if instance.startswith(model):
            os.kill(process, signal.SIGSTOP)

    assert is_answered(client)

    assert re.search("is broken: .*is not healthy|hangs: requests wait, and none was answered", events[0])
    assert events[1].startswith("ready again after ")
    server.check()


@pytest.fixture
def obedient(tiny_repository, tmp_path):
    """A repository whose gate answers nothing while a file is there, and that file."""
    repository = shutil.copytree(tiny_repository, tmp_path / "models")
    gate, hangs = repository / "brain_tumor" / "1" / "model.py", tmp_path / "hangs"
    begin = "    def execute(self, requests: list[Any]) -> list[None]:\n"
    assert begin in gate.read_text()
    wait = f"        import os, time\n        while os.path.exists({str(hangs)!r}): time.sleep(0.05)\n"
    gate.write_text(gate.read_text().replace(begin, begin + wait))
    return repository, hangs


def test_a_model_that_never_returns_is_found_by_the_first_request(obedient, monkeypatch):
    monkeypatch.setattr(running, "HANGS_AFTER_S", HANGS_AFTER_S)
    repository, hangs = obedient
    hangs.touch()
    events = []
    with (
        EmbeddedServer(repository, restart=True, on_event=lambda line: (events.append(line), hangs.unlink())) as server,
        Client(server.url) as client,
    ):
        assert is_answered(client)

    assert "hangs: requests wait, and none was answered for 3 s" in events[0]


def test_doubt_ends_though_nobody_asks_any_more(obedient):
    repository, hangs = obedient
    with EmbeddedServer(repository) as server, Client(server.url) as client:
        ready = f"{server.http_url}/v2/health/ready"
        hangs.touch()
        with pytest.raises(GliogateError):
            client.detect(TUMOR, timeout_s=8)
        assert status_of(ready) == 503
        hangs.unlink()

        wait_for(lambda: status_of(ready) == 200)
        server.check()


def test_without_restarts_a_model_that_hangs_ends_the_command(tiny_repository, monkeypatch):
    monkeypatch.setattr(running, "HANGS_AFTER_S", HANGS_AFTER_S)
    with EmbeddedServer(tiny_repository) as server, Client(server.url) as client:
        for process in models_of(server):
            os.kill(process, signal.SIGSTOP)
        with pytest.raises(GliogateError):
            client.detect(TUMOR, timeout_s=20)

        def is_told():
            with contextlib.suppress(EmbeddedServerError):
                server.check()
                return False
            return True

        wait_for(is_told)


def test_who_listens_to_events_and_fails_harms_nobody(tiny_repository):
    def fail(_):
        raise BrokenPipeError

    with EmbeddedServer(tiny_repository, restart=True, on_event=fail) as server, Client(server.url) as client:
        triton = pid_of_triton(server)
        os.kill(triton, signal.SIGKILL)
        wait_for(lambda: find_triton(server) not in (triton, None))
        assert is_answered(client)
        server.check()


def find_triton(server):
    with contextlib.suppress(LookupError):
        return pid_of_triton(server)
    return None


def test_a_server_in_which_requests_wait_is_not_ready(tiny_repository):
    with (
        EmbeddedServer(tiny_repository) as server,
        InferenceServerClient(server.url) as triton,
        ThreadPoolExecutor(1) as elsewhere,
        Client(server.url) as client,
    ):
        ready = f"{server.http_url}/v2/health/ready"
        assert (triton.is_server_ready(), status_of(ready)) == (True, 200)
        models = list(models_of(server))
        for process in models:
            os.kill(process, signal.SIGSTOP)
        try:
            asked = elsewhere.submit(client.detect, TUMOR, timeout_s=20)
            wait_for(lambda: (triton.is_server_ready(), status_of(ready)) == (False, 503) or asked.done())
            assert triton.is_server_live()
        finally:
            for process in models:
                os.kill(process, signal.SIGCONT)
        with contextlib.suppress(GliogateError):
            asked.result()


def status_of(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.slow
def test_a_pause_of_all_processes_heals(kept):
    server, client, _ = kept
    everything = [pid_of_triton(server), *models_of(server)]
    for process in everything:
        os.kill(process, signal.SIGSTOP)
    time.sleep(4)
    for process in everything:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)

    def answers_steadily():
        with contextlib.suppress(GliogateError):
            return all(is_answered(client) for _ in range(20))
        return False

    wait_for(answers_steadily)
    server.check()


def test_a_proxy_that_is_killed_is_replaced_at_its_ports(kept):
    server, client, events = kept
    addresses = server.url, server.http_url, server.metrics_url
    os.kill(pid_of_proxy(server), signal.SIGKILL)

    wait_for(lambda: len(events) == 2)
    assert "proxy" in events[0]
    assert is_answered(client)
    assert (server.url, server.http_url, server.metrics_url) == addresses


@pytest.mark.slow
def test_an_idle_server_is_left_alone(kept):
    server, client, events = kept
    with pytest.raises(Exception, match="within"):
        client.detect(TUMOR, timeout_s=1e-3)
    time.sleep(2 * HANGS_AFTER_S)

    assert events == []
    assert is_answered(client)
    server.check()


@pytest.mark.slow
def test_one_that_cannot_start_any_more_is_given_up(tiny_repository, tmp_path, monkeypatch):
    delay = Restarts.next_delay_s
    monkeypatch.setattr(Restarts, "next_delay_s", lambda self, now: delay(self, now) and 0.0)
    repository = tmp_path / "models"
    repository.symlink_to(tiny_repository)
    events = []
    with EmbeddedServer(repository, restart=True, on_event=events.append) as server:
        repository.unlink()
        signal_triton(server, signal.SIGKILL)

        wait_for(lambda: server._running._error is not None)
        with pytest.raises(EmbeddedServerError, match=f"started again {LIMIT} times within 10 minutes"):
            server.check()
    assert len(events) == LIMIT


def test_stopping_ends_a_restart_at_once(kept):
    server, _, events = kept
    triton = pid_of_triton(server)
    signal_triton(server, signal.SIGKILL)
    wait_for(lambda: len(events) == 1)
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    stopper.join(10)

    assert not stopper.is_alive()
    with pytest.raises(ProcessLookupError):
        os.kill(triton, 0)


def test_restarts_wait_longer_and_longer_and_come_to_an_end():
    restarts = Restarts()

    assert [restarts.next_delay_s(0.0) for _ in range(LIMIT + 1)] == [0.0, 1.0, 2.0, 4.0, 8.0, None]
    assert restarts.next_delay_s(WINDOW_S + 1) == 0.0
