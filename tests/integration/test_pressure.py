"""A real Triton under pressure: overload, deadlines, cancellation, priorities, networks that go, versions that come."""

import os
import shutil
import signal
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue

import numpy as np
import onnx
import pytest
import tritonclient.grpc
from google.protobuf import text_format
from support.gate_counts import counted
from support.obedient_networks import build_obedient, tell
from support.signals import models_of
from support.tiny_networks import NETWORK_FILES, slices
from support.waiting import settled, wait_for
from tritonclient.grpc import model_config_pb2

from gliogate import contract
from gliogate.embedded import EmbeddedServer

PROBABILITY, MASK = contract.TUMOR_PROBABILITY.name, contract.TUMOR_MASK.name
OPEN, SHUT = slices(0.75), slices(0.25)
TUMOR = slices(*[0.75] * 8)


class Triton:
    """A plain client that asks without waiting, and what the server counts."""

    def __init__(self, server, url=None):
        self.client = tritonclient.grpc.InferenceServerClient(url or server.url)
        self.server = server
        self.metrics_url = server.metrics_url
        self.answers = SimpleQueue()

    def send(self, images, *, outputs=(PROBABILITY, MASK), model=contract.ENSEMBLE, **options):
        """Starts a request; its outcome, `OK` or a status, and its seconds come out of `answers`."""
        image = tritonclient.grpc.InferInput(contract.IMAGE.name, images.shape, "UINT8")
        image.set_data_from_numpy(images)
        start = time.perf_counter()

        def answered(result, error):
            outcome = "OK" if error is None else error.status().removeprefix("StatusCode.")
            self.answers.put((outcome, time.perf_counter() - start, result or error))

        return self.client.async_infer(
            model.name,
            [image],
            callback=answered,
            outputs=[tritonclient.grpc.InferRequestedOutput(name) for name in outputs],
            **options,
        )

    def ask(self, images, **options):
        self.send(images, **options)
        return self.answers.get(timeout=30)

    def receive(self, count):
        return [self.answers.get(timeout=60) for _ in range(count)]

    def rows(self, model):
        """How many slices a model has answered about."""
        return settled(lambda: int(self._statistics(model).get("inference_count", 0)))

    def _statistics(self, model):
        return self.client.get_inference_statistics(model.name, as_json=True)["model_stats"][-1]

    def metric(self, name, **labels):
        """The sum of a metric's values over all that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return settled(lambda: self._sum(name, wanted))

    def _sum(self, name, wanted):
        with urllib.request.urlopen(self.metrics_url, timeout=10) as page:
            lines = page.read().decode().splitlines()
        found = [line for line in lines if line.startswith(f"{name}{{") and all(each in line for each in wanted)]
        return sum(float(line.rpartition(" ")[2]) for line in found)


@contextmanager
def triton_on(repository):
    with EmbeddedServer(repository) as server:
        triton = Triton(server)
        yield triton
        triton.client.close()


@pytest.fixture(scope="module")
def triton(tiny_server):
    triton = Triton(tiny_server)
    yield triton
    triton.client.close()


@pytest.fixture
def repository(tiny_repository, tmp_path):
    """The tiny repository, to change."""
    return shutil.copytree(tiny_repository, tmp_path / "model_repository")


def wait_for_more(answers, count):
    enough = len(answers) + count
    wait_for(lambda: len(answers) >= enough)


def configure(repository, model, change):
    """Changes a configuration by the message that it is."""
    path = repository / model.name / "config.pbtxt"
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    change(config)
    path.write_text(text_format.MessageToString(config))


@pytest.fixture
def narrow(repository):
    """One gate with a queue of four, so that little is needed to fill it."""

    def change(config):
        config.instance_group[0].count = 1
        config.max_batch_size = 8
        config.dynamic_batching.default_queue_policy.max_queue_size = 4

    configure(repository, contract.ENSEMBLE, change)
    with triton_on(repository) as triton:
        yield triton


def test_what_is_too_much_is_refused_at_once_and_the_rest_is_answered(narrow):
    narrow.ask(TUMOR)
    count = 60
    assert narrow.metric("nv_inference_request_success", model="brain_tumor") == 1

    for _ in range(count):
        narrow.send(TUMOR)
    answers = narrow.receive(count)

    outcomes = Counter(outcome for outcome, _, _ in answers)
    assert set(outcomes) == {"OK", "UNAVAILABLE"}
    # One batch or two under way and four waiting, at the least.
    assert outcomes["OK"] >= 5
    assert outcomes["UNAVAILABLE"] >= 10
    refused = [seconds for outcome, seconds, _ in answers if outcome == "UNAVAILABLE"]
    answered = [seconds for outcome, seconds, _ in answers if outcome == "OK"]
    assert np.median(refused) < np.median(answered)
    # What it refuses at the door, Triton counts nowhere; it does not take it for answered either.
    assert narrow.metric("nv_inference_request_success", model="brain_tumor") == 1 + outcomes["OK"]


def test_a_request_past_its_deadline_costs_no_network_time(repository):
    def slow(config):
        # The gate waits so long for companions that a deadline passes in its queue.
        config.dynamic_batching.max_queue_delay_microseconds = 500_000

    configure(repository, contract.ENSEMBLE, slow)
    with triton_on(repository) as triton:
        before = {model: triton.rows(model) for model in (contract.DETECTOR, contract.SEGMENTER)}
        # In microseconds: how long it may wait for its turn.
        outcome, seconds, error = triton.ask(OPEN, timeout=50_000)
        after = {model: triton.rows(model) for model in before}
        rejected = triton.metric("nv_inference_request_failure", model="brain_tumor", reason="REJECTED")

    assert (outcome, rejected) == ("UNAVAILABLE", 1)
    assert "timeout" in error.message().lower()
    assert seconds < 5
    assert after == before


def test_cancelled_requests_cost_no_segmenter_time(repository):
    def slow(config):
        # The gate waits for more companions than there are.
        config.dynamic_batching.max_queue_delay_microseconds = 500_000

    configure(repository, contract.ENSEMBLE, slow)
    with triton_on(repository) as triton:
        before = triton.rows(contract.SEGMENTER)
        calls = [triton.send(OPEN) for _ in range(8)]
        time.sleep(0.1)
        for call in calls:
            call.cancel()
        outcomes = {outcome for outcome, _, _ in triton.receive(len(calls))}
        # One that is not cancelled comes after them, so they are through when it is.
        assert triton.ask(OPEN)[0] == "OK"

        assert outcomes == {"CANCELLED"}
        assert triton.rows(contract.SEGMENTER) == before + 1
        assert triton.metric("gliogate_slices_total", decision="opened") == 1


def test_who_gives_up_tells_how_long_the_gate_takes(tiny_repository, tmp_path):
    repository = build_obedient(tiny_repository, tmp_path / "model_repository")
    tell(repository, contract.DETECTOR, "crawl")
    with triton_on(repository) as triton:
        call = triton.send(OPEN)
        # It is in the detector, which takes a second and a half.
        time.sleep(0.5)
        call.cancel()
        assert triton.answers.get(timeout=30)[0] == "CANCELLED"
        wait_for(lambda: triton.metric("gliogate_requests_total", outcome="cancelled") == 1)

        count = counted(triton.metrics_url)
        assert count["gliogate_request_seconds_count"] == count["gliogate_request_seconds_sum"] // 1 == 1


def test_what_is_urgent_overtakes_what_waits(repository):
    """The gate is stopped while they come: what is sent late, on a busy machine, would find nobody to overtake."""

    def one_by_one(config):
        config.instance_group[0].count = 1
        config.max_batch_size = 8

    configure(repository, contract.ENSEMBLE, one_by_one)
    with triton_on(repository) as triton:
        triton.ask(TUMOR)
        # On a machine that stands still itself, Triton gives the gate up before it may go on: then once more.
        for _ in range(3):
            waiting, order = _overtake(triton)
            if None not in order:
                break

    assert None not in order
    # Some were handed to the gate before.
    assert waiting >= 8
    assert order.index("urgent") <= 12 - waiting


def _overtake(triton):
    """How many waited when an urgent one came, and the order of answers by id; None stands for one that failed."""
    processes = models_of(triton.server)
    [gate] = [pid for pid, instance in processes.items() if instance.startswith(contract.ENSEMBLE.name)]
    os.kill(gate, signal.SIGSTOP)
    for _ in range(12):
        triton.send(TUMOR, request_id="patient")
    waiting = triton.metric("nv_inference_pending_request_count", model=contract.ENSEMBLE.name)
    triton.send(TUMOR, request_id="urgent", priority=1)
    # Until it is there, and not for long: Triton gives up a gate that stands still, one request after the other.
    until = time.monotonic() + 1
    while time.monotonic() < until and waiting == triton.metric(
        "nv_inference_pending_request_count", model=contract.ENSEMBLE.name
    ):
        time.sleep(0.05)
    os.kill(gate, signal.SIGCONT)
    answers = [answer for _, _, answer in triton.receive(13)]
    return waiting, [each.get_response().id if hasattr(each, "get_response") else None for each in answers]


@contextmanager
def load(triton, *, in_flight=8, **options):
    """Keeps requests under way; the list that it yields holds all outcomes when it is over."""
    outcomes, stop = [], threading.Event()

    def run():
        for _ in range(in_flight):
            triton.send(OPEN, **options)
        under_way = in_flight
        while under_way:
            outcomes.append(triton.answers.get(timeout=60))
            under_way -= 1
            if not stop.is_set():
                triton.send(OPEN, **options)
                under_way += 1

    with ThreadPoolExecutor(1) as elsewhere:
        running = elsewhere.submit(run)
        try:
            yield outcomes
        finally:
            stop.set()
            running.result()


EXPLICIT = ("--model-control-mode=explicit", "--load-model=*")
"""Has Triton take models in and out when it is told to, as a cluster's may."""


def test_a_segmenter_that_is_unloaded_under_load_fails_only_who_needs_it(repository):
    with EmbeddedServer(repository, triton_arguments=EXPLICIT) as server:
        masks, probabilities, control = Triton(server), Triton(server), Triton(server, server.triton_url)
        with load(probabilities, outputs=[PROBABILITY]) as detected, load(masks) as segmented:
            wait_for_more(segmented, 20)
            control.client.unload_model(contract.SEGMENTER.name)
            wait_for(lambda: not control.client.is_model_ready(contract.SEGMENTER.name))
            wait_for_more(segmented, 40)
            control.client.load_model(contract.SEGMENTER.name)
            wait_for_more(segmented, 40)
        for each in (masks, probabilities, control):
            each.client.close()

    assert {outcome for outcome, _, _ in detected} == {"OK"}
    assert {outcome for outcome, _, _ in segmented[:20]} == {"OK"}
    failed = [answer for outcome, _, answer in segmented if outcome != "OK"]
    assert {error.status() for error in failed} == {"StatusCode.UNAVAILABLE"}
    assert all(error.message().startswith("tumor_segmenter: ") for error in failed)
    assert len(failed) >= 20
    assert [outcome for outcome, _, _ in segmented[-8:]] == ["OK"] * 8


def _half_as_sure(detector):
    """Changes a tiny detector to one that answers half of what it did."""
    network = onnx.load(detector)
    (white,) = (value for value in network.graph.initializer if value.name == "white")
    white.CopyFrom(onnx.numpy_helper.from_array(np.float32(2 * 255), "white"))
    onnx.save(network, detector)


def test_a_new_version_under_load_loses_no_request_and_mixes_no_networks(repository):
    with EmbeddedServer(repository, triton_arguments=EXPLICIT) as server:
        asked, control = Triton(server), Triton(server, server.triton_url)
        with load(asked) as answers:
            wait_for_more(answers, 20)
            for model in contract.MODELS:
                shutil.copytree(repository / model.name / "1", repository / model.name / "2")
                if model is contract.DETECTOR:
                    for network in NETWORK_FILES:
                        _half_as_sure(repository / model.name / "2" / network)
                control.client.load_model(model.name)
                wait_for_more(answers, 40)
        for each in (asked, control):
            each.client.close()

    assert Counter(outcome for outcome, _, _ in answers) == {"OK": len(answers)}
    said = {(result.get_response().model_version, *result.as_numpy(PROBABILITY)[0]) for _, _, result in answers}
    assert said == {("1", 0.75), ("2", 0.375)}


def test_half_a_version_is_not_served(repository):
    """What an export or a copy leaves that dies between its folders."""
    shutil.copytree(repository / contract.DETECTOR.name / "1", repository / contract.DETECTOR.name / "2")
    for network in NETWORK_FILES:
        _half_as_sure(repository / contract.DETECTOR.name / "2" / network)

    with EmbeddedServer(repository) as server:
        triton = Triton(server)
        outcome, _, result = triton.ask(OPEN)
        triton.client.close()

    assert outcome == "OK"
    assert (result.get_response().model_version, *result.as_numpy(PROBABILITY)[0]) == ("1", 0.75)


def test_statistics_and_metrics_tell_the_truth(triton):
    names = ("nv_inference_request_success", "nv_inference_count")
    before = [triton.metric(name, model="brain_tumor") for name in names]
    rows = {model: triton.rows(model) for model in contract.MODELS}
    seconds = {stage: triton.metric("gliogate_seconds_total", stage=stage) for stage in ("detector", "segmenter")}

    start = time.perf_counter()
    assert triton.ask(slices(0.25, 0.75, 0.75))[0] == "OK"
    took = time.perf_counter() - start

    after = [triton.metric(name, model="brain_tumor") for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 3]
    assert {model: triton.rows(model) - count for model, count in rows.items()} == {
        contract.DETECTOR: 3,
        contract.SEGMENTER: 2,
        contract.ENSEMBLE: 3,
        contract.VOLUME: 0,
    }
    spent = {stage: triton.metric("gliogate_seconds_total", stage=stage) - past for stage, past in seconds.items()}
    assert all(amount > 0 for amount in spent.values())
    assert sum(spent.values()) < took
