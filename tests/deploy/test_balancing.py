"""Three Tritons under load, behind the client's own balancing and behind deploy/proxy/haproxy.cfg: who goes, how."""

import contextlib
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from support.fleet import IN_FLIGHT, SIZE, Fleet, Load
from support.proxies import HAProxy
from support.tiny_networks import slices
from support.waiting import settled, wait_for
from tritonclient.grpc import InferenceServerClient, InferInput

from gliogate import Client, DeadlineExceededError, Keepalive, Retries, ServerUnavailableError

PATIENT = Retries(attempts=5, budget=1000)
"""Outlasts the second or so in which a Triton that ends refuses requests, however many."""

NO_RETRIES = Retries(attempts=1)

BUDGET_SPENT_AT_ONCE = Retries(budget=2)

TO_SPARE_S = 1.0
"""How much later than its deadline an error may come on a busy machine."""


@pytest.fixture(scope="module")
def started_fleet(tiny_repository):
    with Fleet(tiny_repository) as fleet:
        yield fleet


@pytest.fixture
def fleet(started_fleet):
    """Three servers; a test that ends in the middle leaves no gap to the next."""
    yield started_fleet
    for index in range(SIZE):
        started_fleet.revive(index)


@pytest.fixture(scope="module")
def started_proxy(started_fleet, tmp_path_factory):
    with HAProxy(started_fleet, tmp_path_factory.mktemp("haproxy")) as proxy:
        yield proxy


@pytest.fixture
def proxy(started_proxy):
    """The proxy, once it sends to all three: it takes back a server that the test before restarted after two checks."""
    wait_for(lambda: all(map(started_proxy.is_up, started_proxy.servers)))
    return started_proxy


@pytest.fixture(params=["addresses", "proxy"])
def url(request, fleet):
    """What the client is given: all three addresses, or the proxy's."""
    return fleet.urls if request.param == "addresses" else request.getfixturevalue("proxy").url


def test_each_gets_a_share(fleet, url):
    def answered() -> list[int]:
        return [fleet.answered(index) for index in range(SIZE)]

    before = settled(answered)

    with Client(url) as client, Load(client) as load:
        wait_for(lambda: len(load.answers) > 60)

    shares = [now - then for now, then in zip(settled(answered), before, strict=True)]
    assert sum(shares) == len(load.answers)
    assert min(shares) > len(load.answers) / 10
    assert not load.errors


def test_a_rolling_restart_loses_no_request(fleet, url):
    with Client(url, retries=PATIENT) as client, Load(client) as load:
        for index in range(SIZE):
            fleet.restart(index)
            fleet.wait_for_answers(5, index)

    assert not load.errors


def test_a_server_that_the_proxy_drains_costs_nobody_a_retry(fleet, proxy):
    name = proxy.servers[0]
    with Client(proxy.url, retries=NO_RETRIES) as client, Load(client) as load:
        proxy.set_state(name, "drain")
        wait_for(lambda: proxy.under_way(name) == 0)
        fleet.restart(0)
        assert fleet.answered(0) == 0
        proxy.set_state(name, "ready")
        fleet.wait_for_answers(5, 0)

    assert not load.errors


def kill_under_load(fleet: Fleet, load: Load) -> None:
    """Kills a server with requests under way, all of them perhaps, and starts it again after a while."""
    with fleet.paused(0):
        load.wait_for_one_that_waits()
        fleet.kill(0)
    fleet.wait_for_answers(20, 1, 2)
    fleet.restart(0)
    fleet.wait_for_answers(5, 0)


def test_a_server_that_is_killed_loses_no_request(fleet, url):
    with Client(url) as client, Load(client) as load:
        kill_under_load(fleet, load)

    assert not load.errors


@pytest.mark.parametrize("few", [NO_RETRIES, BUDGET_SPENT_AT_ONCE], ids=["no retries", "budget spent"])
def test_beyond_the_retry_budget_a_kill_costs_what_was_under_way_and_no_more(fleet, few):
    with Client(fleet.urls, retries=few) as client, Load(client) as load:
        kill_under_load(fleet, load)

    assert 1 <= len(load.errors) <= IN_FLIGHT
    assert all(isinstance(error, ServerUnavailableError) and error.may_retry for error in load.errors)


def test_what_a_killed_server_had_not_begun_to_answer_the_proxy_asks_elsewhere(fleet, proxy):
    name = proxy.servers[0]
    before = proxy.sent_again(name)

    with Client(proxy.url, retries=NO_RETRIES) as client, Load(client) as load:
        kill_under_load(fleet, load)

    assert proxy.sent_again(name) > before
    # One may have been begun to be answered when the server was stopped.
    assert len(load.errors) <= 1


def test_a_batch_that_no_buffer_of_the_proxy_holds_goes_through(proxy):
    batch = np.stack(list(slices(*np.linspace(0, 1, 32))))
    image = InferInput("image", list(batch.shape), "UINT8")
    image.set_data_from_numpy(batch)

    with contextlib.closing(InferenceServerClient(proxy.url)) as client:
        answer = client.infer("brain_tumor", [image], client_timeout=30)

    assert len(answer.as_numpy("tumor_mask")) == len(batch)


@contextmanager
def slowed(fleet: Fleet, index: int):
    """Lets a server work a tenth of the time, in turns shorter than any health check takes notice of."""
    ending = threading.Event()

    def run() -> None:
        while not ending.wait(0.03):
            with fleet.paused(index):
                ending.wait(0.27)

    turns = threading.Thread(target=run)
    turns.start()
    try:
        yield
    finally:
        ending.set()
        turns.join()


def test_a_server_that_is_slow_loses_no_request(fleet, url):
    with Client(url, retries=NO_RETRIES) as client, Load(client) as load, slowed(fleet, 0):
        fleet.wait_for_answers(5, 0)
        fleet.wait_for_answers(5, 1, 2)

    assert not load.errors


def test_a_server_that_is_slow_gets_fewer_requests_of_the_proxy(fleet, proxy):
    with Client(proxy.url, retries=NO_RETRIES) as client, Load(client) as load, slowed(fleet, 0):
        before = [fleet.answered(index) for index in range(SIZE)]
        fleet.wait_for_answers(60, 1, 2)
        slow, *others = [fleet.answered(index) - before[index] for index in range(SIZE)]

    assert slow < min(others) / 2
    assert not load.errors


def test_a_server_that_is_paused_costs_its_requests_their_deadline_and_the_others_answer(fleet):
    with Client(fleet.urls) as client, Load(client, timeout_s=2) as load:
        with fleet.paused(0):
            fleet.wait_for_answers(6 * IN_FLIGHT, 1, 2)
        fleet.wait_for_answers(5, 0)

    assert load.errors
    assert all(isinstance(error, DeadlineExceededError) for error in load.errors)
    assert load.slowest_s < 2 + TO_SPARE_S


def test_a_server_that_is_paused_is_left_where_somebody_looks_after_the_connection(fleet, url):
    """The client itself, with pings, or the proxy, with health checks; what was under way there is asked elsewhere."""
    with Client(url, keepalive=Keepalive(every_s=1, timeout_s=2)) as client, Load(client) as load:
        with fleet.paused(0):
            fleet.wait_for_answers(6, 1, 2)  # A third of what followed them went to the first.
            load.wait_for_those_under_way()
        fleet.wait_for_answers(5, 0)

    assert not load.errors
