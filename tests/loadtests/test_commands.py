"""The command lines, as they are called: against a real Triton, and against servers of known speed and faults."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests
import trustme
from support.troubled_triton import troubled_triton

from loadtests import scenarios
from loadtests.arrivals import Arrivals, Flat
from loadtests.instant import instant_server
from loadtests.run import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_INVALID, EXIT_USAGE

CHECKOUT = Path(__file__).parents[2]
PATIENTLY = ["--pool", "8", "--late-ms", "5000"]
"""What is tested here is not how busy this machine is."""


@pytest.fixture
def output(tmp_path):
    return tmp_path / "report"


def words_for(*words, url, output):
    nowhere = ["--metrics-url", "http://127.0.0.1:9/metrics"] if "--metrics-url" not in words else []
    return [sys.executable, "-m", "loadtests", *words, "--url", url, "--output", str(output), *PATIENTLY, *nowhere]


def loadtests(*words, url, output, expected=0, **options):
    """Runs the command; returns its report and what it said on stderr.

    Where all should be well, a machine that is too busy for the schedule may have it called invalid.
    """
    command = words_for(*words, url=url, output=output)
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=250, check=False, **options)
    assert done.returncode in (expected, EXIT_INVALID if expected == 0 else expected), done.stderr
    assert "Traceback" not in done.stderr
    path = output / "report.json"
    return json.loads(path.read_text()) if path.exists() else None, done.stderr


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def of(tiny_server):
    http = tiny_server.http_url.removeprefix("http://")
    return ["--http-url", http, "--metrics-url", tiny_server.metrics_url]


def test_every_scenario_runs_against_a_real_triton(tiny_server, output):
    names = [name for name in scenarios.names() if name not in ("offline", "tour")]
    words = [*names, "--duration", "6", "--rate", "10", "--users", "2", *of(tiny_server)]
    report, _ = loadtests(*words, url=tiny_server.url, output=output)
    for stage in report["stages"]:
        assert stage["figures"]["answered"] == stage["figures"]["requests"], stage["name"]
        assert stage["figures"]["requests"] > 0 or not stage["is_valid"]
        if not stage["stage"]["warm_up_s"]:
            assert stage["server"]["models"]["brain_tumor"]["slices"] == stage["figures"]["slices"]
        assert stage["server"]["gaps"] == []
    kinds = next(stage for stage in report["stages"] if stage["name"] == "mixed")["record"]["calls"]
    assert set(kinds) <= {"gated", "detector", "always", "batch of 8"}
    rows = list(csv.DictReader((output / "report.csv").read_text().splitlines()))
    assert [row["name"] for row in rows if row["call"] == "all"] == [stage["name"] for stage in report["stages"]]
    page = (output / "report.html").read_text()
    assert all(heading in page for heading in ("Stage by stage", "Percentiles over time", "Batch sizes of brain_tumor"))
    assert "<script" not in page


def test_offline_ends_with_its_last_slice(tiny_server, output):
    report, _ = loadtests("offline", *of(tiny_server), url=tiny_server.url, output=output)
    [stage] = report["stages"]
    assert (stage["figures"]["answered"], stage["figures"]["slices"]) == (512, 512)
    assert stage["figures"]["throughput"] == pytest.approx(512 / stage["record"]["last_s"], rel=0.05)


def test_offline_is_shared_by_workers_and_goes_over_http(tiny_server, output):
    words = ["offline", "--protocol", "http", "--workers", "2", "--master-port", str(free_port()), *of(tiny_server)]
    report, _ = loadtests(*words, url=tiny_server.url, output=output)
    [stage] = report["stages"]
    assert (stage["figures"]["answered"], stage["figures"]["failed"], len(stage["clocks"])) == (512, 0, 2)


def test_http_asks_the_same(tiny_server, output):
    words = ["mixed", "--protocol", "http", "--duration", "3", "--rate", "20", *of(tiny_server)]
    report, _ = loadtests(*words, url=tiny_server.url, output=output)
    [stage] = report["stages"]
    assert stage["figures"]["failed"] == 0
    assert stage["figures"]["slices"] > stage["figures"]["requests"], "some of the calls are batches"


def test_many_users_are_followed_by_one_at_once(tiny_server, output):
    words = ["offline", "single-stream", "--duration", "2", *of(tiny_server)]
    report, _ = loadtests(*words, url=tiny_server.url, output=output)
    assert [stage["stage"]["users"] for stage in report["stages"]] == [64, 1]


def test_a_pause_is_seen_by_the_open_loop_and_missed_by_the_closed_one(tmp_path):
    """The server answers at once, but for two seconds in which nobody is answered."""
    figures = {}
    for scenario, words in {"server": ["--rate", "40", "--arrivals", "constant"], "single-stream": []}.items():
        with instant_server(pause_after_s=5.0, pause_s=2.0) as port:
            report, _ = loadtests(
                scenario, "--duration", "10", *words, url=f"127.0.0.1:{port}", output=tmp_path / scenario
            )
        [figures[scenario]] = [stage["figures"] for stage in report["stages"]]
    opened, closed = figures["server"], figures["single-stream"]
    # A fifth of those who would have come saw it: evenly from nothing to two seconds.
    assert opened["p90_ms"] > 700
    assert opened["p99_ms"] > 1500
    assert opened["max_ms"] >= 1900
    # One user saw it once, and the others who would have come were never sent.
    assert closed["max_ms"] >= 1900
    assert closed["p99_ms"] < 1000


def test_workers_share_one_schedule_and_merge_exactly(output):
    with instant_server() as port:
        words = ["server", "--rate", "30", "--duration", "5", "--seed", "7", "--workers", "3"]
        report, _ = loadtests(*words, "--master-port", str(free_port()), url=f"127.0.0.1:{port}", output=output)
    [stage] = report["stages"]
    times = Arrivals(Flat(30.0), "poisson", 7).times(5.0)
    assert stage["figures"]["requests"] == stage["record"]["scheduled"] == np.count_nonzero(times >= 1.0)
    assert len(stage["clocks"]) == 3
    assert all(clock["is_same"] for clock in stage["clocks"]), "one machine has one clock"
    seconds, _ = np.histogram(times[times >= 1.0] - 1.0, np.arange(5))
    windows = stage["record"]["windows"]
    assert [windows[str(second)]["sent"] for second in range(4)] == seconds.tolist()


def test_a_worker_that_was_told_otherwise_ends_the_run(output):
    master = ["--master-port", str(free_port())]
    with instant_server() as port:
        url = f"127.0.0.1:{port}"
        worker = subprocess.Popen([*words_for("worker", *master, url=url, output=output), "--seed", "9"], cwd=CHECKOUT)
        try:
            words = ["server", "--duration", "60", "--workers", "1", "--no-spawn-workers", *master]
            report, said = loadtests(*words, url=url, output=output, expected=EXIT_FAILED)
        finally:
            worker.terminate()
            worker.wait(60)
    assert "cannot send this: --seed is 9, the master's 0" in said
    assert "--seed is 9" in report["problem"]


def test_the_limit_of_a_server_of_known_speed_is_found(output):
    # Two threads, each of which takes 50 ms: 40 a second, and no more.
    with instant_server(work_s=0.05) as port:
        words = ["server", "--find-max", "--slo", "p50<400ms,errors<20%", "--arrivals", "constant", "--rate", "20"]
        words += ["--repeats", "1", "--resolution", "20", "--step-s", "3", "--timeout-s", "5"]
        report, told = loadtests(*words, url=f"127.0.0.1:{port}", output=output)
    [limit] = report["limits"]
    assert 15 <= limit["load"] <= 41, told
    assert not limit["is_generators"]
    assert {step["passed"] for step in limit["steps"]} == {True, False}
    assert "The limit" in (output / "report.html").read_text()


def test_ctrl_c_still_writes_the_report(output):
    with instant_server() as port:
        process = subprocess.Popen(
            words_for("soak", "--rate", "20", url=f"127.0.0.1:{port}", output=output),
            stderr=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )
        connected = f":{port:04X} "
        deadline = time.monotonic() + 60
        while connected not in _peers() and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, said
    assert "Traceback" not in said
    report = json.loads((output / "report.json").read_text())
    assert report["was_interrupted"]
    assert report["stages"][0]["figures"]["requests"] > 0
    assert "Interrupted" in (output / "report.html").read_text()


def _peers() -> str:
    """The far ends of this machine's connections, as Linux writes them."""
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return " ".join(line.split()[2] + " " for line in lines if line.split()[3] == "01")


def test_a_server_that_dies_is_told_in_the_report(output):
    with ExitStack() as stack:
        port = stack.enter_context(instant_server())
        process = subprocess.Popen(
            words_for("server", "--rate", "20", "--duration", "14", url=f"127.0.0.1:{port}", output=output),
            stderr=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )
        deadline = time.monotonic() + 60
        while f":{port:04X} " not in _peers() and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(5)
    _, said = process.communicate(timeout=120)
    assert process.returncode == EXIT_FAILED, said
    assert "Traceback" not in said
    report = json.loads((output / "report.json").read_text())
    assert "the server was lost in 'server at 20/s': no Triton answers gRPC" in report["problem"]
    assert report["stages"][0]["errors"]["ServerUnavailableError"] > 0
    assert "the server was lost" in (output / "report.html").read_text()


def test_a_regression_against_a_baseline_exits_with_1(tmp_path):
    words = ["server", "--rate", "20", "--duration", "12", "--arrivals", "constant"]
    with instant_server(work_s=0.02) as port:
        loadtests(*words, url=f"127.0.0.1:{port}", output=tmp_path / "before")
    with instant_server(work_s=0.09) as port:
        baseline = ["--baseline", str(tmp_path / "before" / "report.json")]
        url, output = f"127.0.0.1:{port}", tmp_path / "after"
        report, said = loadtests(*words, *baseline, url=url, output=output, expected=EXIT_FAILED)
    assert "server at 20/s: regression: p50 was" in said
    verdicts = {row["figure"]: row["verdict"] for row in report["differences"]}
    assert verdicts["p50"] == "regression"
    assert verdicts["errors"] == "same"


def test_a_missed_objective_exits_with_1(output):
    with instant_server(work_s=0.02) as port:
        url, words = f"127.0.0.1:{port}", ["server", "--duration", "3", "--slo", "p50<1ms"]
        report, said = loadtests(*words, url=url, output=output, expected=EXIT_FAILED)
    assert "missed: p50<1ms: " in said
    assert report["findings"][0].startswith("server at 10/s: objective missed: p50<1ms: ")


def test_nothing_answered_is_not_all_well(output):
    with instant_server(work_s=0.3) as port:
        url, words = f"127.0.0.1:{port}", ["single-stream", "--duration", "3", "--timeout-s", "0.1"]
        report, said = loadtests(*words, url=url, output=output, expected=EXIT_FAILED)
    assert "requests failed: " in said
    assert report["findings"][0].startswith("single stream: all of ")


def test_what_cannot_work_is_said_before_the_load(tmp_path, output):
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


def test_a_server_that_is_not_there_is_one_line(output):
    report, said = loadtests("server", url="127.0.0.1:9", output=output, expected=EXIT_USAGE)
    assert said.startswith("loadtests: error: no Triton answers gRPC at 127.0.0.1:9")
    assert said.count("\n") == 1
    assert report is None


def test_a_wrong_token_is_one_line(tmp_path, output):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("localhost")
    pair = (certificate.private_key_pem.bytes(), b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    with troubled_triton(grpc.ssl_server_credentials([pair])) as triton:
        triton.token = "right"  # noqa: S105
        url = triton.url.replace("127.0.0.1", "localhost")
        words, wrong = ["server", "--ca", str(tmp_path / "ca.pem")], os.environ | {"GLIOGATE_TOKEN": "wrong"}
        _, said = loadtests(*words, url=url, output=output, expected=EXIT_USAGE, env=wrong)
    assert f"loadtests: error: the server at {url} does not let this client in" in said


def test_locust_itself_runs_headless_and_counts_the_same(tiny_server, tmp_path):
    command = [Path(sys.executable).with_name("locust"), "-f", "loadtests/locustfile.py", "--headless"]
    command += ["-u", "2", "-r", "2", "-t", "5s", "--json-file", str(tmp_path / "locust"), "--report", str(tmp_path)]
    command += ["--url", tiny_server.url, *of(tiny_server), *PATIENTLY]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=120, check=False)
    assert done.returncode in (0, EXIT_INVALID), done.stderr
    [stage] = json.loads((tmp_path / "report.json").read_text())["stages"]
    # Locust writes its CSV once a second, and not at the end: only its JSON has the last answers too.
    counted = next(row for row in json.loads((tmp_path / "locust.json").read_text()) if row["name"] == "gated")
    assert stage["figures"]["requests"] == counted["num_requests"] > 0


def test_locust_runs_a_scenario_and_ends_with_it(tiny_server, tmp_path):
    command = [Path(sys.executable).with_name("locust"), "-f", "loadtests/locustfile.py", "--headless"]
    command += ["--scenario", "server", "--rate", "20", "--duration", "4", "--report", str(tmp_path)]
    command += ["--url", tiny_server.url, *of(tiny_server), *PATIENTLY]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=120, check=False)
    assert done.returncode in (0, EXIT_INVALID), done.stderr
    [stage] = json.loads((tmp_path / "report.json").read_text())["stages"]
    assert stage["name"] == "server at 20/s"
    assert stage["figures"]["answered"] == stage["figures"]["requests"] > 0


def test_locusts_web_ui_starts_and_stops_tests_with_what_was_typed_in(tmp_path):
    with instant_server() as port:
        page = f"http://127.0.0.1:{free_port()}"
        command = [Path(sys.executable).with_name("locust"), "-f", "loadtests/locustfile.py", "--report", str(tmp_path)]
        command += ["--web-host", "127.0.0.1", "--web-port", page.rpartition(":")[2], "--url", f"127.0.0.1:{port}"]
        process = subprocess.Popen([*command, *PATIENTLY], stderr=subprocess.DEVNULL, cwd=CHECKOUT)
        try:
            assert _answers(page), "no web UI within a minute"
            requests.post(f"{page}/swarm", data={"user_count": 2, "spawn_rate": 2}, timeout=10).raise_for_status()
            time.sleep(5)
            counted = requests.get(f"{page}/stats/requests", timeout=10).json()["stats"][0]["num_requests"]
            requests.post(f"{page}/stop", timeout=60).raise_for_status()
            [stage] = json.loads((tmp_path / "report.json").read_text())["stages"]
            # Stopped before all of its users are there, it is over at once, and nothing of it is in the next.
            requests.post(f"{page}/swarm", data={"user_count": 40, "spawn_rate": 0.5}, timeout=10).raise_for_status()
            time.sleep(2)
            requests.post(f"{page}/stop", timeout=15).raise_for_status()
            typed = {
                "user_count": 5,
                "spawn_rate": 5,
                "scenario": "single-stream",
                "duration_s": "2",
                "prevalence": "1",
            }
            requests.post(f"{page}/swarm", data=typed, timeout=60).raise_for_status()
            deadline = time.monotonic() + 60
            while (report := json.loads((tmp_path / "report.json").read_text()))["scenario"] == "users":
                assert time.monotonic() < deadline, "no report of the second test within a minute"
                time.sleep(0.5)
        finally:
            process.terminate()
            process.wait(60)
    assert stage["figures"]["requests"] >= counted > 0
    assert stage["stage"]["prevalence"] == 0.35
    [typed_stage] = report["stages"]
    told = typed_stage["stage"]
    assert (told["name"], told["users"], told["prevalence"], told["duration_s"]) == ("single stream", 1, 1.0, 2.0)
    # Five users would have been under way at a time.
    assert all(window["in_flight"] == 0 for window in typed_stage["record"]["windows"].values())


def _answers(page: str) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return requests.get(page, timeout=5).ok
        except requests.ConnectionError:
            time.sleep(0.3)
    return False
