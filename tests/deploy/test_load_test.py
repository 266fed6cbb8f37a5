"""The load test's Job: the command of its master and of a worker, run here against a real server."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.started import ended_after

from loadtests import scenarios

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def load_test(render):
    """Renders the load test's Job and what belongs to it, by kind; the network policy is its own."""

    def load_test(scenario="loadtest", **values):
        manifests = render(scenario, **values)
        own = [each for each in manifests if "load-test" in each["metadata"]["name"]]
        return {each["kind"]: each for each in own}

    return load_test


@pytest.fixture
def start(load_test, tiny_server, tmp_path):
    """Starts a pod of the Job by its index: its container, but for addresses, and the folder of the report."""
    changes = {
        '"$JOB_NAME-0.gliogate-load-test"': "127.0.0.1",
        "/report/": f"{tmp_path}/",
    }
    port = random.randrange(20_000, 30_000)

    def start(index):
        arguments = ["--rate=5", "--duration=4", "--pool=8", "--late-ms=60000", "--timeout-s=60"]
        values = {"enabled": True, "workers": 1, "image": "registry.example/gliogate-loadtest:0.1.0"}
        job = load_test("minimal", loadTest=values | {"arguments": [*arguments, f"--master-port={port}"]})["Job"]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        shell, flags, script, *rest = container["command"]
        for before, after in changes.items():
            assert before in script
            script = script.replace(before, after)
        words = [
            f"--url={tiny_server.url}" if each.startswith("--url=") else each for each in [*rest, *container["args"]]
        ]
        named = {each["name"]: each["value"] for each in container["env"] if "value" in each}
        process = subprocess.Popen(
            [shell, flags, script, *words],
            cwd=CHECKOUT,
            env=os.environ
            | named
            | {
                "JOB_COMPLETION_INDEX": str(index),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            },
            stdout=subprocess.PIPE if index == 0 else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    with ended_after() as started:
        yield start


def test_master_and_worker_find_each_other_and_report(start, tmp_path):
    worker = start(1)
    # A master that comes again, as after the loss of its node, finds the worker too.
    for _ in range(2):
        log, _ = start(0).communicate(timeout=250)
        report = json.loads((tmp_path / "1" / "report.json").read_text())
        (stage,) = report["stages"]
        assert stage["figures"]["answered"] == stage["figures"]["requests"] > 0, log
        assert len(stage["workers"]) == 1
        assert str(tmp_path / "1" / "report.html") in log
        (tmp_path / "1" / "report.json").unlink()

    assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_the_job_is_over_when_the_master_is(load_test):
    job = load_test()["Job"]["spec"]

    assert job["completions"] == job["parallelism"] == 5
    assert job["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
    _, answered = job["podFailurePolicy"]["rules"]
    assert (answered["action"], answered["onExitCodes"]["values"]) == ("FailJob", [1, 3])


def test_workers_find_the_master_by_its_name(load_test):
    found = load_test()
    service, job = found["Service"], found["Job"]
    template = job["spec"]["template"]

    assert template["spec"]["subdomain"] == service["metadata"]["name"] == "gliogate-load-test"
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    (container,) = template["spec"]["containers"]
    names = {each["name"]: each for each in container["env"]}
    assert names["JOB_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['batch.kubernetes.io/job-name']"


def test_the_network_lets_the_load_test_in(load_test, render):
    policy, job = load_test()["NetworkPolicy"]["spec"], load_test()["Job"]["spec"]
    labels = job["template"]["metadata"]["labels"]

    assert labels["gliogate-client"] == "true"
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    (server,) = [
        each
        for each in render("loadtest")
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "gliogate"
    ]
    _, to_server, to_metrics, to_master = policy["egress"]
    assert to_server == {"to": [{"podSelector": server["spec"]["podSelector"]}], "ports": [{"port": 8001}]}
    assert to_metrics == {"to": to_server["to"], "ports": [{"port": 8002}]}
    itself = [{"podSelector": policy["podSelector"]}]
    assert {"from": itself, "ports": [{"port": "metrics"}]} in server["spec"]["ingress"]
    assert to_master == {"to": [{"podSelector": policy["podSelector"]}], "ports": [{"port": 5557}]}


def test_the_report_is_kept_where_a_claim_is_named(load_test):
    def report(**values):
        volumes = load_test(**values)["Job"]["spec"]["template"]["spec"]["volumes"]
        return next(each for each in volumes if each["name"] == "report")

    assert report() == {"name": "report", "persistentVolumeClaim": {"claimName": "reports"}}
    assert report(loadTest__reportClaim="") == {"name": "report", "emptyDir": {}}


def test_the_schema_knows_the_scenarios(chart_folder):
    schema = json.loads((chart_folder / "values.schema.json").read_text())
    known = schema["properties"]["loadTest"]["properties"]["scenarios"]["items"]["enum"]

    assert sorted(known) == sorted(scenarios.names())
