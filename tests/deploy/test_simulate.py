"""The simulated day: queues whose waits are known, Kubernetes' formula, and what follows from both."""

import csv
import json
import math

import numpy as np
import pytest
import yaml
from scipy.stats import poisson

from deploy.simulate.__main__ import main
from deploy.simulate.day import Plan, simulate
from deploy.simulate.load import DAY_S, Load
from deploy.simulate.pods import Pods, Service, latency_percentiles
from deploy.simulate.scaler import SYNC_S, Scaler, wanted


@pytest.fixture(scope="module")
def behavior(chart):
    return chart.values["autoscaling"]["behavior"]


@pytest.fixture
def plan(behavior):
    def plan(**changes):
        usual = {"least": 2, "most": 1000, "in_flight": 4.0, "queue_s": 0.05, "start_s": 60.0, "drain_s": 130.0}
        return Plan(**usual | {"behavior": behavior, "gpus": 1} | changes)

    return plan


def constant(rate, duration_s=DAY_S):
    return Load(np.array([0.0, duration_s]), np.array([rate, rate]))


def settled(service, rate):
    pods = Pods(service)
    for _ in range(100):
        pods.pass_time(rate, 1000.0)
    return pods


def erlang_c(servers, offered):
    """The share of requests that wait, of a queue M/M/c."""
    last = offered**servers / math.factorial(servers) / (1 - offered / servers)
    return last / (sum(offered**k / math.factorial(k) for k in range(servers)) + last)


@pytest.mark.parametrize(("servers", "use"), [(1, 0.5), (4, 0.8), (7, 0.9)])
def test_a_pod_waits_as_erlang_says(servers, use):
    service = Service(latency_s=servers / 100, throughput=100.0, queue_capacity=400)
    assert service.servers == servers

    pods = settled(service, 100 * use)

    share = erlang_c(servers, servers * use)
    assert pods.waiting == pytest.approx(share * use / (1 - use), rel=1e-6)
    assert pods.in_flight == pytest.approx(pods.waiting + servers * use, rel=1e-6)
    assert pods.probability[servers:].sum() == pytest.approx(share, rel=1e-6)
    # Of those that wait, P(W > t) = exp(-(1 - use) * throughput * t).
    (slow,) = latency_percentiles(service, pods.probability, (99.0,))
    assert slow - service.latency_s == pytest.approx(math.log(share / 0.01) / (100 * (1 - use)), rel=1e-3)


@pytest.mark.parametrize(("servers", "use"), [(1, 0.7), (4, 0.8), (7, 0.95)])
def test_service_times_that_do_not_vary_would_halve_the_wait_at_worst(servers, use):
    """M/D/c by Crommelin's recursion: after one service time, those that were in service are gone."""
    waiting = settled(Service(servers / 100, 100.0, 400), 100 * use).waiting

    arrivals = poisson.pmf(np.arange(600), servers * use)
    probability = np.eye(1, 600)[0]
    for _ in range(4000):
        left = np.r_[probability[: servers + 1].sum(), probability[servers + 1 :]]
        probability = np.convolve(left, arrivals)[:600]
    exact = probability @ np.maximum(np.arange(600) - servers, 0)

    assert exact <= waiting <= 2.05 * exact


def test_more_than_a_pod_can_do_is_refused():
    service = Service(latency_s=0.02, throughput=100.0, queue_capacity=128)

    pods = settled(service, 400.0)

    assert pods.probability[-1] == pytest.approx(1 - 100 / 400, abs=1e-6)
    assert pods.waiting == pytest.approx(128, abs=0.5)


def test_new_pods_are_empty():
    service = Service(latency_s=0.02, throughput=100.0, queue_capacity=128)
    pods = settled(service, 90.0)
    before = pods.in_flight

    pods.join(new=3, pods=1)

    assert pods.in_flight == pytest.approx(before / 4)


@pytest.mark.parametrize(
    ("pods", "ratio", "asked"),
    [(1, 2.0, 2), (2, 0.5, 1), (3, 1.09, 3), (3, 1.11, 4), (10, 0.9, 10), (10, 0.85, 9), (1000, 1.5, 1500)],
)
def test_pods_wanted_as_kubernetes_counts_them(pods, ratio, asked):
    """desired = ceil(current * metric / target), and nothing within a tenth."""
    assert wanted(pods, ratio) == asked


def test_pods_come_at_once_and_double_every_minute(behavior):
    scaler = Scaler(2, 1000, behavior)

    pods, history = 2, []
    for step in range(13):
        pods = scaler.decide(step * SYNC_S, pods, 100)
        history.append(pods)

    # The larger of two more and twice as many, of what there was a minute ago.
    assert history == [4, 4, 4, 4, 8, 8, 8, 8, 16, 16, 16, 16, 32]


def test_pods_go_after_ten_quiet_minutes_a_fifth_every_two(behavior):
    scaler = Scaler(2, 1000, behavior)
    assert scaler.decide(0.0, 100, 100) == 100

    pods, changes = 100, []
    for step in range(1, 65):
        now = scaler.decide(step * SYNC_S, pods, 2)
        if now != pods:
            changes.append((step * SYNC_S, now))
        pods = now

    assert changes == [(600.0, 80), (720.0, 64), (840.0, 51), (960.0, 40)]


def test_the_scaler_keeps_to_its_limits(behavior):
    scaler = Scaler(2, 10, behavior)
    assert scaler.decide(0.0, 8, 50) == 10
    assert scaler.decide(15.0, 10, 0) == 10


def test_a_steady_load_on_hundreds_of_pods_is_as_reckoned(plan):
    service = Service(latency_s=0.08, throughput=100.0, queue_capacity=128)
    # Each request is in a pod for 80 ms, so 50,000 a second are 4000 in flight: at 4 in a pod, 1000 pods half full.
    day = simulate(constant(50_000.0), service, plan(in_flight=4.0, gpus=2))

    assert day.most_pods == pytest.approx(1000, rel=0.11)
    assert day.requests == pytest.approx(50_000 * DAY_S, rel=1e-9)
    assert day.refused < 1e-9
    assert day.pod_hours == pytest.approx(24 * day.pods.mean(), rel=0.01)
    assert day.gpu_hours == 2 * day.pod_hours
    assert day.latency_s[0] == pytest.approx(0.08)


def test_pods_that_start_slowly_make_people_wait(plan):
    service = Service(latency_s=0.02, throughput=100.0, queue_capacity=128)
    jump = Load(np.array([0.0, 1800.0, 1810.0, 5400.0]), np.array([100.0, 100.0, 1500.0, 1500.0]))

    quick, slow = (simulate(jump, service, plan(in_flight=1.0, start_s=start_s)) for start_s in (20.0, 600.0))

    assert quick.latency_s[-1] < slow.latency_s[-1]
    assert quick.refused < slow.refused
    assert slow.p99_s.max() > 10 * service.latency_s
    # Once they are there, all is as before.
    assert slow.p99_s[-1] < 4 * service.latency_s


def test_a_lower_target_costs_more_and_answers_sooner(plan):
    service = Service(latency_s=0.05, throughput=160.0, queue_capacity=128)
    load = Load.wave(200.0, 4000.0)

    tight, loose = (simulate(load, service, plan(in_flight=target)) for target in (3.0, 7.0))

    assert tight.pod_hours > loose.pod_hours
    assert tight.latency_s[-1] < loose.latency_s[-1]


@pytest.fixture
def report(tmp_path):
    """What `python -m loadtests ramp` writes, as far as it is read."""
    stages = [
        {"is_valid": True, "stage": {"users": users}, "figures": {"mean_ms": mean_ms, "rate": rate}}
        for users, mean_ms, rate in ((1, 20.0, 50.0), (8, 64.0, 125.0), (32, 256.0, 120.0))
    ]
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"stages": stages}))
    return path


def test_the_command_tells_what_each_target_costs(report, tmp_path, capsys):
    load = tmp_path / "load.csv"
    with load.open("w", newline="") as file:
        csv.writer(file).writerows([("seconds", "rate"), (0, 100), (1800, 900), (3600, 100)])
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"autoscaling": {"maxReplicas": 30}, "accelerator": {"count": 2}}))
    page = tmp_path / "day.html"

    words = ["--report", str(report), "--load", str(load), "--values", str(values), "--in-flight", "1,2"]
    assert main([*words, "--output", str(page)]) == 0

    lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [line[0].strip() for line in lines] == ["1", "2"]
    assert [float(line[-1]) for line in lines] == pytest.approx([2 * float(line[-2]) for line in lines], abs=0.2)
    text = page.read_text()
    assert "A pod answers in 20.0 ms when nothing else is asked, and 125.0 requests a second" in text
    assert text.count("<svg") == 4
    assert "<script" not in text
    assert "src=" not in text


def test_the_table_is_told_where_the_page_cannot_be_drawn(tmp_path, capsys, caplog, monkeypatch):
    monkeypatch.setattr("deploy.simulate.__main__.page", lambda *_: 1 / 0)
    page, load = tmp_path / "day.html", tmp_path / "load.csv"
    load.write_text("seconds,rate\n0,100\n600,100\n")

    words = ["--service-ms", "20", "--throughput", "100", "--load", str(load), "--output", str(page)]
    assert main(words) == 1

    assert "pod-hours" in capsys.readouterr().out
    assert f"{page}: cannot be drawn" in caplog.text
    assert not page.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --report, or --service-ms and --throughput"),
        (["--report", "none.json"], "none.json"),
        (["--service-ms", "8", "--throughput", "900", "--in-flight", "0"], "--in-flight is 0"),
        (["--service-ms", "8", "--throughput", "900", "--max-replicas", "1"], "2 to 1 pods"),
        (["--service-ms", "8", "--throughput", "900", "--load", "LOAD"], "line 3: seconds are 0, expected from 0"),
    ],
)
def test_what_cannot_be_simulated_is_refused(words, message, tmp_path, capsys):
    (tmp_path / "load.csv").write_text("seconds,rate\n0,1\n0,2\n")

    assert main([str(tmp_path / "load.csv") if each == "LOAD" else each for each in words]) == 2

    assert message in capsys.readouterr().err


def test_the_report_is_one_of_the_load_tests(report):
    """The keys that are read are those that are written."""
    from loadtests.record import Record
    from loadtests.result import StageResult
    from loadtests.stage import Stage

    written = StageResult(Stage("1 users", 10.0, users=1), Record(), {}, 10.0).to_json()
    for stage in json.loads(report.read_text())["stages"]:
        assert stage.keys() <= written.keys()
        assert stage["stage"].keys() <= written["stage"].keys()
        assert stage["figures"].keys() <= written["figures"].keys()
