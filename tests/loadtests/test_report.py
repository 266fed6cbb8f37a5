"""The page: whole, self-contained, and right whatever there is to tell."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from support.load_results import result_of

from loadtests.arrivals import Arrivals, Steps
from loadtests.calls import DETECTOR, Mix
from loadtests.compare import compare
from loadtests.errors import ReportError
from loadtests.limit import Limit, Step
from loadtests.report import check_folder, write_report
from loadtests.report.charts import time_plot
from loadtests.result import StageResult
from loadtests.run import FoundLimit, Run
from loadtests.slo import Slo
from loadtests.stage import Stage

ENVIRONMENT = {"started": "now", "command": ["x"], "commit": None, "python": "3", "packages": {}, "cpu": "c"}
ENVIRONMENT |= {"cores": 2, "system": "s"}
MODEL = {"requests": 1, "failed": 0, "slices": 9, "executions": 5, "mean_batch": 1.8, "batches": {"1": 3, "3": 2}}
MODEL |= {"queue_ms": 1.5, "compute_infer_ms": None}
SERVER = {
    "models": {"brain_tumor": MODEL},
    "gate": {"slices": {"opened": 4.0, "shut": 5.0}, "suspicious": 3.0},
    "refused": 2.0,
    "cancelled": None,
    "gpu": [{"gpu": "GPU-1", "use": 0.5, "memory_used_bytes": 2**30, "memory_total_bytes": 2**31}],
    "breakdown": {"queue": 20.0, "detector": 30.0, "segmenter": 25.0, "gate": 5.0},
    "gaps": ["no metrics: <refused>"],
}


UPPER_EDGE = 10.0
"""Of a plot, in its own pixels."""


def run_of(*results, **options):
    return Run("server", "What?", ENVIRONMENT, settings={"url": "here"}, results=list(results), **options)


def page_of(run, folder):
    text = write_report(folder, run).read_text()
    reader = _Reader()
    reader.feed(text)
    assert reader.open_tags == []
    assert "<script" not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    return text


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open_tags = []

    def handle_starttag(self, tag, attrs):  # noqa: ARG002
        if tag not in ("meta", "img"):
            self.open_tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag, self.getpos()


@pytest.fixture
def served():
    plain = result_of([0.1] * 200, errors=2)
    return StageResult(plain.stage, plain.record, SERVER, workers=("a", "b"))


def test_everything_that_a_run_can_have_is_on_the_page(served, tmp_path):
    slower = StageResult(replace(served.stage, name="<b>fast</b>"), result_of([0.2] * 300).record, SERVER)
    steps = Step(30.0, 0), Step(33.0, 0, ("late",), is_valid=False), Step(32.0, 1), Step(34.0, 1, ("slow",), note="few")
    limit = Limit(steps, 0.05)
    run = run_of(
        served,
        slower,
        slo=Slo.parse("p99<50ms"),
        limits=[FoundLimit("rate", 0.35, limit, 31.0)],
        differences=compare([result_of([0.05] * 200, errors=2)], [served]),
        problem="the server was lost",
    )
    text = page_of(run, tmp_path)
    for told in (
        "the server was lost",
        "objective missed: p99&lt;50ms: 100.0 ms",
        "&lt;b&gt;fast&lt;/b&gt;",
        "31.0 arrivals/s",
        "Beyond it the generator fell behind",
        '33.0 /s</td><td class="bad">late</td>',
        'slow <span class="quiet">few</span>',
        "ServerUnavailableError",
        "Batch sizes of brain_tumor",
        "1.0 of 2.0 GiB used, 50% busy",
        "no metrics: &lt;refused&gt;",
        "Workers</th><td>a, b<",
        "Latency against rate",
        "Mean batch against rate",
        "Percentiles over time",
        "4 / 5, 3 suspicious<",
        "regression",
    ):
        assert told in text, told


def test_a_run_that_measured_nothing_has_a_page_all_the_same(tmp_path):
    assert "No stage was run." in page_of(run_of(problem="no server"), tmp_path)
    text = page_of(run_of(result_of([], errors=3)), tmp_path)
    assert "Nothing is known of it" in text
    assert "all of 3 requests failed: 3 ServerUnavailableError" in text
    assert "Percentiles over time" not in text


def test_what_an_older_gate_did_not_count_is_not_shown(tmp_path):
    for gate in (
        {"slices": {"opened": 4.0, "shut": 5.0}},
        {"slices": {"opened": 4.0, "shut": 5.0}, "suspicious": None},
    ):
        result = replace(result_of([0.1] * 50), server=SERVER | {"gate": gate})
        assert "4 / 5<" in page_of(run_of(result), tmp_path)


def test_only_stages_that_asked_the_same_share_a_plot(tmp_path):
    slow, fast = result_of([0.1] * 50, name="slow"), result_of([0.1] * 100, name="fast")
    assert "Latency against rate" in page_of(run_of(slow, fast), tmp_path)
    others = [
        replace(slow.stage, mix=Mix((DETECTOR,))),
        replace(slow.stage, prevalence=None),
        replace(slow.stage, arrivals=Arrivals(Steps(((1.0, 2.0), (1.0, 9.0))))),
    ]
    for stage in others:
        assert "Latency against rate" not in page_of(run_of(StageResult(stage, slow.record), fast), tmp_path)


def test_invalid_stages_are_left_out_of_the_plots_which_say_so(tmp_path):
    stages = [result_of([0.1] * count, name=f"at {count}") for count in (50, 100, 150)]
    stages[1].record.scheduled += 1
    text = page_of(run_of(*stages), tmp_path)
    assert "at 50: p99 100.0 ms" in text
    assert "at 100: p99 100.0 ms" not in text
    assert "invalid stages are left out" in text


def test_failures_are_at_the_upper_edge_of_the_percentiles_over_time():
    heights = []
    for result in (result_of([0.13] * 100), result_of([0.13] * 50, errors=50)):
        line = re.search(r'class="second line" points="([^"]+)"', str(time_plot([result])))[1]
        heights.append({float(point.partition(",")[2]) for point in line.split()})
    assert heights[1] == {UPPER_EDGE}
    assert UPPER_EDGE not in heights[0]


def test_stages_of_one_name_have_each_their_own_breakdown(served, tmp_path):
    other = StageResult(served.stage, served.record, SERVER | {"breakdown": SERVER["breakdown"] | {"queue": 12.3}})
    text = page_of(run_of(served, other), tmp_path)
    assert 'title="queue 20.0 ms"' in text
    assert 'title="queue 12.3 ms"' in text


def test_a_search_that_was_cut_short_is_on_the_page(served, tmp_path):
    limit = Limit((Step(30.0, 0), Step(60.0, 0, ("slow",))), 0.05, is_complete=False)
    found = FoundLimit("rate", 0.35, limit, 31.0)
    assert found.told.endswith("the search did not come to its end, and was between 30.0 and 60.0")
    text = page_of(run_of(served, is_search=True, limits=[found], was_interrupted=True), tmp_path)
    assert "above 30.0 arrivals/s" in text
    assert "The search did not come to its end" in text


def test_a_ramp_is_told_by_its_users(tmp_path):
    stages = [StageResult(Stage(f"{users} users", 9.0, users=users), result_of([0.1] * 50).record) for users in (1, 2)]
    text = page_of(run_of(*stages), tmp_path)
    assert "Throughput against users" in text
    assert "Latency against users" in text


def test_a_run_that_is_right_says_so(served, tmp_path):
    right = StageResult(served.stage, result_of([0.1] * 200).record)
    assert "Every request was answered, and every stage is valid; p99&lt;1s was met." in page_of(
        run_of(right, slo=Slo.parse("p99<1s")), tmp_path
    )
    assert "Every request was answered" not in page_of(run_of(served), tmp_path)


def test_json_and_csv_hold_the_figures(served, tmp_path):
    write_report(tmp_path, run_of(served))
    report = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    [row] = csv.DictReader((tmp_path / "report.csv").read_text().splitlines())
    assert report["stages"][0]["figures"]["requests"] == int(row["requests"]) == 202
    assert float(row["p50_ms"]) == pytest.approx(100, rel=1e-3)
    assert report["exit_code"] == 0


def test_a_folder_that_cannot_be_written_is_named(served, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ReportError, match=r"taken: the report cannot be written here: "):
        write_report(tmp_path / "taken", run_of(served))
    with pytest.raises(ReportError, match=r"taken: the report cannot be written here: "):
        check_folder(tmp_path / "taken")
