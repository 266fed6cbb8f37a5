"""Runs held against each other: what is worse is found, and what is chance is not."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from support.load_results import result_of

from loadtests.compare import FORMAT, compare, read_results, too_short
from loadtests.errors import ReportError
from loadtests.record import Outcome, Record
from loadtests.result import StageResult

REQUESTS, SECONDS = 1200, 60.0


def stage(seed, *, slower=1.0, errors=0, name="server", requests=REQUESTS):
    """A minute at 20 requests a second whose latencies are log-normal, and worse together for seconds at a time."""
    generator = np.random.Generator(np.random.PCG64(seed))
    drift = np.repeat(generator.normal(0, 0.1, requests // 40 + 1), 40)[: requests - errors]
    latencies = 0.05 * slower * np.exp(generator.normal(0, 0.3, requests - errors) + drift)
    return result_of(latencies.tolist(), errors=errors, duration_s=SECONDS, name=name)


def verdicts(before, after, **options):
    return {row.figure.name: row.verdict for row in compare([before], [after], **options)}


@pytest.mark.parametrize("seed", range(20))
def test_two_runs_of_one_server_show_no_regression(seed):
    assert "regression" not in verdicts(stage(2 * seed), stage(2 * seed + 1)).values()


@pytest.mark.parametrize("seed", range(5))
def test_a_server_that_is_a_fifth_slower_is_found(seed):
    found = verdicts(stage(seed), stage(seed + 100, slower=1.2))
    assert found["p50"] == found["p95"] == "regression"
    assert verdicts(stage(seed), stage(seed + 100, slower=1 / 1.2))["p50"] == "improvement"


def test_a_change_within_the_tolerance_is_none():
    assert verdicts(stage(1), stage(2, slower=1.2), tolerance=0.5)["p50"] == "same"


def test_errors_count_by_their_share():
    rows = {row.figure.name: row for row in compare([stage(1)], [stage(2, errors=120)])}
    assert rows["errors"].verdict == "regression"
    assert rows["errors"].change == pytest.approx(0.1)


@pytest.mark.parametrize("seconds", [5, 20])
def test_a_burst_of_errors_is_no_chance(seconds):
    burst = result_of([0.05] * REQUESTS, duration_s=SECONDS)
    failing = Record(scheduled=REQUESTS)
    for index in range(REQUESTS):
        due = SECONDS * index / REQUESTS
        error = "ServerUnavailableError" if 20 <= due < 20 + seconds else None
        failing.add(Outcome("gated", due, due, due + 0.05, 1, error=error), 0)
    [row] = [row for row in compare([burst], [StageResult(burst.stage, failing)]) if row.figure.name == "errors"]
    assert row.verdict == "regression"
    assert verdicts(burst, result_of([0.05] * (REQUESTS - 2), errors=2, duration_s=SECONDS))["errors"] == "unclear"


def test_failures_are_slower_than_any_answer():
    rows = {row.figure.name: row for row in compare([stage(1)], [stage(2, errors=REQUESTS // 10)])}
    assert (rows["p95"].after, rows["p95"].verdict) == (math.inf, "regression")
    assert (rows["p95"].to_json()["after"], rows["p95"].change) == (None, None)


def test_a_slow_tail_is_found():
    quick, slow = [0.05] * REQUESTS, [3.0 if index % 30 == 0 else 0.05 for index in range(REQUESTS)]
    found = verdicts(*(result_of(latencies, duration_s=SECONDS) for latencies in (quick, slow)))
    assert (found["p50"], found["p99"]) == ("same", "regression")


def test_a_single_pause_may_be_chance_and_is_not_called_the_same():
    pause = [max(0.05, 2 - (index - 600) / 20) if index >= 600 else 0.05 for index in range(REQUESTS)]
    found = verdicts(*(result_of(latencies, duration_s=SECONDS) for latencies in ([0.05] * REQUESTS, pause)))
    assert found["p99"] == "unclear"


def test_stages_too_short_for_their_number_are_unclear_and_it_is_told_before():
    before, after = ([result_of([took] * 40, duration_s=4.0, name=name) for name in "ab"] for took in (0.05, 0.15))
    assert {row.verdict for row in compare(before, after) if row.figure.name == "p50"} == {"unclear"}
    stages = [result.stage for result in before]
    told = "2 of 2 stages are too short to be compared, but for their errors: with 2 stages each has to last 6 s"
    assert too_short(stages).startswith(told)
    assert too_short([replace(stage, duration_s=6.0) for stage in stages]) is None


def test_fewer_calls_than_blocks_tell_nothing():
    few = [result_of([took] * 6, duration_s=5.9) for took in (1.0, 4.0)]
    before, after = (StageResult(replace(one.stage, duration_s=SECONDS), one.record) for one in few)
    few = [before, after]
    assert {row.p_value for row in compare([before], [after]) if not row.figure.is_share} == {None}
    assert verdicts(*few)["p50"] == "unclear"


def test_a_run_that_is_too_short_is_unclear():
    short = [result_of([0.05 * factor] * 40, duration_s=4.0) for factor in (1, 2)]
    assert verdicts(*short)["p50"] == "unclear"


def test_stages_are_compared_by_name():
    rows = compare([stage(1, name="a"), stage(2, name="b")], [stage(3, name="b"), stage(4, name="c")])
    assert {row.stage for row in rows} == {"b"}
    with pytest.raises(ReportError, match="nothing to compare: the baseline has the stages a, this run b"):
        compare([stage(1, name="a")], [stage(2, name="b")])


def test_another_load_under_the_same_name_is_no_baseline():
    before, after = stage(1, requests=600), stage(2)
    told = "the baseline's stage 'server' is another load: arrivals .*Flat.rate=10.0.* there, .*Flat.rate=20.0.* here"
    with pytest.raises(ReportError, match=told):
        compare([before], [after])


def test_what_is_invalid_is_no_regression():
    slower = stage(2, slower=2.0)
    slower.record.scheduled += 1
    assert set(verdicts(stage(1), slower).values()) <= {"same", "unclear"}


def test_an_earlier_run_is_read_whole(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"format": FORMAT, "stages": [stage(1).to_json()]}))
    [again] = read_results(path)
    assert again.to_json() == stage(1).to_json()
    path.write_text(json.dumps({"format": 1, "stages": []}))
    with pytest.raises(ReportError, match="is a report of format 1, expected 2: measure it anew"):
        read_results(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"stages": [{"name": "x"}]}'])
def test_what_is_no_report_is_named(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=r"report\.json: is no report\.json as these load tests write it"):
        read_results(path)


def test_a_baseline_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ReportError, match=r"none\.json: cannot be read: No such file"):
        read_results(tmp_path / "none.json")
