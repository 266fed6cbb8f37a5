"""How a stage is gone through, with stand-ins for the fleet and the server; `test_conductor.py` runs it."""

from types import SimpleNamespace

import gevent
import pytest
from locust.runners import STATE_RUNNING

from loadtests.conductor import Conductor
from loadtests.errors import FleetError
from loadtests.fleet import LocalFleet
from loadtests.record import Record
from loadtests.stage import Stage


class Fleet:
    """Sends until it is told to stop."""

    count, workers, lost, record = 1, (), (), Record()

    def __init__(self):
        self.is_over, self.begun = False, 0

    def begin(self, stage):  # noqa: ARG002
        self.is_over, self.begun = False, self.begun + 1
        return 0.0

    def stop(self):
        self.is_over = self.begun > 0


class Runner:
    """Locust's: as many users as it was told."""

    state, user_count = STATE_RUNNING, 0

    def start(self, users, spawn_rate):  # noqa: ARG002
        self.user_count = users


def conductor_of(fleet, runner, snapshot=lambda **_: {}):
    server = SimpleNamespace(snapshot=snapshot)
    return Conductor(runner, fleet, server, None, late_ms=10, ready_s=1, show=lambda *_: None)


def test_who_stops_a_stage_while_the_server_is_asked_is_heeded():
    fleet, asked = Fleet(), []

    def snapshot(**_):
        asked.append(True)
        if len(asked) == 1:
            conductor.interrupt()  # Nothing has begun: the fleet has nothing to stop.
        return {}

    conductor = conductor_of(fleet, Runner(), snapshot)
    result = conductor.measure(Stage("s", 3600.0, users=1, warm_up_s=1.0))
    assert result.was_interrupted
    assert fleet.begun == 1


def test_users_that_are_there_are_not_taken_for_those_of_the_stage():
    fleet, runner = Fleet(), Runner()
    conductor = conductor_of(fleet, runner, lambda: fleet.stop() or {})
    for _ in range(2):
        runner.user_count = 5
        gevent.spawn_later(0.1, fleet.stop)
        conductor.measure(Stage("s", 1.0, users=1))
        assert runner.user_count == 1


def test_a_fleet_that_is_gone_is_told_though_the_users_are_as_many_as_before():
    fleet, runner = Fleet(), Runner()
    fleet.count, runner.user_count = 0, 2
    with pytest.raises(FleetError, match="there are no workers any more"):
        conductor_of(fleet, runner).measure(Stage("s", 1.0, users=2))


def test_a_stage_that_this_process_cannot_send_is_told():
    def run(order):
        raise MemoryError(order.stage.name)

    driver = SimpleNamespace(run=run, prepare=lambda _: None, take=Record, stop=lambda: None)
    with pytest.raises(FleetError, match="this cannot be sent: s"):
        conductor_of(LocalFleet(driver), Runner()).measure(Stage("s", 1.0, users=1))


def test_workers_that_would_never_make_their_calls_are_told():
    fleet = Fleet()
    fleet.count = 3
    with pytest.raises(FleetError, match="'s' has 2 users, too few for 3 workers"):
        conductor_of(fleet, Runner()).measure(Stage("s", 1.0, users=2, calls=9))
