"""The search for a limit, on servers whose limit is known."""

import numpy as np
import pytest
from load_results import result_of

from loadtests.limit import Step, find_limit, judge, steady_fault, step_seconds
from loadtests.slo import Slo

FAULT = ("too slow",)


def up_to(limit):
    return lambda load, repeat: Step(load, repeat, () if load <= limit else FAULT)


@pytest.mark.parametrize("limit", [0.7, 3.0, 41.0, 55.5, 2000.0])
@pytest.mark.parametrize("start", [1.0, 8.0, 100.0])
def test_a_rate_is_found_to_the_resolution(limit, start):
    found = find_limit(up_to(limit), start=start, resolution=0.05, repeats=3)
    assert all(limit / 1.05 <= each <= limit for each in found.found)
    assert found.load == pytest.approx(limit, rel=0.05)
    assert len([step for step in found.steps if step.repeat == 0]) < 20


@pytest.mark.parametrize("limit", [1, 2, 7, 33, 250])
@pytest.mark.parametrize("start", [1, 16])
def test_users_are_whole(limit, start):
    found = find_limit(up_to(limit), start=start, resolution=0.01, repeats=2, is_whole=True)
    assert all(step.load == int(step.load) >= 1 for step in found.steps)
    assert set(found.found) == {limit} if limit < 100 else all(limit / 1.01 <= each <= limit for each in found.found)


def test_repeats_begin_where_the_first_search_ended():
    found = find_limit(up_to(50.0), start=1.0, repeats=3)
    first, second = (sum(step.repeat == repeat for step in found.steps) for repeat in (0, 1))
    assert second < first
    assert found.interval[0] <= found.load <= found.interval[1]


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
    assert (found.load, found.interval) == (0.0, (0.0, 0.0))
    assert len(found.steps) < 40
    assert find_limit(up_to(0), start=8, repeats=1, is_whole=True).found == (0.0,)


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
        (5.0, "errors<1%", 10.0),
    ],
)
def test_a_step_is_long_enough_for_its_percentile(load, slo, seconds):
    assert step_seconds(load, Slo.parse(slo), least_s=10.0, most_s=60.0) == pytest.approx(seconds)


def test_requests_that_pile_up_are_not_steady():
    growing = result_of([0.1] * 90, in_flight=[index // 3 for index in range(90)], duration_s=9.0)
    assert steady_fault(growing).startswith("not steady: 14.5 requests were under way in the middle third, 24.5 in")
    level = result_of([0.1] * 90, in_flight=[10] * 90, duration_s=9.0)
    assert steady_fault(level) is None
    assert steady_fault(result_of([0.1] * 90, in_flight=[0] * 60 + [2] * 30, duration_s=9.0)) is None


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
