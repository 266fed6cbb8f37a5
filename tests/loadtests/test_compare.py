"""Runs held against each other: what is worse is found, and what is chance is not."""

import json

import numpy as np
import pytest
from load_results import result_of

from loadtests.compare import compare, read_results
from loadtests.errors import ReportError

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
    path.write_text(json.dumps({"stages": [stage(1).to_json()]}))
    [again] = read_results(path)
    assert again.to_json() == stage(1).to_json()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"stages": [{"name": "x"}]}'])
def test_what_is_no_report_is_named(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=r"report\.json: is no report\.json as these load tests write it"):
        read_results(path)


def test_a_baseline_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ReportError, match=r"none\.json: cannot be read: No such file"):
        read_results(tmp_path / "none.json")
