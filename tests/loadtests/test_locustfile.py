"""`locust -f loadtests/locustfile.py`, as Locust's users call it: headless, workers, a shape, the web UI."""

import csv
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from support.started import ended_after
from support.waiting import wait_for

from loadtests.instant import instant_server
from loadtests.run import EXIT_USAGE

CHECKOUT = Path(__file__).parents[2]
LOCUST = [str(Path(sys.executable).with_name("locust")), "-f", str(CHECKOUT / "loadtests" / "locustfile.py")]
CALLS = {"gated", "detector", "always", "batch of 8"}


@pytest.fixture
def start(tmp_path):
    """Starts Locust, in an empty folder."""
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))

    def start(*words, **options):
        process = subprocess.Popen(
            [*LOCUST, "--pool", "8", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path},
            **options,
        )
        started.append(process)
        return process

    with ended_after() as started:
        yield start


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def test_headless_it_writes_locusts_own_statistics_and_nothing_else(start, tiny_server, tmp_path):
    words = ["--headless", "-u", "4", "-r", "4", "-t", "3s", "--host", tiny_server.url]
    locust = start(*words, "--csv", "run", "--json-file", "run")
    _, said = locust.communicate(timeout=120)
    assert locust.returncode == 0, said
    rows = {row["name"]: row for row in json.loads((tmp_path / "run.json").read_text())}
    assert rows.keys() == CALLS
    assert all(row["method"] == "grpc" and row["num_requests"] > 0 == row["num_failures"] for row in rows.values())
    assert rows["gated"]["num_requests"] > rows["always"]["num_requests"]
    assert {path.name for path in tmp_path.iterdir()} == {"run.json"} | {
        f"run_{name}.csv" for name in ("stats", "stats_history", "failures", "exceptions")
    }


def test_workers_follow_a_shape_with_their_masters_options_and_what_fails_is_told_by_class(start, tmp_path):
    with instant_server(work_s=0.2) as server:
        port = free_port()
        worker = start("--worker", "--master-port", port)
        words = ["--headless", "--master", "--expect-workers", "1", "--master-bind-port", port, "--csv", "run"]
        words += ["--shape", "Step", "-u", "4", "-r", "9", "-t", "6s", "--tags", "gated", "--timeout-s", "0.05"]
        master = start(*words, "--host", f"127.0.0.1:{server}")
        _, said = master.communicate(timeout=120)
        assert worker.wait(60) in (0, 1)
    assert master.returncode == 1, said
    # Locust asks the shape once a second at most, so a busy machine may leave out a step, and never takes one back.
    steps = [int(users) for users in re.findall(r"Shape test updating to (\d+) users", said)]
    assert steps == sorted(set(steps)), said
    assert (steps[0], len(steps) > 1, steps[-1] <= 4) == (1, True, True), said
    [row] = csv.DictReader((tmp_path / "run_failures.csv").read_text().splitlines())
    assert (row["Method"], row["Name"]) == ("grpc", "gated")
    assert row["Error"].startswith("DeadlineExceededError(")
    assert int(row["Occurrences"]) > 0


def test_what_cannot_be_used_is_one_line(start):
    for locust, told in (
        (start("--headless", "--prevalence", "7"), "--prevalence is 7, expected 0 to 1"),
        (start("--headless", "--host", "http://here"), "--host: 'http://here' is no address of a gRPC endpoint"),
    ):
        _, said = locust.communicate(timeout=60)
        assert locust.returncode == EXIT_USAGE
        [line] = [line for line in said.splitlines() if "ERROR" in line]
        assert told in line
        assert "Traceback" not in said


def test_the_web_ui_starts_and_stops_tests_with_what_was_typed_in(start, tmp_path):
    with instant_server() as server:
        page = f"http://127.0.0.1:{free_port()}"
        start("--web-host", "127.0.0.1", "--web-port", page.rpartition(":")[2], "--class-picker")
        wait_for(lambda: _answers(page))
        users = {"user_count": 2, "spawn_rate": 2, "user_classes": "SliceUser", "host": f"127.0.0.1:{server}"}

        def swarm(**typed):
            requests.post(f"{page}/swarm", data=users | typed, timeout=30).raise_for_status()

        def told():
            return requests.get(f"{page}/stats/requests", timeout=10).json()

        def counted():
            return sum(row["num_requests"] for row in told()["stats"] if row["name"] != "Aggregated")

        def stop():
            requests.post(f"{page}/stop", timeout=30).raise_for_status()
            wait_for(lambda: told()["state"] == "stopped")

        swarm()
        wait_for(lambda: counted() > 8)
        assert told()["user_count"] == 2
        stop()
        assert told()["errors"] == []

        swarm(shape_class="Ramp", user_count=4, spawn_rate=4, run_time="2s", timeout_s="0.0001")
        wait_for(lambda: told()["fail_ratio"] > 0)
        wait_for(lambda: told()["state"] == "stopped")  # The shape is over.

        swarm(prevalence="seven", timeout_s="10")
        wait_for(lambda: told()["state"] == "stopped")
        assert "prevalence is 'seven'" in requests.get(f"{page}/logs", timeout=10).text
    assert list(tmp_path.iterdir()) == []


def _answers(page):
    try:
        return requests.get(page, timeout=5).ok
    except requests.ConnectionError:
        return False
