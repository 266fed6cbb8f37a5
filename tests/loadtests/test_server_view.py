"""The server's view, from a real Triton whose networks are tiny."""

import socket
import threading
from contextlib import suppress

import numpy as np
import pytest
from support.tiny_networks import slices
from support.waiting import settled

from gliogate import Client
from gliogate.embedded import EmbeddedServer
from loadtests.server_view import ServerView, Snapshot, addresses, between, read_metrics
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
        client.analyze(slices(0)[0], detection_threshold=0)
        after = view.snapshot()
    seen = between(before, after)
    assert seen["gaps"] == []
    assert {name: model["slices"] for name, model in seen["models"].items()} == {
        "tumor_detector": 5,
        "tumor_segmenter": 2,
        "brain_tumor": 5,
    }
    assert seen["models"]["brain_tumor"]["batches"] == {"1": 5}
    assert (seen["gate"]["slices"]["opened"], seen["gate"]["slices"]["shut"]) == (2, 2)
    assert seen["gate"]["suspicious"] == 1
    assert seen["gate"]["requests"]["answered"] == 5
    assert (seen["refused"], seen["cancelled"]) == (0, 0)
    parts = seen["breakdown"]
    assert list(parts) == ["queue", "detector", "segmenter", "gate"]
    assert all(value > 0 for value in parts.values())
    model = seen["models"]["brain_tumor"]
    assert sum(parts.values()) == pytest.approx(model["success_ms"], rel=0.1)


def test_a_gate_that_does_not_count_what_is_suspicious_is_no_gate_without_it():
    page = 'gliogate_slices_total{decision="opened"} %d\n'
    before, after = (Snapshot(metrics=read_metrics(page % count)) for count in (3, 7))

    gate = between({"a": before}, {"a": after})["gate"]

    assert (gate["slices"], gate["suspicious"]) == ({"opened": 4}, None)


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
    assert [gap.partition(": ")[0] for gap in seen["gaps"]] == [
        "no metrics from ftp://nowhere",
        "no statistics from 127.0.0.1:9",
    ]
    assert (seen["breakdown"], seen["servers"]) == (None, [])


@pytest.mark.parametrize("page", ["http://localhost:abc/metrics", "http://{mute}/metrics"])
def test_a_page_that_is_no_http_is_a_gap_and_no_error(page):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_mumble, args=[listener], daemon=True).start()
        url = page.format(mute=f"127.0.0.1:{listener.getsockname()[1]}")
        view = ServerView(Settings(url="127.0.0.1:9", metrics_url=url))
        [snapshot] = view.snapshot().values()
        view.close()
    assert snapshot.gaps[-1].startswith(f"no metrics from {url}: ")


def _mumble(listener):
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"mumble\r\n\r\n")


@pytest.fixture(scope="module")
def second_server(tiny_repository):
    with EmbeddedServer(tiny_repository) as server:
        yield server


def still(view):
    """What the servers count once they are done with what they answered."""
    settled(lambda: [server.models for server in view.snapshot().values()])
    return view.snapshot()


def ask(server, count):
    with Client(server.url) as client:
        for _ in range(count):
            client.analyze(slices(0.75)[0])


def test_what_several_servers_count_is_added_up(tiny_server, second_server):
    both = [tiny_server, second_server]
    urls, pages = (",".join(getattr(each, name) for each in both) for name in ("url", "metrics_url"))
    view = ServerView(Settings(url=urls, metrics_url=pages))
    for server in both:
        ask(server, 1)
    before = still(view)
    ask(tiny_server, 3)
    ask(second_server, 2)
    seen = between(before, still(view))
    view.close()
    assert (seen["servers"], seen["gaps"]) == (sorted(server.url for server in both), [])
    assert seen["models"]["brain_tumor"]["slices"] == seen["gate"]["requests"]["answered"] == 5


def test_two_servers_behind_one_address_and_one_that_went_are_left_out(tiny_server, second_server):
    ask(tiny_server, 5)
    views = [ServerView(Settings(url=each.url, metrics_url=each.metrics_url)) for each in (tiny_server, second_server)]
    (first,), (second,) = (view.snapshot().values() for view in views)
    for view in views:
        view.close()
    seen = between({"a:1": first, "b:1": second}, {"a:1": second})
    assert seen["gaps"] == [
        "a:1 was started anew, or is several servers behind one address: it is not in this view",
        "b:1 came or went: it is not in this view",
    ]
    assert (seen["models"], seen["servers"], seen["breakdown"]) == ({}, [], None)


def test_a_name_that_stands_for_several_is_looked_up():
    page = "http://localhost:8002/metrics"
    found = addresses(Settings(url="dns:///localhost:8001", metrics_url=page))
    assert found["127.0.0.1:8001"] == "http://127.0.0.1:8002/metrics"
    assert set(found) <= {"127.0.0.1:8001", "[::1]:8001"}


@pytest.mark.parametrize(
    ("url", "metrics_url", "expected"),
    [
        ("triton:1", "http://triton:2/metrics", {"triton:1": "http://triton:2/metrics"}),
        ("triton:1", "http://elsewhere/metrics", {"triton:1": "http://elsewhere/metrics"}),
        (
            "10.0.0.1:1,10.0.0.2:1",
            "http://10.0.0.1:2/m",
            {"10.0.0.1:1": "http://10.0.0.1:2/m", "10.0.0.2:1": "http://10.0.0.2:2/m"},
        ),
        ("10.0.0.1:1,10.0.0.2:1", "http://all/m", {"10.0.0.1:1": "http://all/m", "10.0.0.2:1": None}),
    ],
)
def test_each_server_has_the_page_of_its_host(url, metrics_url, expected):
    assert addresses(Settings(url=url, metrics_url=metrics_url)) == expected


def test_a_name_that_nobody_knows_is_a_gap():
    view = ServerView(Settings(url="dns:///nobody.invalid:8001", metrics_url="http://nobody.invalid:8002/metrics"))
    seen = between(view.snapshot(), view.snapshot())
    assert seen["gaps"][0].startswith("no address of dns:///nobody.invalid:8001: ")


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
