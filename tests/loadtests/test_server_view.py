"""The server's view, from a real Triton whose networks are tiny."""

import numpy as np
import pytest
from tiny_networks import slices

from gliogate import Client
from loadtests.server_view import ServerView, between, read_metrics
from loadtests.settings import Settings


@pytest.fixture
def view(tiny_server):
    view = ServerView(Settings(url=tiny_server.url, metrics_url=tiny_server.metrics_url))
    yield view
    view.close()


def test_what_the_server_counts_is_what_was_asked(view, tiny_server):
    with Client(tiny_server.url) as client:
        client.analyze(slices(0.75)[0])
        before = view.snapshot()
        for level in (0.25, 0.25, 0.75):
            client.analyze(slices(level)[0])
        client.detect(slices(0.75)[0])
        after = view.snapshot()
    seen = between(before, after)
    assert seen["gaps"] == []
    assert {name: model["slices"] for name, model in seen["models"].items()} == {
        "tumor_detector": 4,
        "tumor_segmenter": 1,
        "brain_tumor": 4,
    }
    assert seen["models"]["brain_tumor"]["batches"] == {"1": 4}
    assert (seen["gate"]["slices"]["opened"], seen["gate"]["slices"]["shut"]) == (1, 2)
    assert seen["gate"]["requests"]["answered"] == 4
    assert (seen["refused"], seen["cancelled"]) == (0, 0)
    parts = seen["breakdown"]
    assert list(parts) == ["queue", "detector", "segmenter", "gate"]
    assert all(value > 0 for value in parts.values())
    model = seen["models"]["brain_tumor"]
    assert sum(parts.values()) == pytest.approx(model["success_ms"], rel=0.1)


def test_without_metrics_the_networks_own_statistics_divide_the_time(tiny_server):
    dumb = ServerView(Settings(url=tiny_server.url, metrics_url="http://127.0.0.1:9/metrics"))
    before = dumb.snapshot()
    with Client(tiny_server.url) as client:
        client.analyze(slices(0.75)[0])
    seen = between(before, dumb.snapshot())
    dumb.close()
    assert "no metrics from http://127.0.0.1:9/metrics: " in seen["gaps"][0]
    assert (seen["gate"], seen["refused"]) == (None, None)
    assert all(seen["breakdown"][part] > 0 for part in ("detector", "segmenter"))


def test_a_server_that_is_gone_is_a_gap_and_no_error():
    view = ServerView(Settings(url="127.0.0.1:9", metrics_url="ftp://nowhere"))
    seen = between(view.snapshot(), view.snapshot())
    view.close()
    assert [gap.partition(":")[0] for gap in seen["gaps"]] == ["no metrics from ftp", "no statistics"]
    assert seen["breakdown"] is None


def test_metrics_are_read_as_prometheus_has_them():
    page = """# HELP nv_gpu_utilization GPU utilization rate
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.75
nv_inference_count{model="brain_tumor",version="3"} 12
plain 1.5e3
"""
    metrics = read_metrics(page)
    assert metrics["nv_gpu_utilization", (("gpu_uuid", "GPU-1"),)] == 0.75
    assert metrics["nv_inference_count", (("model", "brain_tumor"), ("version", "3"))] == 12
    assert metrics["plain", ()] == 1500
    assert np.isfinite(list(metrics.values())).all()
