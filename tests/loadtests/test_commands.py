"""`python -m loadtests`, as it is called: against a real Triton, and against servers of known speed and faults."""

import csv
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme
from support.load_results import result_of
from support.troubled_triton import troubled_triton
from support.waiting import wait_for

from loadtests import scenarios
from loadtests.arrivals import Arrivals, Flat
from loadtests.instant import instant_server
from loadtests.report import write_report
from loadtests.result import StageResult
from loadtests.run import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_INVALID, EXIT_USAGE, Run
from loadtests.settings import Settings
from reports.environment import environment

CHECKOUT = Path(__file__).parents[2]
PATIENTLY = ["--pool", "8", "--late-ms", "5000"]
"""What is tested here is not how busy this machine is."""

MORE_THAN_A_WARM_UP = 40
"""Requests at 20 a second; the warm-up takes a second."""

PAGELESS = """
import sys
from loadtests import __main__ as loadtests
from loadtests.report import page

page.__file__ = "/nowhere/page.py"
sys.exit(loadtests.main(sys.argv[1:]))
"""


@pytest.fixture
def output(tmp_path):
    return tmp_path / "report"


@pytest.fixture
def loadtests(load_commands, output):
    """Runs a command; returns its report and what it said on stderr.

    Where all should be well, a machine that is too busy for the schedule may have it called invalid.
    """

    def run(*words, url, output=output, expected=0, **variables):
        code, _, said = load_commands.run(words_for(*words, url=url, output=output), variables)
        assert code in (expected, EXIT_INVALID if expected == 0 else expected), said
        assert "Traceback" not in said
        path = output / "report.json"
        return json.loads(path.read_text()) if path.exists() else None, said

    return run


def words_for(*words, url, output):
    nowhere = ["--metrics-url", "http://127.0.0.1:9/metrics"] if "--metrics-url" not in words else []
    return [*words, "--url", url, "--output", str(output), *PATIENTLY, *nowhere]


def start(*words, url, output, **options):
    """Starts a command in a process of its own."""
    command = [sys.executable, "-m", "loadtests", *words_for(*words, url=url, output=output)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT, **options)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def of(tiny_server):
    http = tiny_server.http_url.removeprefix("http://")
    return ["--http-url", http, "--metrics-url", tiny_server.metrics_url]


def test_every_scenario_runs_against_a_real_triton(tiny_server, loadtests, output):
    others = [name for name in scenarios.names() if name not in ("offline", "single-stream", "tour")]
    # Many users are followed by one, at once.
    words = ["offline", "single-stream", *others, "--duration", "1", "--rate", "20", "--users", "2", *of(tiny_server)]
    report, _ = loadtests(*words, url=tiny_server.url)
    assert [stage["stage"]["users"] for stage in report["stages"][:2]] == [64, 1]
    for stage in report["stages"]:
        assert stage["figures"]["answered"] == stage["figures"]["requests"], stage["name"]
        assert stage["figures"]["requests"] > 0 or not stage["is_valid"]
        if not stage["stage"]["warm_up_s"]:
            assert stage["server"]["models"]["brain_tumor"]["slices"] == stage["figures"]["slices"]
        assert stage["server"]["gaps"] == []
        assert stage["workers"] == []
    kinds = next(stage for stage in report["stages"] if stage["name"] == "mixed")["record"]["calls"]
    assert set(kinds) <= {"gated", "detector", "always", "batch of 8"}
    rows = list(csv.DictReader((output / "report.csv").read_text().splitlines()))
    assert [row["name"] for row in rows if row["call"] == "all"] == [stage["name"] for stage in report["stages"]]
    page = (output / "report.html").read_text()
    assert all(heading in page for heading in ("Stage by stage", "Percentiles over time", "Batch sizes of brain_tumor"))
    assert "<script" not in page


def test_offline_is_shared_by_workers_and_goes_over_http(tiny_server, loadtests):
    words = ["offline", "--protocol", "http", "--workers", "2", "--master-port", str(free_port()), *of(tiny_server)]
    report, _ = loadtests(*words, url=tiny_server.url)
    [stage] = report["stages"]
    assert (stage["figures"]["answered"], stage["figures"]["failed"], len(stage["workers"])) == (512, 0, 2)


def test_http_asks_the_same(tiny_server, loadtests):
    words = ["mixed", "--protocol", "http", "--duration", "2", "--rate", "20", *of(tiny_server)]
    report, _ = loadtests(*words, url=tiny_server.url)
    [stage] = report["stages"]
    assert stage["figures"]["failed"] == 0
    assert stage["figures"]["slices"] > stage["figures"]["requests"], "some of the calls are batches"


def test_a_pause_is_seen_by_the_open_loop_and_missed_by_the_closed_one(loadtests, output, tmp_path):
    """The server answers at once, but for a second in which nobody is answered."""
    pause = {"pause_after_s": 2.0, "pause_s": 1.0}
    with instant_server(**pause) as one, instant_server(**pause) as other:
        words = ["server", "--duration", "5", "--rate", "40", "--arrivals", "constant"]
        beside = start(*words, url=f"127.0.0.1:{one}", output=output)
        report, _ = loadtests("single-stream", "--duration", "5", url=f"127.0.0.1:{other}", output=tmp_path / "closed")
        _, said = beside.communicate(timeout=60)
    assert beside.returncode in (0, EXIT_INVALID), said
    [closed] = [stage["figures"] for stage in report["stages"]]
    [opened] = [stage["figures"] for stage in json.loads((output / "report.json").read_text())["stages"]]
    # A quarter of those who would have come saw it: evenly from nothing to a second.
    assert opened["p90_ms"] > 400
    assert opened["p99_ms"] > 750
    assert opened["max_ms"] >= 950
    # One user saw it once, and the others who would have come were never sent.
    assert closed["max_ms"] >= 950
    assert closed["p99_ms"] < 500


def test_workers_share_one_schedule_and_merge_exactly(loadtests):
    with instant_server() as port:
        words = ["server", "--rate", "40", "--duration", "4", "--seed", "7", "--workers", "2"]
        report, _ = loadtests(*words, "--master-port", str(free_port()), url=f"127.0.0.1:{port}")
    [stage] = report["stages"]
    times, warm_up_s = Arrivals(Flat(40.0), "poisson", 7).times(4.0), stage["stage"]["warm_up_s"]
    assert stage["figures"]["requests"] == stage["record"]["scheduled"] == np.count_nonzero(times >= warm_up_s)
    assert len(stage["workers"]) == 2
    seconds, _ = np.histogram(times[times >= warm_up_s] - warm_up_s, np.arange(5))
    windows = stage["record"]["windows"]
    assert [windows[str(second)]["sent"] for second in range(3)] == seconds[:3].tolist()


def test_a_worker_that_was_told_otherwise_ends_the_run(loadtests, output):
    master = ["--master-port", str(free_port())]
    with instant_server() as port:
        url = f"127.0.0.1:{port}"
        worker = start("worker", *master, "--seed", "9", url=url, output=output)
        try:
            words = ["server", "--duration", "60", "--workers", "1", "--no-spawn-workers", *master]
            report, said = loadtests(*words, url=url, expected=EXIT_FAILED)
        finally:
            worker.terminate()
            worker.communicate(timeout=60)
    assert "cannot send this: --seed is 9, the master's 0" in said
    assert "--seed is 9" in report["problem"]


def test_the_limit_of_a_server_of_known_speed_is_found(loadtests, output):
    # Two threads, each of which takes 50 ms: 40 a second, and no more.
    with instant_server(work_s=0.05) as port:
        words = ["server", "--find-max", "--slo", "p50<300ms,errors<20%", "--arrivals", "constant", "--rate", "25"]
        words += ["--repeats", "1", "--resolution", "45", "--step-s", "1", "--timeout-s", "5"]
        report, told = loadtests(*words, url=f"127.0.0.1:{port}")
    [limit] = report["limits"]
    assert 15 <= limit["load"] <= 41, told
    assert not limit["is_generators"]
    assert {step["passed"] for step in limit["steps"]} == {True, False}
    assert "The limit" in (output / "report.html").read_text()


def test_ctrl_c_still_writes_the_report(output):
    with troubled_triton() as triton:
        process = start("soak", "--rate", "20", url=triton.url, output=output)
        wait_for(lambda: len(triton.requests) > MORE_THAN_A_WARM_UP)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, said
    assert "Traceback" not in said
    report = json.loads((output / "report.json").read_text())
    assert report["was_interrupted"]
    assert report["stages"][0]["figures"]["requests"] > 0
    assert "Interrupted" in (output / "report.html").read_text()


def test_a_server_that_dies_is_told_in_the_report(output):
    with troubled_triton() as triton:
        words = ["server", "--rate", "20", "--duration", "4", "--timeout-s", "2"]
        process = start(*words, url=triton.url, output=output)
        wait_for(lambda: len(triton.requests) > MORE_THAN_A_WARM_UP)
    _, said = process.communicate(timeout=120)
    assert process.returncode == EXIT_FAILED, said
    assert "Traceback" not in said
    report = json.loads((output / "report.json").read_text())
    assert "the server was lost in 'server at 20/s': no Triton answers gRPC" in report["problem"]
    assert report["stages"][0]["errors"]["ServerUnavailableError"] > 0
    assert "the server was lost" in (output / "report.html").read_text()


def test_a_regression_against_a_baseline_exits_with_1(loadtests, tmp_path):
    settings = Settings(rate=20.0, duration_s=6.0, process="constant")
    [stage] = scenarios.stages("server", settings)
    before = StageResult(stage, result_of([0.02] * 100, duration_s=stage.counted_s).record)
    write_report(tmp_path / "before", Run("server", "", environment(()), results=[before]))
    words = ["server", "--rate", "20", "--duration", "6", "--arrivals", "constant"]
    baseline = ["--baseline", str(tmp_path / "before" / "report.json")]
    with instant_server(work_s=0.09) as port:
        report, said = loadtests(*words, *baseline, url=f"127.0.0.1:{port}", expected=EXIT_FAILED)
    assert "server at 20/s: regression: p50 was" in said
    verdicts = {row["figure"]: row["verdict"] for row in report["differences"]}
    assert verdicts["p50"] == "regression"
    assert verdicts["errors"] == "same"


def test_a_missed_objective_exits_with_1(loadtests):
    with instant_server(work_s=0.02) as port:
        words = ["server", "--duration", "2", "--slo", "p50<1ms"]
        report, said = loadtests(*words, url=f"127.0.0.1:{port}", expected=EXIT_FAILED)
    assert "missed: p50<1ms: " in said
    assert report["findings"][0].startswith("server at 10/s: objective missed: p50<1ms: ")


def test_nothing_answered_is_not_all_well(loadtests):
    with instant_server(work_s=0.6) as port:
        words = ["single-stream", "--duration", "2", "--timeout-s", "0.3"]
        report, said = loadtests(*words, url=f"127.0.0.1:{port}", expected=EXIT_FAILED)
    assert "requests failed: " in said
    assert report["findings"][0].startswith("single stream: all of ")


def test_what_cannot_work_is_said_before_the_load(loadtests, tmp_path, output):
    (tmp_path / "taken").write_text("a file")
    with instant_server() as port, socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        url, master = f"127.0.0.1:{port}", str(busy.getsockname()[1])
        for words, folder, told in (
            (["server"], tmp_path / "taken", "taken: the report cannot be written here"),
            (["server", "--slo", ""], output, "--slo: cannot read ''"),
            (["server", "step", "--find-max", "--slo", "p99<1s"], output, "--find-max is of one scenario"),
            (["server", "--workers", "1", "--master-port", master], output, "--master-port: cannot listen there"),
            (["ramp", "--users", "0"], output, "--users is 0, expected above 0"),
        ):
            _, said = loadtests(*words, url=url, output=folder, expected=EXIT_USAGE)
            assert told in said
            assert said.count("\n") == 1, said


def test_a_server_that_is_not_there_is_one_line(loadtests):
    report, said = loadtests("server", "--timeout-s", "0.5", url="127.0.0.1:9", expected=EXIT_USAGE)
    assert said.startswith("loadtests: error: no Triton answers gRPC at 127.0.0.1:9")
    assert said.count("\n") == 1
    assert report is None


def test_a_wrong_token_is_one_line(loadtests, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("localhost")
    pair = (certificate.private_key_pem.bytes(), b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    with troubled_triton(grpc.ssl_server_credentials([pair])) as triton:
        triton.token = "right"  # noqa: S105
        url = triton.url.replace("127.0.0.1", "localhost")
        words = ["server", "--ca", str(tmp_path / "ca.pem")]
        _, said = loadtests(*words, url=url, expected=EXIT_USAGE, GLIOGATE_TOKEN="wrong")  # noqa: S106
    assert f"loadtests: error: the server at {url} does not let this client in" in said


def test_the_figures_of_a_run_whose_page_cannot_be_drawn_are_kept(output):
    """The template is gone, as nothing else here can be; the exit code is that of the run."""
    with instant_server(work_s=0.01) as port:
        words = words_for("server", "--duration", "1", "--slo", "p50<1ms", url=f"127.0.0.1:{port}", output=output)
        command = [sys.executable, "-c", PAGELESS, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=CHECKOUT, check=False)
    assert done.returncode == EXIT_FAILED, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{output / 'report.html'}: cannot be drawn" in done.stderr
    assert done.stdout.strip() == str(output / "report.json")
    assert json.loads((output / "report.json").read_text())["exit_code"] == EXIT_FAILED
    assert {path.name for path in output.iterdir()} == {"report.json", "report.csv"}
