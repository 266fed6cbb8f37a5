"""The chart's alerts in Prometheus: `promtool test rules` on made-up days, and a Prometheus that scrapes a Triton."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from typing import NamedTuple

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
    usual |= {"queue_ms": 5, "pending": 2, "memory": 0.5, "probed": 0, "probes_failed": 0, "given_up": 0}
    usual |= {"heads": 1, "heads_queue_ms": 5, "heads_pending": 0, "heads_rejected": 0}
    assert changes.keys() <= usual.keys()
    of = usual | changes
    gate, triton = "gliogate_requests_total", 'nv_inference_request_failure{model="brain_tumor",'
    growing = {
        f'{gate}{{outcome="answered"}}': of["answered"],
        f'{gate}{{outcome="failed"}}': of["failed"],
        f'{gate}{{outcome="cancelled"}}': of["given_up"],
        f'{gate}{{outcome="probe"}}': of["probed"],
        f'{gate}{{outcome="probe_failed"}}': of["probes_failed"],
        f'{triton}reason="BACKEND"}}': of["backend"],
        f'{triton}reason="REJECTED"}}': of["rejected"],
        f'{triton}reason="CANCELED"}}': 100,
        'nv_inference_request_success{model="brain_tumor"}': of["answered"] + of["probed"] + of["probes_failed"],
        'nv_inference_queue_duration_us{model="brain_tumor"}': of["answered"] * of["queue_ms"] * 1000,
        'nv_inference_request_success{model="brain_volume"}': of["heads"],
        'nv_inference_queue_duration_us{model="brain_volume"}': of["heads"] * of["heads_queue_ms"] * 1000,
        'nv_inference_request_failure{model="brain_volume",reason="REJECTED"}': of["heads_rejected"],
        "gliogate_request_seconds_count{}": of["answered"] + of["given_up"],
        'gliogate_request_seconds_bucket{le="2.5"}': of["answered"] + of["given_up"] - of["slow"],
        'gliogate_slices_total{decision="opened"}': of["opened"],
        'gliogate_slices_total{decision="shut"}': of["shut"],
    }
    steady = {
        'nv_inference_pending_request_count{model="brain_tumor"}': of["pending"],
        'nv_inference_pending_request_count{model="brain_volume"}': of["heads_pending"],
        "nv_gpu_memory_used_bytes{}": of["memory"],
        "nv_gpu_memory_total_bytes{}": 1,
    }
    values = {key: f"0+{each}x{minutes}" for key, each in growing.items()}
    values |= {key: f"{each}x{minutes}" for key, each in steady.items()}
    values = {key: each for key, each in values.items() if not key.startswith(tuple(without))}
    values["up{}"] = up or f"1x{minutes}"
    own = f'job="imaging/gliogate",namespace="imaging",pod="{name}"'
    return {key.replace("{", f"{{{own},").replace(",}", "}"): each for key, each in values.items()}


class Scenario(NamedTuple):
    """Some time, and what fires at its end.

    Attributes:
        minutes: how long.
        series: of all pods.
        fires: the alerts.
        spares: in a scenario where nothing fires, the alerts of whose kind something happens all the same.
    """

    minutes: int
    series: dict[str, str]
    fires: frozenset[str] = frozenset()
    spares: frozenset[str] = frozenset()


BUDGET = frozenset((FAST, SLOWLY, STEADILY))


def fires(minutes, series, *alerts):
    return Scenario(minutes, series, fires=frozenset(alerts))


def spares(minutes, series, *alerts):
    return Scenario(minutes, series, spares=frozenset(alerts))


SCENARIOS = {
    "a usual hour": spares(HOUR, pod(HOUR), *ALERTS),
    "three usual days": spares(3 * DAY, pod(3 * DAY), *ALERTS),
    "an idle night, without a request": spares(
        8 * HOUR, pod(8 * HOUR, answered=0, opened=0, shut=0, probed=6), *BUDGET, SLOW, RATE
    ),
    "all pods went away": fires(40, pod(40, up="1x30 _x10") | pod(40, "b", up="1x30 _x10"), DOWN),
    "all pods fail, for a minute": spares(31, pod(31, up="1x30 0x1"), DOWN),
    "no pod was ever up": fires(30, pod(30, up="0x30"), NEVER_UP, NOT_SERVING),
    "a first start takes its time": spares(20, pod(20, up="0x20"), DOWN, NEVER_UP, NOT_SERVING),
    "one of two pods has fallen": fires(40, pod(40) | pod(40, "b", up="1x30 0x10"), POD_FAILS),
    "a pod comes and goes": fires(40, pod(40) | pod(40, "b", up="1x5 0x5 1x5 0x1 1x5 0x1 1x5 0x1 1x20"), POD_FAILS),
    "a pod goes for good": spares(40, pod(40) | pod(40, "b", up="1x30 _x10"), DOWN, POD_FAILS, NOT_SERVING),
    "a second pod does not start": fires(30, pod(30) | pod(30, "b", up="0x30"), NOT_SERVING),
    "a second pod starts": spares(20, pod(20) | pod(20, "b", up="0x20"), POD_FAILS, NOT_SERVING),
    "a tenth fails for an hour": fires(HOUR, pod(HOUR, failed=66), *BUDGET),
    "a tenth fails in Triton, whose gate counts nothing": fires(
        HOUR, pod(HOUR, backend=66, without=["gliogate_"]), *BUDGET
    ),
    "a tenth fails in the gate, and Triton has no count of failures": fires(
        HOUR, pod(HOUR, failed=66, without=["nv_inference_request_failure"]), *BUDGET
    ),
    "all is well, and no failures are counted anywhere": spares(
        HOUR, pod(HOUR, without=["nv_inference_request_failure", "gliogate_"]), *BUDGET
    ),
    "all of a few requests fail beside probes that do not": fires(
        HOUR, pod(HOUR, answered=0, failed=0.2, probed=6), *BUDGET
    ),
    "probes fail, and nobody else asks": spares(HOUR, pod(HOUR, answered=0, probes_failed=6), *BUDGET),
    "a few probes fail beside requests that do not": spares(HOUR, pod(HOUR, answered=6, probes_failed=3), *BUDGET),
    "4% fail for six hours": fires(6 * HOUR, pod(6 * HOUR, failed=25), SLOWLY, STEADILY),
    "1% fails for two days": fires(2 * DAY, pod(2 * DAY, failed=6), STEADILY),
    "0.4% fail for three days": spares(3 * DAY, pod(3 * DAY, failed=2.4), *BUDGET),
    "two of ten requests failed": spares(HOUR, pod(HOUR, answered=0.13, failed=0.03), *BUDGET),
    "a request takes 5 s, for an hour": fires(HOUR, pod(HOUR, answered=12, slow=12), SLOW),
    "a request takes 5 s, and probes do not": fires(HOUR, pod(HOUR, answered=0.5, slow=0.5, probed=6), SLOW),
    "who asks gives up, and none waits in the queue": fires(HOUR, pod(HOUR, answered=0, given_up=12, slow=12), SLOW),
    "who asks gives up at once": spares(HOUR, pod(HOUR, answered=0, given_up=12), SLOW),
    "3% of requests take 5 s": spares(HOUR, pod(HOUR, slow=18), SLOW),
    "nobody says how long requests take": spares(HOUR, pod(HOUR, without=["gliogate_request_seconds"]), SLOW),
    "requests wait half a second": fires(HOUR, pod(HOUR, queue_ms=500), QUEUE),
    "requests wait half a second, for five minutes": spares(5, pod(5, queue_ms=500), QUEUE),
    "the queue is full": fires(HOUR, pod(HOUR, pending=128), REFUSES),
    "requests waited for too long": fires(HOUR, pod(HOUR, rejected=0.6), REFUSES),
    "the queue of heads is full": fires(HOUR, pod(HOUR, heads_pending=16), REFUSES),
    "heads waited for too long": fires(HOUR, pod(HOUR, heads_rejected=0.6), REFUSES),
    "heads alone are asked about, and wait": fires(
        HOUR, pod(HOUR, answered=0, opened=150, heads=6, heads_queue_ms=900), QUEUE
    ),
    "half of the queue is full": spares(HOUR, pod(HOUR, pending=64), REFUSES),
    "the gate opens for nearly all": fires(6 * HOUR, pod(6 * HOUR, opened=540, shut=60), RATE),
    "the gate opens for all of a few": spares(6 * HOUR, pod(6 * HOUR, opened=2, shut=0), RATE),
    "the GPU's memory is full": fires(30, pod(30, memory=0.98), MEMORY),
    "the GPU's memory is full, for ten minutes": spares(10, pod(10, memory=0.98), MEMORY),
}


def dcgm(minutes, used, names="{}"):
    """What NVIDIA's exporter shows of two slices, of our pod's and of another's, for so long.

    Args:
        minutes: how long.
        used: share of our slice's memory.
        names: the pattern of the labels `namespace` and `pod`, as Prometheus has them.
    """
    shown = {}
    for (namespace, name), share in {("imaging", "a"): used, ("training", "a"): 1}.items():
        whose = {names.format("namespace"): namespace, names.format("pod"): name, "GPU_I_PROFILE": "1g.10gb"}
        if names != "{}":
            whose |= {"namespace": "gpu-operator", "pod": "exporter"}
        labels = ",".join(f'{key}="{value}"' for key, value in whose.items())
        shown |= {
            f"DCGM_FI_DEV_FB_USED{{{labels}}}": f"{10_000 * share}x{minutes}",
            f"DCGM_FI_DEV_FB_FREE{{{labels}}}": f"{10_000 * (1 - share)}x{minutes}",
        }
    return shown


@needs("promtool")
@pytest.mark.parametrize("names", ["{}", "exported_{}"])
@pytest.mark.parametrize(("used", "firing"), [(0.98, frozenset({MEMORY})), (0.5, frozenset())])
def test_a_slices_memory_is_the_exporters_to_tell(used, firing, names, render, tmp_path):
    """Triton has no figures of it: https://github.com/triton-inference-server/server/issues/5324"""
    (resource,) = [each for each in render("mig") if each["kind"] == "PrometheusRule"]
    series = pod(30, without=["nv_gpu_"]) | dcgm(30, used, names)

    assert_fires(resource["spec"], Scenario(30, series, firing), tmp_path)


@needs("promtool")
def test_a_total_that_is_not_known_is_no_full_memory(rules, tmp_path):
    series = pod(30, memory=0.5)
    (total,) = [each for each in series if each.startswith("nv_gpu_memory_total_bytes")]

    assert_fires(rules, Scenario(30, series | {total: "0x30"}), tmp_path)


@needs("promtool")
@pytest.mark.parametrize("name", SCENARIOS)
def test_what_fires_is_what_is_wrong_and_nothing_else(name, rules, tmp_path):
    assert_fires(rules, SCENARIOS[name], tmp_path)


def assert_fires(rules, scenario, tmp_path):
    """Asks promtool whether the scenario's alerts fire at its end, and no others."""
    minutes, series, firing, _ = scenario
    # A rate takes two samples, and the shortest is over five minutes.
    step = 1 if minutes <= HOUR else 2
    evaluated = step if minutes <= HOUR else 10 if minutes <= DAY else HOUR
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
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": f"{evaluated}m", "tests": [test]}
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
    assert alerts == set.union(*[set(each.fires) for each in SCENARIOS.values()])
    # A usual time spares all of them, and tells nothing of where their bounds are.
    of_its_kind = [each.spares for name, each in SCENARIOS.items() if "usual" not in name]
    assert alerts == set.union(*map(set, of_its_kind))
    assert all(bool(each.fires) != bool(each.spares) for each in SCENARIOS.values())


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
    often = [{"name": group["name"], "rules": group["rules"]} for group in rules["groups"]]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": often}))
    configuration = {
        "global": {"evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [scrape],
    }
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

        def health():
            return {rule["health"] for group in get("rules")["groups"] for rule in group["rules"]}

        wait_for(lambda: health() == {"ok"})
        recorded = [rule["record"] for group in often for rule in group["rules"] if "record" in rule]
        assert len(recorded) == 2
        wait_for(lambda: all((value(name) or 0) > 0 for name in recorded))
