"""Alerts and dashboard: PromQL that parses, about metrics that there are."""

import ast
import json
import re

import promql_parser
import pytest

from gliogate.contract import ENSEMBLE, MODELS, VOLUME

GPU_METRICS = {
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_power_limit",
    "nv_gpu_power_usage",
    "nv_gpu_utilization",
}
"""Of docs/user_guide/metrics.md in github.com/triton-inference-server/server."""
DCGM_METRICS = {"DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_USED", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"}
"""Of etc/default-counters.csv in github.com/NVIDIA/dcgm-exporter."""
PROMETHEUS_METRICS = {"up"}
SUMMARIES = {"nv_inference_request_summary_us"}
"""Which Triton has when it is started as the chart does; see test_serving."""


def metric_names(query):
    """Returns the names in a query; raises ValueError where it is no PromQL."""
    names = set()

    def enter(node):
        if isinstance(node, promql_parser.VectorSelector):
            names.add(node.name)
        return True

    promql_parser.walk(promql_parser.parse(query), enter)
    return names


@pytest.fixture(scope="module")
def rules(render):
    (resource,) = [each for each in render("gpu") if each["kind"] == "PrometheusRule"]
    return [rule for group in resource["spec"]["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def dashboard(chart_folder):
    return json.loads((chart_folder / "files" / "dashboard.json").read_text())


@pytest.fixture(scope="module")
def queries(rules, dashboard, render):
    (scaled,) = [each for each in render("keda") if each["kind"] == "ScaledObject"]
    of_dashboard = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [
        *[rule["expr"] for rule in rules],
        *[trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"] if trigger["name"] != "wake"],
        # What Grafana puts in.
        *[query.replace("$__rate_interval", "1m").replace("$job", "imaging/gliogate") for query in of_dashboard],
    ]


def test_every_metric_asked_for_is_one_that_triton_has(queries, tiny_server, metrics_of):
    names = set.union(*map(metric_names, queries))

    assert {"nv_inference_count", "nv_gpu_memory_used_bytes", "up"} <= names
    assert names <= metrics_of(tiny_server.metrics_url) | GPU_METRICS | DCGM_METRICS | PROMETHEUS_METRICS | SUMMARIES


def test_every_model_asked_about_is_served(queries):
    asked = {model for query in queries for model in re.findall('model="([^"]+)"', query)}

    assert asked
    assert asked <= {model.name for model in MODELS}


def test_every_query_is_about_this_release_only(queries):
    for query in queries:
        selectors = re.findall(r"\w+\{([^}]*)\}", query)
        assert selectors
        assert all('job="imaging/gliogate"' in selector for selector in selectors)


def test_the_podmonitor_gives_that_job_name(render):
    (monitor,) = [each for each in render("gpu") if each["kind"] == "PodMonitor"]

    assert f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}" == "imaging/gliogate"
    assert "jobLabel" not in monitor["spec"]


def test_the_hpa_goes_by_what_is_recorded(rules, render):
    (scaler,) = [each for each in render("hpa") if each["kind"] == "HorizontalPodAutoscaler"]

    wanted = {metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]}
    assert wanted == {rule["record"] for rule in rules if "record" in rule}


def test_alerts_say_where_to_read_on_if_that_is_anywhere(render, rules):
    page = "https://wiki.example/gliogate"
    (resource,) = [
        each for each in render("gpu", monitoring__rules__runbookUrl=page) if each["kind"] == "PrometheusRule"
    ]
    alerts = [rule for group in resource["spec"]["groups"] for rule in group["rules"] if "alert" in rule]

    assert [rule["annotations"]["runbook_url"] for rule in alerts] == [f"{page}#{a['alert'].lower()}" for a in alerts]
    assert not any("runbook_url" in rule.get("annotations", {}) for rule in rules)


def test_a_latency_objective_is_an_edge_of_the_gates_histogram(chart_folder):
    schema = json.loads((chart_folder / "values.schema.json").read_text())
    latency = schema["properties"]["monitoring"]["properties"]["rules"]["properties"]["latency"]
    source = (chart_folder.parents[2] / "gate" / "counters.py").read_text()
    (edges,) = re.findall(r"^SECONDS = (.*)$", source, re.MULTILINE)

    assert latency["properties"]["seconds"]["enum"] == list(ast.literal_eval(edges))


@pytest.mark.parametrize("seconds", [0.01, 1, 2.5, 10])
def test_an_edge_is_found_whether_prometheus_writes_1_or_1_0(render, seconds):
    values = {"monitoring__rules__latency__seconds": seconds}
    (resource,) = [each for each in render("gpu", **values) if each["kind"] == "PrometheusRule"]
    rules = [rule for group in resource["spec"]["groups"] for rule in group["rules"]]
    (slow,) = [rule["expr"] for rule in rules if rule.get("alert") == "GliogateSlow"]
    (pattern,) = {ast.literal_eval(f'"{each}"') for each in re.findall(r'le=~"([^"]*)"', slow)}

    assert all(re.fullmatch(pattern, text) for text in (f"{seconds:g}", str(float(seconds))))
    assert not re.fullmatch(pattern, str(10 * seconds))


def test_alerts_say_how_bad_it_is(rules):
    for rule in rules:
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert rule["annotations"]["summary"].endswith(".")
            # Sums over all pods have no labels of their own.
            assert rule["labels"]["namespace"] == "imaging"
            assert rule["labels"]["release"] == "gliogate"


def test_every_alert_has_a_runbook(rules, chart_folder):
    page = (chart_folder.parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")

    alerts = {rule["alert"] for rule in rules if "alert" in rule}
    assert alerts == set(re.findall(r"^### (Gliogate\w+)$", page, re.MULTILINE))


@pytest.mark.parametrize(("gate", "value"), [(ENSEMBLE, "queueCapacity"), (VOLUME, "volumeQueueCapacity")])
def test_the_queue_holds_what_the_alert_takes_it_to(shipped_repository, chart, gate, value):
    """In the configurations of every profile."""
    configs = [*(shipped_repository / gate.name).rglob("*.pbtxt")]
    sizes = [re.findall(r"max_queue_size: (\d+)", file.read_text()) for file in configs]

    assert configs
    assert sizes == [[str(chart.values["monitoring"]["rules"][value])]] * len(configs)


def test_engines_are_cached_on_the_volume(shipped_repository, chart):
    """The folder that the configurations for GPUs name is the one that the chart mounts."""
    configs = [file for model in MODELS for file in (shipped_repository / model.name / "configs").glob("*.pbtxt")]
    folders = {
        folder
        for file in configs
        for folder in re.findall(r'key: "trt_engine_cache_path"\s+value: "([^"]*)"', file.read_text())
    }
    assert folders == {chart.values["engineCache"]["mountPath"]}


def test_nobody_is_woken_because_there_are_no_pods_where_none_is_usual(render):
    def alerts(**values):
        (resource,) = [each for each in render("gpu", **values) if each["kind"] == "PrometheusRule"]
        return {rule.get("alert") for group in resource["spec"]["groups"] for rule in group["rules"]}

    keda = {"mode": "keda", "minReplicas": 0, "keda": {"serverAddress": "http://p:9090", "wakeQuery": "vector(1)"}}
    for alert in ("GliogateDown", "GliogateNeverUp"):
        assert alert in alerts()
        assert alert not in alerts(autoscaling=keda)
        assert alert not in alerts(replicas=0)


def test_a_first_start_is_no_fall_and_a_fall_is_told_before_a_start_would_be_over(rules):
    """What was up within the last day has fallen; what was not is starting, for as long as its probe allows."""
    served = 'max_over_time(up{job="imaging/gliogate"}[1d])'
    alerts = {rule["alert"]: rule for rule in rules if "alert" in rule}

    for fell, starts in (("GliogateDown", "GliogateNeverUp"), ("GliogatePodFails", "GliogatePodNotServing")):
        assert re.search(rf" and (on\(\) max\()?{re.escape(served)}", alerts[fell]["expr"])
        assert alerts[fell]["for"] in ("2m", "5m")
        assert re.search(rf" unless (on\(\) max\()?{re.escape(served)}", alerts[starts]["expr"])
        assert alerts[starts]["for"] == "1500s"


def test_a_few_failures_wake_nobody(rules):
    for rule in rules:
        if "BudgetBurns" in rule.get("alert", ""):
            expr = rule["expr"]
            (window, unit, seconds) = re.search(r"\[(\d)([hd])\]\)\) or vector\(0\)\)\) \* (\d+) >= 10$", expr).groups()
            assert int(seconds) == int(window) * {"h": 3600, "d": 24 * 3600}[unit]


def test_the_dashboard_is_installed_as_it_is(render, dashboard):
    (config,) = [each for each in render("gpu") if each["kind"] == "ConfigMap"]

    assert json.loads(config["data"]["gliogate.json"]) == dashboard
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_dashboards_panels_do_not_overlap(dashboard):
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
