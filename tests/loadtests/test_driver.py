"""One process's share of a stage, with callers whose answers take as long as a test wants."""

import time

import gevent
import numpy as np
import pytest

from gliogate import ServerUnavailableError
from loadtests import driver as driving
from loadtests.arrivals import Arrivals, Flat
from loadtests.calls import DETECTOR, GATED, Answer, Mix
from loadtests.driver import Driver, Order
from loadtests.pace import Pacer
from loadtests.payloads import Phantoms
from loadtests.result import StageResult
from loadtests.stage import Stage

STEADY = Arrivals(Flat(100.0), "constant")


class Caller:
    """Answers after a while, or refuses."""

    protocol = "none"

    def __init__(self, seconds=0.0, error=None):
        self.seconds, self.error, self.asked = seconds, error, []

    def ask(self, call, pictures):
        self.asked.append((call, len(pictures)))
        gevent.sleep(self.seconds)
        if self.error:
            raise self.error
        return Answer(1, 0, 10)


class User:
    def __init__(self):
        self.told = []

    def tell(self, protocol, call, latency_s, answer, error):  # noqa: ARG002
        self.told.append((call, latency_s, answer, error))


def drive(stage, caller, *, users=1, timeout_s=5.0, index=0, count=1, stop_after_s=None):
    """Runs a stage with so many users; returns its record and the users."""
    driver, people = Driver(caller, Phantoms(2), timeout_s), [User() for _ in range(users)]

    def turn_forever(user):
        while True:
            driver.turn(user)

    greenlets = [gevent.spawn(turn_forever, user) for user in people]
    driver.prepare(stage.prevalence)
    gevent.sleep(0.01)  # Or its timers would count from before the drawing.
    if stop_after_s:
        gevent.spawn_later(stop_after_s, driver.stop)
    driver.run(Order(stage, time.monotonic() + 0.05, index, count))
    gevent.killall(greenlets)
    return driver.take(), people


def test_an_open_loop_does_not_wait_for_answers():
    record, _ = drive(Stage("s", 0.5, STEADY), Caller(seconds=60.0), timeout_s=0.1)
    assert (record.scheduled, record.sent, record.unfinished) == (50, 50, 50)
    assert record.total.corrected.count == 0


def test_a_closed_loop_does():
    record, [user] = drive(Stage("s", 0.59, users=1), Caller(seconds=0.2))
    assert record.scheduled == record.sent == len(user.told) == 3
    assert record.total.service.percentile(50) == pytest.approx(0.2, abs=0.1)


def test_a_call_that_a_closed_loop_gives_up_was_sent():
    record, _ = drive(Stage("s", 0.2, users=1), Caller(seconds=60.0), timeout_s=0.1)
    assert (record.scheduled, record.sent, record.unfinished) == (1, 1, 1)


def test_users_make_as_many_calls_as_there_are_and_the_stage_ends_then():
    began = time.monotonic()
    record, people = drive(Stage("s", 60.0, users=3, calls=7), Caller(seconds=0.01), users=3)
    assert sum(len(user.told) for user in people) == record.sent == record.answered == 7
    assert record.end_s >= record.last_s
    assert time.monotonic() - began < 10


def test_processes_share_the_calls_and_one_without_any_ends_at_once():
    stage = Stage("s", 60.0, users=1, calls=3)
    assert [drive(stage, Caller(), index=index, count=4)[0].sent for index in range(4)] == [1, 1, 1, 0]


def test_warming_up_is_not_counted():
    record, [user] = drive(Stage("s", 0.6, STEADY, warm_up_s=0.4), Caller())
    assert len(user.told) == 60
    assert record.scheduled == record.sent == 20
    assert set(record.windows) == {0}


def test_what_cannot_be_under_way_is_not_sent_and_told(monkeypatch):
    monkeypatch.setattr(driving, "MOST_IN_FLIGHT", 10)
    record, _ = drive(Stage("s", 0.5, STEADY), Caller(seconds=60.0), timeout_s=0.1)
    assert (record.scheduled, record.sent) == (50, 10)


def test_answers_count_when_they_come_whenever_they_were_asked_for():
    """Two users and a server that takes 0.3 s each: what began in the warm-up, and what ends too late, is half."""
    record, _ = drive(Stage("s", 1.0, users=2, warm_up_s=0.4), Caller(seconds=0.3), users=2)
    # Asked at 0, 0.3, 0.6 and 0.9 s; answered at 0.3, 0.6, 0.9 and 1.2 s; counted from 0.4 to 1 s.
    assert (record.sent, record.answered) == (4, 4)
    asked_after, answered_within = record.total.corrected.count, record.answered
    assert asked_after == answered_within
    assert record.end_s == pytest.approx(0.6)
    assert StageResult(Stage("s", 1.0, users=2, warm_up_s=0.4), record).figures["rate"] == pytest.approx(4 / 0.6)


def test_an_error_that_no_caller_knows_is_a_request_that_failed():
    record, [user] = drive(Stage("s", 0.1, STEADY), Caller(error=KeyError("broken")))
    assert record.scheduled == record.sent == record.total.errors["KeyError"] == 10
    assert len(user.told) == 10


def test_errors_are_told_to_locust_and_counted_by_class():
    record, [user] = drive(Stage("s", 0.1, STEADY), Caller(error=ServerUnavailableError("full", url="here")))
    assert record.total.errors == {"ServerUnavailableError": 10}
    assert all(isinstance(error, ServerUnavailableError) for *_, error in user.told)


def test_requests_that_outlive_their_stage_are_counted_once():
    driver, user = Driver(Caller(seconds=1.3), Phantoms(2), 0.05), User()

    def turn_forever():
        while True:
            driver.turn(user)

    greenlet, records = gevent.spawn(turn_forever), []
    driver.prepare(0.35)
    for _ in range(2):
        driver.run(Order(Stage("s", 0.5, STEADY), time.monotonic() + 0.05))
        records.append(driver.take())
    gevent.kill(greenlet)
    for record in records:
        # It waits for a second and a bit: the first of them are answered by then, the last are not.
        assert record.scheduled == record.sent == 50
        assert record.unfinished + record.total.corrected.count == 50
        assert record.unfinished > 0
        assert record.inherited == 0, "the next stage begins when they are gone"


def test_a_stage_that_is_stopped_counts_what_was_due_until_then():
    record, _ = drive(Stage("s", 60.0, STEADY), Caller(), stop_after_s=0.55)
    # Of the 6000 of a minute; how long half a second is, is the machine's to say.
    assert 20 < record.scheduled < 500
    assert record.sent == record.scheduled
    figures = StageResult(Stage("s", 60.0, STEADY), record).figures
    assert figures["offered_rate"] == pytest.approx(100, rel=0.05), "over the time that it lasted"


def test_what_is_due_after_a_stop_is_not_missed_while_answers_are_waited_for():
    record, _ = drive(Stage("s", 60.0, STEADY), Caller(seconds=0.9), stop_after_s=0.5)
    assert record.scheduled == record.sent < 500


def test_two_processes_make_the_calls_of_one():
    stage = Stage("s", 0.4, STEADY, mix=Mix((GATED, DETECTOR), (1, 1)), seed=3)
    alone, first, second = Caller(), Caller(), Caller()
    drive(stage, alone)
    drive(stage, first, index=0, count=2)
    drive(stage, second, index=1, count=2)
    assert [call for pair in zip(first.asked, second.asked, strict=True) for call in pair] == alone.asked


def test_the_pacer_is_never_early_and_finer_than_a_millisecond():
    pacer, late = Pacer(), []
    for _ in range(50):
        moment = time.monotonic() + 0.0013
        pacer.wait_until(moment)
        late.append(time.monotonic() - moment)
    pacer.close()
    assert min(late) >= 0
    assert np.min(late) < 0.0005


def test_the_pacer_lets_others_run_when_it_is_late():
    pacer, ran = Pacer(), []
    gevent.spawn(ran.append, True)
    pacer.wait_until(time.monotonic() - 1)
    pacer.close()
    assert ran
