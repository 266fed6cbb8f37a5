"""What is counted, merged, told and called invalid."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.load_results import result_of

from loadtests.arrivals import Arrivals, Flat
from loadtests.calls import ALWAYS, DETECTOR, GATED, Mix
from loadtests.limit import Limit, Step
from loadtests.record import Outcome, Record
from loadtests.result import StageResult
from loadtests.run import FoundLimit, Run
from loadtests.slo import Slo
from loadtests.stage import Stage


def outcomes(seed, count=300):
    generator = np.random.Generator(np.random.PCG64(seed))
    for due, took in zip(np.sort(generator.uniform(0, 9, count)), generator.exponential(0.05, count), strict=True):
        call = ("gated", "detector")[int(generator.integers(2))]
        error = "DeadlineExceededError" if generator.random() < 0.05 else None
        yield Outcome(call, due, due + 0.001, due + took, 1, int(generator.integers(2)), int(due < 3), 10, 5, error)


def test_records_of_workers_merge_into_the_one_of_all():
    together, merged = Record(), Record()
    for worker in range(3):
        part = Record(scheduled=300)
        for outcome in outcomes(worker):
            part.add(outcome, 1)
            together.add(outcome, 1)
        merged.merge(Record.from_json(json.loads(json.dumps(part.to_json()))))
    together.scheduled = 900
    first, second = merged.to_json(), together.to_json()
    assert first == second


def test_what_was_kept_before_suspicious_slices_were_counted_can_be_read():
    kept = result_of([0.1] * 9).to_json()
    for counts in kept["record"]["calls"].values():
        del counts["suspicious"]
    assert StageResult.from_json(kept).figures["suspicious"] == 0


def test_latency_counts_from_the_schedule_and_beside_it_from_the_sending():
    record = Record(scheduled=2)
    record.add(Outcome("gated", 1.0, 1.0, 1.1, 1), 0)
    record.add(Outcome("gated", 1.5, 3.0, 3.1, 1), 0)
    figures = StageResult(Stage("s", 4.0, Arrivals(Flat(1.0))), record).figures
    assert figures["p99_ms"] == pytest.approx(1600, rel=1e-3)
    assert figures["service_p99_ms"] == pytest.approx(100, rel=1e-3)
    assert figures["late_p99_ms"] == pytest.approx(1500, rel=1e-3)


def test_a_generator_that_fell_behind_is_declared_invalid_with_how_far():
    result = result_of([0.01] * 100)
    assert result.faults == []
    for _ in range(3):
        result.record.add(Outcome("gated", 5.0, 5.03, 5.04, 1), 0)
    result.record.scheduled += 3
    assert result.faults == [
        "the generator fell behind: 1% of the requests were sent more than 30.0 ms late (10 ms are allowed), "
        "the latest 30.0 ms"
    ]
    result.record.scheduled += 2
    assert result.faults[0] == "2 of 105 requests were never sent: the generator fell behind"
    assert StageResult(result.stage, Record(scheduled=9)).faults == ["no request was sent"]


def test_what_was_sent_late_and_never_answered_was_late_too():
    result = result_of([0.01] * 50)
    for _ in range(50):
        result.record.give_up(9.0, 9.5, 3)
    result.record.scheduled += 50
    assert result.figures["errors"] == 0.5
    assert result.record.windows[9].failed == 50
    assert result.faults == [
        "the generator fell behind: 1% of the requests were sent more than 500.0 ms late (10 ms are allowed), "
        "the latest 500.0 ms"
    ]


def test_a_stage_that_began_among_requests_of_another_is_invalid():
    result = result_of([0.01] * 50)
    result.record.inherited = 7
    assert result.faults == ["7 requests of earlier stages were still under way when it began"]


def test_a_lost_worker_makes_a_run_invalid():
    result = StageResult(result_of([0.1]).stage, result_of([0.1]).record, lost=("b",))
    result.record.scheduled = 0
    assert result.faults == ["worker b was lost, and what it had not yet told"]


def test_of_workers_that_were_lost_at_least_what_they_sent_was_offered():
    result = StageResult(result_of([0.1] * 200).stage, result_of([0.1] * 200).record, lost=("b",))
    result.record.scheduled = 90
    assert result.figures["offered_rate"] == result.figures["rate"] == 20.0


def test_a_stage_that_ended_early_is_measured_over_the_time_that_it_lasted():
    result = StageResult(Stage("s", 60.0, Arrivals(Flat(20.0))), result_of([0.1] * 200).record)
    result.record.end_s = 10.0
    figures = result.figures
    assert figures["offered_rate"] == figures["rate"] == figures["throughput"] == 20.0


def test_errors_and_what_was_never_answered_are_no_latencies():
    result = result_of([0.1] * 90, errors=9)
    result.record.give_up(1.0, 1.0, 0)
    result.record.scheduled = 100
    figures = result.figures
    assert (figures["requests"], figures["answered"], figures["failed"], figures["errors"]) == (100, 90, 10, 0.1)
    assert figures["max_ms"] == pytest.approx(100)


def test_failures_are_told_by_their_kind():
    result = result_of([0.1] * 90, errors=9)
    result.record.give_up(1.0, 1.0, 0)
    assert result.failures == "10 of 100 requests failed: 9 ServerUnavailableError, 1 unfinished"
    assert result_of([], errors=3).failures == "all of 3 requests failed: 3 ServerUnavailableError"
    assert result_of([0.1]).failures is None


def test_in_a_closed_loop_nothing_is_late():
    record = result_of([0.1] * 9).record
    figures = StageResult(Stage("s", 9.0, users=1), record).figures
    assert (figures["late_p99_ms"], figures["offered_rate"]) == (None, None)


@pytest.mark.parametrize(
    ("counted", "errors", "doubt"),
    [
        (1000, 0, None),
        (900, 0, None),
        (1100, 0, None),
        (500, 0, "500 slices were counted by the server that was asked, 1000 answered: others answered too"),
        (2000, 0, "2000 slices were counted by the server that was asked, 1000 answered: somebody else sends"),
        (2000, 500, None),
    ],
)
def test_a_view_that_is_not_of_these_requests_is_doubted(counted, errors, doubt):
    result = result_of([0.1] * 1000, errors=errors)
    told = StageResult(result.stage, result.record, {"models": {"brain_tumor": {"slices": counted}}}).doubt
    assert told is None if doubt is None else told.startswith(doubt)


def test_a_server_whose_mean_is_above_the_clients_leaves_nothing_to_the_network():
    result = result_of([0.1] * 50)
    told = StageResult(result.stage, result.record, {"breakdown": {"queue": 120.0}}).breakdown
    assert told == {"generator": 0.0, "network": None, "queue": 120.0}


def test_where_the_time_went_adds_up_to_the_mean_request():
    result = result_of([0.1] * 50)
    inside = {"queue": 20.0, "detector": 30.0, "segmenter": 25.0, "gate": 5.0}
    told = StageResult(result.stage, result.record, {"breakdown": inside})
    assert told.breakdown == {"generator": 0.0, "network": pytest.approx(20.0), **inside}
    assert sum(told.breakdown.values()) == pytest.approx(told.figures["mean_ms"])
    assert StageResult(result.stage, result.record, {"breakdown": None}).breakdown is None


def test_a_stage_survives_a_file():
    result = StageResult(
        Stage("s", 9.0, Arrivals(Flat(3.0)), mix=Mix((GATED, DETECTOR, ALWAYS), (2, 1, 1))),
        result_of([0.1, 0.2]).record,
        {"gaps": []},
        workers=("a", "b"),
    )
    again = StageResult.from_json(json.loads(json.dumps(result.to_json())))
    assert again.to_json() == result.to_json()
    assert again.stage == result.stage


def test_calls_are_mixed_by_their_weights_and_the_seed():
    mix = Mix((GATED, DETECTOR), (3, 1))
    drawn = mix.draw(10_000, seed=1)
    assert np.mean(drawn == 0) == pytest.approx(0.75, abs=0.02)
    np.testing.assert_array_equal(drawn, mix.draw(10_000, seed=1))


def run_of(*results, **options):
    return Run("server", "?", {}, results=list(results), **options)


def test_the_exit_code_is_the_verdict():
    good, slow = result_of([0.1] * 100), result_of([0.4] * 100)
    invalid = result_of([0.1] * 100)
    invalid.record.scheduled += 1
    slo = Slo.parse("p99<250ms")
    assert run_of(good, slo=slo).exit_code == 0
    assert run_of(slow, slo=slo).exit_code == 1
    assert run_of(slow, slo=slo).findings == ["stage: objective missed: p99<250ms: 400.0 ms"]
    assert run_of(invalid, slo=slo).exit_code == 3
    assert run_of(slow, invalid, slo=slo, is_search=True).exit_code == 0
    passed, failed = Step(8.0, 0), Step(16.0, 0, ("slow",))
    for steps, code in {
        (passed, failed): 0,
        (failed,): 1,
        (passed, replace(failed, is_valid=False)): 3,
        (replace(failed, is_valid=False),): 3,
    }.items():
        limits = [FoundLimit("rate", 0.35, Limit(steps))]
        assert run_of(slow, slo=slo, is_search=True, limits=limits).exit_code == code
    assert run_of(good, problem="the server was lost").exit_code == 1
    nothing = result_of([], errors=3)
    assert run_of(good, nothing).exit_code == 1
    assert run_of(good, nothing).findings == ["stage: all of 3 requests failed: 3 ServerUnavailableError"]
    assert run_of(good, was_interrupted=True).exit_code == 130
