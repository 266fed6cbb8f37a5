"""The search for a limit, on servers whose limit is known."""

import numpy as np
import pytest
from support.load_results import result_of

from loadtests.arrivals import Arrivals, Flat
from loadtests.limit import Limit, Step, find_limit, judge, steady_fault, step_seconds
from loadtests.record import Outcome, Record
from loadtests.result import StageResult
from loadtests.slo import Slo
from loadtests.stage import Stage

FAULT = ("too slow",)


def up_to(limit):
    return lambda load, repeat: Step(load, repeat, () if load <= limit else FAULT)


@pytest.mark.parametrize("limit", [0.7, 3.0, 41.0, 55.5, 2000.0])
@pytest.mark.parametrize("start", [1.0, 8.0, 100.0])
def test_a_rate_is_found_to_the_resolution(limit, start):
    found = find_limit(up_to(limit), start=start, resolution=0.05, repeats=3)
    assert all(limit / 1.05 <= each <= limit for each in found.found)
    assert found.load == pytest.approx(limit, rel=0.05)
    low, high = found.interval
    assert low <= limit <= high, "a server that leaves nothing to chance still has a limit between two loads"
    assert len([step for step in found.steps if step.repeat == 0]) < 20


@pytest.mark.parametrize("limit", [1, 2, 7, 33, 250])
@pytest.mark.parametrize("start", [1, 16])
def test_users_are_whole(limit, start):
    found = find_limit(up_to(limit), start=start, resolution=0.01, repeats=2, is_whole=True)
    assert all(step.load == int(step.load) >= 1 for step in found.steps)
    assert set(found.found) == {limit} if limit < 100 else all(limit / 1.01 <= each <= limit for each in found.found)


def test_no_search_knows_of_another():
    found = find_limit(up_to(50.0), start=1.0, repeats=3)
    first, *others = ([step.load for step in found.steps if step.repeat == repeat] for repeat in range(3))
    assert all(loads == first for loads in others)


def test_the_interval_holds_the_limit_of_a_noisy_server_as_often_as_it_says():
    generator, limit, held = np.random.Generator(np.random.PCG64(1)), 40.0, 0
    for _ in range(100):

        def noisy(load, repeat):
            # Near its limit the server passes or fails by chance.
            passed = load < limit * np.exp(generator.normal(0, 0.05))
            return Step(load, repeat, () if passed else FAULT)

        low, high = find_limit(noisy, start=8.0, resolution=0.02, repeats=5).interval
        held += low <= limit * 1.02 and high >= limit * 0.95
    assert held >= 90


def test_nothing_passes():
    found = find_limit(up_to(0.0), start=8.0, repeats=2)
    assert (found.load, found.interval) == (0.0, (0.0, 8 / 1024))
    assert len(found.steps) < 40
    assert min(step.load for step in find_limit(up_to(0.0), start=8.0, repeats=1, least=0.5).steps) == 0.5
    assert find_limit(up_to(0), start=8, repeats=1, is_whole=True).found == (0.0,)


def test_a_search_that_was_cut_short_tells_how_far_it_came():
    steps = find_limit(up_to(50.0), start=8.0, repeats=1).steps[:4]  # 8, 16, 32, 64
    limit = Limit(steps, 0.05, is_complete=False)
    assert (limit.brackets, limit.load, limit.interval) == (((32.0, 64.0),), 32.0, None)
    assert Limit(steps[:2]).to_json()["brackets"] == [[16.0, None]]


def test_a_limit_is_told_by_the_arrivals_that_there_were():
    steps = (Step(58.0, 0, asked=64.4), Step(70.0, 0, FAULT, asked=66.0), Step(66.0, 0, FAULT, asked=71.0))
    assert Limit(steps).brackets == ((58.0, 70.0),)
    result = result_of([0.1] * 58, duration_s=1.0)
    step = judge(result, Slo.parse("p50<1s"), 64.4, 0)
    assert (step.load, step.asked) == (58.0, 64.4)


def test_a_single_search_has_no_interval():
    assert find_limit(up_to(10.0), start=8.0, repeats=1).interval is None


def test_the_generators_own_limit_is_told_from_the_servers():
    def probe(load, repeat):
        return Step(load, repeat, () if load <= 30 else FAULT, is_valid=load <= 30)

    assert find_limit(probe, start=8.0).is_generators
    assert not find_limit(up_to(30.0), start=8.0).is_generators


@pytest.mark.parametrize(
    ("load", "slo", "seconds"),
    [
        (50.0, "p99<1s", 10.0),
        (25.0, "p99<1s", 20.0),
        (1.0, "p99<1s", 60.0),
        (100.0, "p99.9<1s", 50.0),
        (100.0, "p50<1s,errors<1%", 10.0),
        (20.0, "p50<1s,errors<1%", 25.0),
        (5.0, "errors<=0%", 60.0),
        (0.0, "p99<1s", 10.0),
    ],
)
def test_a_step_is_long_enough_for_its_percentile(load, slo, seconds):
    assert step_seconds(load, Slo.parse(slo), least_s=10.0, most_s=60.0) == pytest.approx(seconds)


def test_requests_that_pile_up_are_not_steady():
    growing = result_of([0.1] * 90, in_flight=[index // 3 for index in range(90)], duration_s=9.0)
    assert steady_fault(growing) == "not steady: requests under way grew, by 33.3% of the arrivals"
    level = result_of([0.1] * 90, in_flight=[10] * 90, duration_s=9.0)
    assert steady_fault(level) is None
    wavering = result_of([0.1] * 90, in_flight=[2 + 2 * (index // 10 % 2) for index in range(90)], duration_s=9.0)
    assert steady_fault(wavering) is None


@pytest.mark.parametrize(("capacity", "slo"), [(4.0, "p50<10s"), (4.0, "p99<10s"), (40.0, "p99<1s")])
def test_a_server_with_a_queue_and_a_loose_objective_is_not_said_to_bear_more_than_it_can(capacity, slo):
    """Two servers of a queue take a fixed time each (D/D/2): beyond what they can, the queue grows for ever."""
    slo = Slo.parse(slo)

    def probe(rate, repeat):
        seconds = step_seconds(rate, slo, least_s=10.0, most_s=60.0)
        return judge(queue_of_two(capacity, rate, seconds), slo, rate, repeat)

    found = find_limit(probe, start=capacity / 2, repeats=1, resolution=0.02)
    assert found.load == pytest.approx(capacity, rel=0.04)


def queue_of_two(capacity, rate, seconds, warm_up_s=2.0):
    """What is seen of evenly spaced arrivals at two servers, each of which answers half of `capacity` a second."""
    record, ends = Record(), []
    for index in range(int(rate * (seconds + warm_up_s))):
        due = (index + 0.5) / rate
        begin = max(due, ends[-2]) if len(ends) > 1 else due
        under_way = sum(end > due for end in ends)
        ends.append(begin + 2 / capacity)
        if due >= warm_up_s:
            due_s = due - warm_up_s
            record.add(Outcome("gated", due_s, due_s, ends[-1] - warm_up_s, 1), under_way)
            record.scheduled += 1
    arrivals = Arrivals(Flat(rate), "constant")
    return StageResult(Stage("queue", warm_up_s + seconds, arrivals, warm_up_s=warm_up_s), record)


def test_refusing_at_once_is_not_fast():
    step = judge(result_of([0.1] * 50, errors=50), Slo.parse("p99<200ms"), 10.0, 0)
    assert step.faults == ("p99<200ms: 50% failed, which counts as slower than that",)


def test_a_step_passes_if_it_is_valid_and_steady_and_keeps_to_the_slo():
    slo = Slo.parse("p99<200ms")
    assert judge(result_of([0.1] * 100), slo, 10.0, 0).passed
    assert judge(result_of([0.3] * 100), slo, 10.0, 0).faults == ("p99<200ms: 300.0 ms",)
    never_sent = result_of([0.1] * 100)
    never_sent.record.scheduled += 7
    step = judge(never_sent, slo, 10.0, 1)
    assert not step.passed
    assert not step.is_valid
    assert step.faults == ("7 of 107 requests were never sent: the generator fell behind",)
