"""The search as a whole: what it does about steps that say nothing, and what is left of it when it ends early."""

import pytest
from support.load_results import result_of

from loadtests.calls import Mix
from loadtests.errors import FleetError
from loadtests.result import StageResult
from loadtests.search import Plan, Search
from loadtests.settings import Settings
from loadtests.slo import Slo


class Server:
    """Bears so many arrivals a second, or answers users so fast; and is in trouble where a test wants it.

    Attributes:
        stages: those that were measured.
    """

    def __init__(self, capacity, trouble=None):
        self.capacity, self.trouble, self.stages = capacity, trouble, []

    def measure(self, stage):
        self.stages.append(stage)
        rate = stage.arrivals.profile.rate if stage.is_open else self.capacity
        took = 0.1 if rate <= self.capacity else 1.0
        result = result_of([took] * max(1, round(rate * stage.counted_s)), duration_s=stage.counted_s)
        if self.trouble:
            self.trouble(stage, result)
        lost = ("b",) if result.record.unfinished else ()
        return StageResult(stage, result.record, lost=lost)


def search(server, kind="rate", slo="p90<500ms", **plan):
    told = []
    plan = Plan(kind, Slo.parse(slo), repeats=1, step_s=2.0, step_max_s=4.0, **plan)
    return Search(plan, Settings(process="constant"), Mix(), 0.35, server.measure, told.append), told


def test_a_step_that_is_invalid_is_tried_again():
    def once(stage, result):
        result.record.scheduled += "again" not in stage.name

    found, told = search(Server(50.0, once))
    found.run()
    assert found.found.limit.load == pytest.approx(50, rel=0.1)
    assert not found.found.limit.is_generators
    assert "never sent" in told[0]
    assert told[1].strip().startswith("passed")


def test_a_generator_that_always_falls_behind_is_the_limit():
    def always(stage, result):
        result.record.scheduled += stage.arrivals.profile.rate > 20

    found, _ = search(Server(50.0, always))
    found.run()
    assert found.found.limit.is_generators
    assert found.found.limit.load <= 20


def test_a_lost_worker_ends_the_search_and_what_was_found_is_kept():
    def later(stage, result):
        result.record.unfinished = stage.arrivals.profile.rate > 20

    found, _ = search(Server(50.0, later))
    with pytest.raises(FleetError, match="workers were lost in '32/s, 35% tumor, search 1': b"):
        found.run()
    limit = found.found.limit
    assert (limit.is_complete, [step.asked for step in limit.steps]) == (False, [8.0, 16.0])


def test_a_server_that_nothing_is_slow_enough_for_is_given_up_before_steps_are_empty():
    server = Server(0.0)
    found, _ = search(server)
    found.run()
    assert found.found.limit.load == 0
    assert not found.found.limit.is_generators
    assert min(stage.arrivals.profile.rate for stage in server.stages) * 4.0 >= 5
    assert found.found.told.startswith("35% tumor: no load passed, not even ")


def test_steps_of_users_are_as_long_as_their_answers_want_it():
    def fails_from_eight_users_on(stage, result):
        result.record.unfinished = stage.users > 4

    server = Server(20.0, fails_from_eight_users_on)
    found, told = search(server, kind="users", slo="p90<500ms,errors<5%")
    with pytest.raises(FleetError):
        found.run()
    # 5 / 5% are 100 answers, at 20 a second: nobody knows before the first step, and 4 s are the most.
    assert [stage.counted_s for stage in server.stages] == [2.0, 4.0, 4.0, 4.0]
    assert "80 requests, 100 are needed: a longer --step-max-s tells more surely" in told[1]
