"""The chart's alerts in Prometheus: `promtool test rules` on made-up days, and a Prometheus that scrapes a Triton."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request

import pytest
import yaml
from support.fleet import free_ports
from support.started import ended_after
from support.tiny_networks import slices
from support.waiting import wait_for

from gliogate import Client

ALERTS = (
    *("GliogateDown", "GliogateNeverUp", "GliogatePodFails", "GliogatePodNotServing", "GliogateErrorBudgetBurnsFast"),
    *("GliogateErrorBudgetBurnsSlowly", "GliogateErrorBudgetBurnsSteadily", "GliogateSlow", "GliogateQueueGrows"),
    *("GliogateRefusesRequests", "GliogateGateRateUnusual", "GliogateGpuMemoryFull"),
)
DOWN, NEVER_UP, POD_FAILS, NOT_SERVING, FAST, SLOWLY, STEADILY, SLOW, QUEUE, REFUSES, RATE, MEMORY = ALERTS
HOUR, DAY = 60, 24 * 60


def needs(program):
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"{program} is not installed; Debian's package prometheus has it"
    )


@pytest.fixture(scope="module")
def rules(render):
    (resource,) = [each for each in render("gpu") if each["kind"] == "PrometheusRule"]
    return resource["spec"]


def pod(minutes, name="a", up=None, without=(), **changes):
    """What a healthy pod shows for so long: by series a value for each minute, as promtool has it.

    Args:
        minutes: how long.
        name: of the pod.
        up: values of `up` in place of ones.
        without: metrics whose names begin so are not there.
        changes: what happens otherwise in each minute, or at any time, by the name in `usual`.
    """
    usual = {"answered": 600, "failed": 0, "backend": 0, "rejected": 0, "slow": 0, "opened": 150, "shut": 450}
    usual |= {"queue_ms": 5, "pending": 2, "memory": 0.5}
    assert changes.keys() <= usual.keys()
    of = usual | changes
    gate, triton = "gliogate_requests_total", 'nv_inference_request_failure{model="brain_tumor",'
    growing = {
        f'{gate}{{outcome="answered"}}': of["answered"],
        f'{gate}{{outcome="failed"}}': of["failed"],
        f'{triton}reason="BACKEND"}}': of["backend"],
        f'{triton}reason="REJECTED"}}': of["rejected"],
        f'{triton}reason="CANCELED"}}': 100,
        'nv_inference_request_success{model="brain_tumor"}': of["answered"],
        'nv_inference_queue_duration_us{model="brain_tumor"}': of["answered"] * of["queue_ms"] * 1000,
        "gliogate_request_seconds_count{}": of["answered"],
        'gliogate_request_seconds_bucket{le="2.5"}': of["answered"] - of["slow"],
        'gliogate_slices_total{decision="opened"}': of["opened"],
        'gliogate_slices_total{decision="shut"}': of["shut"],
    }
    steady = {
        'nv_inference_pending_request_count{model="brain_tumor"}': of["pending"],
        "nv_gpu_memory_used_bytes{}": of["memory"],
        "nv_gpu_memory_total_bytes{}": 1,
    }
    values = {key: f"0+{each}x{minutes}" for key, each in growing.items()}
    values |= {key: f"{each}x{minutes}" for key, each in steady.items()}
    values = {key: each for key, each in values.items() if not key.startswith(tuple(without))}
    values["up{}"] = up or f"1x{minutes}"
    own = f'job="imaging/gliogate",namespace="imaging",pod="{name}"'
    return {key.replace("{", f"{{{own},").replace(",}", "}"): each for key, each in values.items()}


SCENARIOS = {
    "a usual hour": (HOUR, pod(HOUR), set()),
    "three usual days": (3 * DAY, pod(3 * DAY), set()),
    "an idle night, without a request": (8 * HOUR, pod(8 * HOUR, answered=0, opened=0, shut=0), set()),
    "all pods went away": (40, pod(40, up="1x30 _x10") | pod(40, "b", up="1x30 _x10"), {DOWN}),
    "all pods fail, for a minute": (31, pod(31, up="1x30 0x1"), set()),
    "no pod was ever up": (30, pod(30, up="0x30"), {NEVER_UP, NOT_SERVING}),
    "a first start takes its time": (20, pod(20, up="0x20"), set()),
    "one of two pods has fallen": (40, pod(40) | pod(40, "b", up="1x30 0x10"), {POD_FAILS}),
    "a pod comes and goes": (
        40,
        pod(40) | pod(40, "b", up="1x5 0x5 1x5 0x1 1x5 0x1 1x5 0x1 1x20"),
        {POD_FAILS},
    ),
    "a pod goes for good": (40, pod(40) | pod(40, "b", up="1x30 _x10"), set()),
    "a second pod does not start": (30, pod(30) | pod(30, "b", up="0x30"), {NOT_SERVING}),
    "a second pod starts": (20, pod(20) | pod(20, "b", up="0x20"), set()),
    "a tenth fails for an hour": (HOUR, pod(HOUR, failed=66), {FAST, SLOWLY, STEADILY}),
    "a tenth fails in Triton, whose gate counts nothing": (
        HOUR,
        pod(HOUR, backend=66, without=["gliogate_"]),
        {FAST, SLOWLY, STEADILY},
    ),
    "a tenth fails in the gate, and Triton has no count of failures": (
        HOUR,
        pod(HOUR, failed=66, without=["nv_inference_request_failure"]),
        {FAST, SLOWLY, STEADILY},
    ),
    "all is well, and no failures are counted anywhere": (
        HOUR,
        pod(HOUR, without=["nv_inference_request_failure", "gliogate_"]),
        set(),
    ),
    "4% fail for six hours": (6 * HOUR, pod(6 * HOUR, failed=25), {SLOWLY, STEADILY}),
    "1% fails for two days": (2 * DAY, pod(2 * DAY, failed=6), {STEADILY}),
    "0.4% fail for three days": (3 * DAY, pod(3 * DAY, failed=2.4), set()),
    "two of ten requests failed": (HOUR, pod(HOUR, answered=0.13, failed=0.03), set()),
    "a request takes 5 s, for an hour": (HOUR, pod(HOUR, answered=12, slow=12), {SLOW}),
    "3% of requests take 5 s": (HOUR, pod(HOUR, slow=18), set()),
    "nobody says how long requests take": (HOUR, pod(HOUR, without=["gliogate_request_seconds"]), set()),
    "requests wait half a second": (HOUR, pod(HOUR, queue_ms=500), {QUEUE}),
    "requests wait half a second, for five minutes": (5, pod(5, queue_ms=500), set()),
    "the queue is full": (HOUR, pod(HOUR, pending=128), {REFUSES}),
    "requests waited for too long": (HOUR, pod(HOUR, rejected=0.6), {REFUSES}),
    "half of the queue is full": (HOUR, pod(HOUR, pending=64), set()),
    "the gate opens for nearly all": (6 * HOUR, pod(6 * HOUR, opened=540, shut=60), {RATE}),
    "the gate opens for all of a few": (6 * HOUR, pod(6 * HOUR, opened=2, shut=0), set()),
    "the GPU's memory is full": (30, pod(30, memory=0.98), {MEMORY}),
    "the GPU's memory is full, for ten minutes": (10, pod(10, memory=0.98), set()),
}
"""By name: after how many minutes what fires, of which series."""


@needs("promtool")
@pytest.mark.parametrize("name", SCENARIOS)
def test_what_fires_is_what_is_wrong_and_nothing_else(name, rules, tmp_path):
    minutes, series, firing = SCENARIOS[name]
    # Of days only the long windows are asked.
    step = 1 if minutes <= HOUR else 2 if minutes <= DAY else 20
    if step > 1:
        series = {key: thinned(values, step) for key, values in series.items()}
    samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(firing)]
    fired = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{minutes}m",
        "exp_samples": samples,
    }
    test = {
        "interval": f"{step}m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [fired],
    }
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": f"{step}m", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))

    told = subprocess.run(["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True)

    assert told.returncode == 0, told.stdout + told.stderr


def thinned(values, step):
    """One value of so many, of one course."""
    course, _, count = values.rpartition("x")
    start, plus, growth = course.partition("+")
    return f"{start}{plus}{float(growth) * step if plus else ''}x{int(count) // step}"


def test_every_alert_is_tried_with_what_fires_it_and_what_does_not(rules):
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}

    assert alerts == set(ALERTS)
    assert alerts == set.union(*[firing for _, _, firing in SCENARIOS.values()])
    # Each has another in which something of its kind happens, and all are quiet.
    assert sum(not firing for _, _, firing in SCENARIOS.values()) >= len(alerts)


@needs("prometheus")
def test_prometheus_scrapes_a_triton_and_answers_what_the_dashboard_asks(tiny_server, rules, chart_folder, tmp_path):
    (port,) = free_ports(1)
    target = urllib.parse.urlsplit(tiny_server.metrics_url)
    scrape = {
        "job_name": "imaging/gliogate",
        "scrape_interval": "200ms",
        "scrape_timeout": "200ms",
        "static_configs": [{"targets": [target.netloc], "labels": {"namespace": "imaging", "pod": "a"}}],
    }
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    configuration = {"rule_files": ["rules.yaml"], "scrape_configs": [scrape]}
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    dashboard = json.loads((chart_folder / "files" / "dashboard.json").read_text())
    expressions = {
        (panel["title"], target["legendFormat"]): target["expr"]
        .replace("$job", "imaging/gliogate")
        .replace("$__rate_interval", "1m")
        for panel in dashboard["panels"]
        for target in panel["targets"]
        if panel["title"].startswith("Latency in the gate")
    }
    command = [
        *("prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--log.level=error"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]

    def get(path, **query):
        url = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def value(expression):
        try:
            result = get("query", query=expression)["result"]
        except OSError:  # It has not started yet.
            return None
        return float(result[0]["value"][1]) if result else None

    with ended_after() as started, Client(tiny_server.url) as client:
        started.append(subprocess.Popen(command, cwd=tmp_path, text=True))
        wait_for(lambda: value('up{job="imaging/gliogate"}') == 1)
        for image in slices(0.25, 0.75) * 5:
            client.analyze(image)
            time.sleep(0.05)
        median, most = (expressions["Latency in the gate, all pods", name] for name in ("p50", "p95"))
        wait_for(lambda: (value(most) or 0) > 0)
        assert 0 < value(median) <= value(most) < 10_000
        states = {rule["health"] for group in get("rules")["groups"] for rule in group["rules"]}
    assert states <= {"ok", "unknown"}
