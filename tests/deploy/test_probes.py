"""The chart's probes, run as Kubernetes would, against a real Triton in trouble and one that only looks so."""

import contextlib
import itertools
import json
import os
import re
import signal
import sys
import threading
import time
import urllib.request
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from subprocess import Popen

import numpy as np
import pytest
from support.kubelet import Kubelet
from support.obedient_networks import build_obedient, tell
from support.pods import PROBES, served_pod
from support.started import ended_after
from support.tiny_networks import slices
from support.waiting import settled, wait_for
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

from gliogate.contract import DETECTOR, ENSEMBLE, SEGMENTER

QUICK = {
    "probes__startup": {"periodSeconds": 1, "timeoutSeconds": 6},
    "probes__readiness": {"periodSeconds": 1, "timeoutSeconds": 6},
    "probes__liveness": {"periodSeconds": 1, "timeoutSeconds": 6, "failureThreshold": 4},
    "probes__firstAnswerS": 3,
}
UNREADY_S = 30
RESTARTED_S = 90
"""By the chart's own values, as values.yaml and docs/operations.md have them."""


@pytest.fixture(scope="module")
def repository(tiny_repository, tmp_path_factory):
    """Networks that obey."""
    return build_obedient(tiny_repository, tmp_path_factory.mktemp("obedient") / "model_repository")


@pytest.fixture
def ordered(repository):
    """Tells a network what to do; at the end all answer again."""
    yield lambda model, order: tell(repository, model, order)
    for model in (DETECTOR, SEGMENTER):
        tell(repository, model, None)


@pytest.fixture(scope="module")
def quick(pod, repository, tmp_path_factory):
    """A pod whose probes are quick."""
    with served_pod(pod, repository, tmp_path_factory.mktemp("quick"), **QUICK) as served:
        yield served


@pytest.fixture
def served(quick, ordered):  # noqa: ARG001  all answer
    """The same, which answers when a test begins."""
    wait_for(lambda: quick.probe("readinessProbe") and quick.probe("livenessProbe"))
    return quick


@pytest.fixture
def start(pod, repository, tmp_path, ordered):  # noqa: ARG001  all answer
    """Starts a pod for one test alone."""
    with contextlib.ExitStack() as stack:
        yield lambda **values: stack.enter_context(served_pod(pod, repository, tmp_path, **values))


def answered(served):
    """How many requests were, the probes' own among them."""
    page = urllib.request.urlopen(served.metrics_url, timeout=5).read().decode()
    counts = re.findall(r'^gliogate_requests_total{outcome="(?:answered|probe)"} (\d+)', page, re.MULTILINE)
    return sum(map(int, counts))


def request(level=0.25):
    image = InferInput("image", [1, 256, 256, 3], "UINT8")
    image.set_data_from_numpy(np.stack(list(slices(level))))
    return {
        "model_name": ENSEMBLE.name,
        "inputs": [image],
        "outputs": [InferRequestedOutput("tumor_probability"), InferRequestedOutput("tumor_mask")],
    }


@contextlib.contextmanager
def load(served, rate, **options):
    """An open load, however late the answers are; yields the errors of what failed."""
    errors, ending = [], threading.Event()

    def ended(result, error):  # noqa: ARG001  as the client calls it
        if error is not None:
            errors.append(error)

    def send(client):
        due = time.monotonic()
        while not ending.wait(max(0, due - time.monotonic())):
            due += 1 / rate
            client.async_infer(**request(**options), callback=ended)

    with contextlib.closing(InferenceServerClient(served.url)) as client:
        sender = threading.Thread(target=send, args=(client,))
        sender.start()
        try:
            yield errors
        finally:
            ending.set()
            sender.join()


def elsewhere(served, place, url):
    """The container whose probes look for something at another place."""
    return json.loads(json.dumps(served.container).replace(place, url))


@contextlib.contextmanager
def seeming_triton(seconds, infer):
    """Takes so long for whatever is asked, and tells of more and more requests that were answered and that failed.

    Args:
        seconds: that it takes.
        infer: answers a slice, as a `BaseHTTPRequestHandler`.
    """
    counts = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(seconds)
            outcomes, count = ("answered", "probe", "failed"), next(counts)
            self.tell(200, "".join(f'gliogate_requests_total{{outcome="{each}"}} {count}\n' for each in outcomes))

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(seconds)
            infer(self)

        def tell(self, code, text, length=None):
            self.send_response(code)
            self.send_header("Content-Length", str(len(text) if length is None else length))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def fails(served, name, reason, **options):
    succeeds, said = served.run_probe(name, **options)
    return not succeeds and re.search(reason, said)


def test_an_idle_server_passes_and_is_asked_little(served):
    before = answered(served)

    with Kubelet(served) as kubelet:
        wait_for(lambda: kubelet.ready)
        time.sleep(6)

    assert kubelet.unready_at is None
    assert not kubelet.restarted
    # Each sends a slice every second time, and the first one.
    assert 2 <= answered(served) - before <= kubelet.runs / 2 + 3


@pytest.mark.parametrize("model", [DETECTOR, SEGMENTER], ids=lambda model: model.name)
def test_what_never_answers_is_unready_first_and_started_again_then(model, served, ordered):
    with load(served, 5, level=0.75), Kubelet(served) as kubelet:
        wait_for(lambda: kubelet.ready)
        ordered(model, "hang")
        wait_for(lambda: kubelet.restarted)
        assert not kubelet.ready
        assert kubelet.unready_at < kubelet.restarted_at
        reason = f"{'brain_tumor' if model is DETECTOR else model.name} has not answered a slice for [1-3] s"
        assert [said for _, said in kubelet.said if not re.fullmatch(reason, said)] == []
        # It was only paused: it is ready again without a restart.
        ordered(model, None)
        wait_for(lambda: kubelet.ready)


@pytest.mark.parametrize(
    "model", [pytest.param(DETECTOR, marks=pytest.mark.slow), SEGMENTER], ids=lambda model: model.name
)
def test_what_fails_is_found_beside_what_is_answered(model, served, ordered):
    """Without a mask, or without tumor, nobody needs the segmenter; its failures are some among many answers."""
    with load(served, 20, level=0.25), load(served, 5, level=0.75), Kubelet(served) as kubelet:
        wait_for(lambda: kubelet.ready)
        ordered(model, "fail")
        wait_for(lambda: kubelet.restarted)
        ordered(model, None)
        wait_for(lambda: kubelet.ready)

    assert kubelet.unready_at < kubelet.restarted_at
    reason = "HTTP 500: .*out of order|have failed inside"
    assert [said for _, said in kubelet.said if not re.search(reason, said)] == []


def test_what_callers_do_wrong_is_no_failure(served):
    with contextlib.closing(InferenceServerClient(served.url)) as client:
        served.probe("readinessProbe")
        for _ in range(5):
            with pytest.raises(Exception, match="detection_threshold is"):
                client.infer(**request(), parameters={"detection_threshold": "wrong"})

    assert served.probe("readinessProbe")


@pytest.mark.slow
@pytest.mark.parametrize("by_states", [pytest.param(True, marks=pytest.mark.slow), False])
def test_both_processes_of_the_gate_are_stopped(by_states, start):
    """By their states, and by the progress that they do not make."""
    served = start(**QUICK)
    with Kubelet(served, by_states=by_states) as kubelet:
        wait_for(lambda: kubelet.ready)
        with served.stopped(ENSEMBLE.name):
            wait_for(lambda: kubelet.restarted)

    assert kubelet.unready_at < kubelet.restarted_at
    reason = (
        "a Python model is stopped" if by_states else "brain_tumor (has not answered|answers a slice with HTTP 500)"
    )
    assert [said for _, said in kubelet.said if not re.search(reason, said)] == []


@pytest.mark.slow
@pytest.mark.parametrize("model", [DETECTOR, ENSEMBLE], ids=lambda model: model.name)
def test_a_short_stop_costs_no_restart(model, served):
    (pid, *_) = served.processes(model.name)
    with Kubelet(served) as kubelet:
        wait_for(lambda: kubelet.ready)
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(lambda: kubelet.said != [])
        finally:
            os.kill(pid, signal.SIGCONT)
        said = len(kubelet.said)
        time.sleep(2)

        assert kubelet.ready
        assert not kubelet.restarted
        assert len(kubelet.said) - said <= 1


@pytest.mark.slow
def test_one_process_of_the_gate_has_died(start):
    """Half of the requests are answered still."""
    served = start(**QUICK)
    with load(served, 20), Kubelet(served) as kubelet:
        wait_for(lambda: kubelet.ready)
        served.kill_gate()
        wait_for(lambda: kubelet.restarted)

    assert kubelet.unready_at < kubelet.restarted_at
    assert {said for _, said in kubelet.said} == {"the process of a Python model has died"}


@pytest.mark.slow
def test_the_first_request_ever_is_never_answered(start, ordered):
    """As while an engine is built: it may take its time, and then it is for the other two probes."""
    ordered(DETECTOR, "hang")
    served = start(**QUICK)
    with Kubelet(served) as kubelet:
        wait_for(lambda: kubelet.restarted)
        assert not kubelet.ready

    names = [name for name, _ in kubelet.said]
    assert set(names) == set(PROBES)
    assert names.index("livenessProbe") > max(index for index, name in enumerate(names) if name == "startupProbe")
    assert re.search("since the models were loaded it has been [0-9]+ s", kubelet.said[0][1])


def test_at_the_start_a_slice_goes_from_the_gate_through_both_networks_and_is_not_counted(served):
    def counts():
        page = urllib.request.urlopen(served.metrics_url, timeout=5).read().decode()
        lines = re.findall(
            r'^(nv_inference_count{model="(\w+)"|gliogate_slices_total{decision="(\w+)").* (\d+)', page, re.M
        )
        return {model or decision: int(count) for _, model, decision, count in lines}

    before = counts()
    assert served.run_probe("startupProbe") == (True, "")
    wait_for(lambda: counts()[ENSEMBLE.name] == before[ENSEMBLE.name] + 2)
    grown = {name: count - before[name] for name, count in counts().items() if count != before[name]}

    # The segmenter is asked by itself, too; the gate is asked twice, once for everything.
    assert grown == {ENSEMBLE.name: 2, DETECTOR.name: 2, SEGMENTER.name: 2}


@pytest.mark.slow
def test_a_first_answer_and_a_load_may_take_long(start, ordered):
    ordered(DETECTOR, "load")
    served = start(waits=False, **QUICK | {"probes__firstAnswerS": 60})
    with Kubelet(served) as kubelet:
        wait_for(lambda: len(kubelet.said) > 1)
        # It listens when all models are loaded.
        assert {said for _, said in kubelet.said} == {"Triton cannot be asked, exit code 7 of curl"}
        # In the pod before there was another start.
        ordered(DETECTOR, "hang")
        wait_for(lambda: any("since the models were loaded" in said for _, said in kubelet.said))
        ordered(DETECTOR, None)
        wait_for(lambda: kubelet.ready)

        assert {name for name, _ in kubelet.said} == {"startupProbe"}
        assert not kubelet.restarted


@pytest.mark.slow
def test_overload_fails_no_probe(served, ordered):
    """Answers take longer than a probe waits, and most requests find the queue full."""
    ordered(DETECTOR, "crawl")
    with load(served, 50) as errors, Kubelet(served) as kubelet:
        wait_for(lambda: any("maximum queue size" in str(error) for error in errors))
        time.sleep(8)

    assert kubelet.unready_at is None
    assert not kubelet.restarted


@pytest.mark.slow
@pytest.mark.parametrize("lack", ["of space", "of a place", "of figures"])
def test_whatever_a_probe_lacks_hides_nothing(lack, served, ordered, monkeypatch):
    """It cannot keep what it saw, or sees nothing of what was answered: then it always sends a slice."""
    state = next(served.temporary.glob("gliogate-probe-ready-*"))
    if lack == "of figures":
        monkeypatch.setattr(served, "container", elsewhere(served, "/metrics", "/none"))
    elif lack == "of a place":
        monkeypatch.setattr(served, "temporary", served.temporary / "none")

    def run():
        if lack == "of space":
            state.with_suffix(".new").symlink_to("/dev/full")
        return served.run_probe("readinessProbe")

    for _ in range(3):
        assert run() == (True, "")
        # Or it would be taken for progress: an answer is counted after it was sent.
        settled(partial(answered, served))
    ordered(DETECTOR, "hang")

    succeeds, said = run()
    assert not succeeds
    assert re.fullmatch("brain_tumor has not answered a slice for [1-3] s", said)


@pytest.mark.slow
def test_what_was_seen_before_a_restart_is_forgotten(served, ordered):
    """The pod's folder for temporary files outlives the container, what Triton counts does not."""
    # What is told of late, of requests before, would be progress.
    settled(partial(answered, served))
    assert served.probe("readinessProbe")
    settled(partial(answered, served))
    state = next(served.temporary.glob("gliogate-probe-ready-*"))
    started, uptime, failed, probed, count = state.read_text().split()
    ordered(DETECTOR, "hang")

    for stale in (
        (f"{started}0", uptime, failed, 0, 0),
        (started, int(uptime) - 100, failed, 0, 0),
        (started, uptime, failed, int(probed) * 9, count),
        (started, uptime, "a", "few", "words"),
        (),
    ):
        state.write_text(" ".join(map(str, stale)) + "\n")
        assert fails(served, "readinessProbe", "brain_tumor has not answered")


@pytest.mark.slow
def test_figures_that_come_back_are_no_progress(served, ordered, monkeypatch):
    with monkeypatch.context() as lost:
        lost.setattr(served, "container", elsewhere(served, "/metrics", "/none"))
        assert served.run_probe("readinessProbe") == (True, "")
        settled(partial(answered, served))
        ordered(DETECTOR, "hang")
        assert fails(served, "readinessProbe", "brain_tumor has not answered")

    assert fails(served, "readinessProbe", "brain_tumor has not answered")


@pytest.mark.slow
def test_nothing_but_failures_is_found_though_a_black_slice_is_answered(start, ordered):
    served = start(**QUICK)
    with contextlib.closing(InferenceServerClient(served.url)) as client, Kubelet(served) as kubelet:
        wait_for(lambda: kubelet.ready)
        client.infer(**request())
        ordered(DETECTOR, "fail unless black")
        # A few, over a longer time than it takes, may be a caller's.
        for _ in range(6):
            with pytest.raises(Exception, match="out of order"):
                client.infer(**request())
            time.sleep(2)
        assert kubelet.said == []

        with load(served, 5):
            wait_for(lambda: kubelet.restarted)

    assert kubelet.unready_at < kubelet.restarted_at
    reason = r"\d\d requests have failed inside the server within \d+ s, and none was answered"
    assert [said for _, said in kubelet.said if not re.fullmatch(reason, said)] == []


@pytest.mark.slow
def test_triton_itself_is_stopped(start):
    served = start(**QUICK)
    with Kubelet(served) as kubelet:
        wait_for(lambda: kubelet.ready)
    os.kill(served.triton, signal.SIGSTOP)
    try:
        said = {name: served.run_probe(name) for name in PROBES}
    finally:
        os.kill(served.triton, signal.SIGCONT)

    for name in PROBES[:2]:
        assert said[name] == (False, "Triton has not answered for 2 s")
    succeeds, reason = said["livenessProbe"]
    assert not succeeds
    assert re.fullmatch("tumor_segmenter has not answered a slice for [1-3] s", reason)


@pytest.mark.slow
def test_without_a_place_the_first_answer_has_its_time_since_the_container_started(served, ordered, monkeypatch):
    """Process 1 of this machine is older than that."""
    ordered(DETECTOR, "hang")
    # Of a start that found no answer in a test before.
    for state in served.temporary.glob("gliogate-probe-startup-*"):
        state.unlink()
    assert fails(served, "startupProbe", "since the models were loaded it has been [0-2] s")

    monkeypatch.setattr(served, "temporary", served.temporary / "none")

    assert served.run_probe("startupProbe") == (True, "")


def test_half_of_an_answer_is_none(served, monkeypatch):
    with seeming_triton(0, lambda handler: handler.tell(200, "half", length=8)) as url:
        monkeypatch.setattr(served, "container", elsewhere(served, served.http_url, url))

        assert fails(served, "livenessProbe", "tumor_segmenter cannot be asked, exit code 18 of curl")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("infer", "succeeds", "reason"),
    [
        (lambda handler: handler.tell(200, ""), True, ""),
        (lambda handler: handler.tell(500, "out of order"), False, "tumor_segmenter answers a slice with HTTP 500: .*"),
        (lambda _: time.sleep(9), False, "tumor_segmenter has not answered a slice for [1-3] s"),
    ],
    ids=["answers", "fails", "hangs"],
)
def test_whatever_takes_its_time_the_reason_is_told_in_time(infer, succeeds, reason, served, pod, monkeypatch):
    _, container = pod(probes__readiness={"timeoutSeconds": 6})
    with seeming_triton(0.8, infer) as url:
        there = re.sub("http://127.0.0.1:800[02]", url, json.dumps(container))
        monkeypatch.setattr(served, "container", json.loads(there))
        for _ in range(2):  # The second sees that something has failed, and asks more.
            told, said = served.run_probe("readinessProbe")

            assert told == succeeds, said
            assert re.fullmatch(reason, said)


@pytest.mark.slow
@pytest.mark.alone
def test_no_probe_fails_where_the_processor_has_too_much_to_do(start, ordered):
    """By the chart's own values: networks that are busy, and others that are."""
    served = start()
    with ended_after() as others, Kubelet(served) as kubelet:
        wait_for(lambda: kubelet.ready)
        others += [Popen([sys.executable, "-c", "while True: pass"], text=True) for _ in range(2 * os.cpu_count())]
        for model in (DETECTOR, SEGMENTER):
            ordered(model, "burn")
        with load(served, 100, level=0.75) as errors:
            wait_for(lambda: any("maximum queue size" in str(error) for error in errors))
            time.sleep(90)

    assert kubelet.said == []


@pytest.mark.slow
def test_the_charts_own_values_keep_what_they_promise(start, ordered):
    """A minute without a request, and then a detector that answers none."""
    served = start()
    with Kubelet(served) as kubelet:
        wait_for(lambda: kubelet.ready)
        before = answered(served)
        time.sleep(60)
        assert kubelet.unready_at is None
        assert not kubelet.restarted
        assert answered(served) - before <= 60 / 10 + 2

        ordered(DETECTOR, "hang")
        since = time.monotonic()
        wait_for(lambda: kubelet.restarted, RESTARTED_S + 10)

    assert kubelet.unready_at - since < UNREADY_S
    assert kubelet.restarted_at - since < RESTARTED_S


@pytest.mark.slow
def test_by_the_charts_own_values_nothing_but_failures_is_found_in_time(start, ordered):
    """A pod that is not ready gets no requests, so none fails any more."""
    served = start()
    with Kubelet(served) as kubelet:
        wait_for(lambda: kubelet.ready)
        ordered(DETECTOR, "fail unless black")
        since = time.monotonic()
        with load(served, 5):
            wait_for(lambda: not kubelet.ready)
        wait_for(lambda: kubelet.restarted, RESTARTED_S)

    assert kubelet.unready_at - since < UNREADY_S
    assert kubelet.restarted_at - since < RESTARTED_S
