"""The gate in a real Triton, between networks whose answers are known, asked by a plain `tritonclient`."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc
from support.gate_counts import counted
from support.tiny_networks import poisoned, slices
from support.waiting import settled
from tritonclient.utils import InferenceServerException

from gliogate import contract
from gliogate.embedded import EmbeddedServer
from gliogate.errors import EmbeddedServerError

OUTPUTS = [tensor.name for tensor in contract.ENSEMBLE.outputs]
PROBABILITY = contract.TUMOR_PROBABILITY.name
MASK = contract.TUMOR_MASK.name
SEGMENTED = contract.SEGMENTED.name


class Triton:
    """A plain client, and what the server counts."""

    def __init__(self, url):
        self.client = tritonclient.grpc.InferenceServerClient(url)

    def ask(self, images, *, outputs=OUTPUTS, model=contract.ENSEMBLE, datatype="UINT8", request_id="", **parameters):
        image = tritonclient.grpc.InferInput(contract.IMAGE.name, images.shape, datatype)
        image.set_data_from_numpy(images)
        result = self.client.infer(
            model.name,
            [image],
            outputs=[tritonclient.grpc.InferRequestedOutput(name) for name in outputs],
            request_id=request_id,
            parameters=parameters or None,
        )
        return {name: result.as_numpy(name) for name in outputs}

    def ask_at_once(self, *questions):
        """Asks all at the same time; each is the arguments of `ask`. Returns answers, and errors in their place."""

        def ask(question):
            images, options = question
            try:
                return self.ask(images, **options)
            except InferenceServerException as error:
                return error

        with ThreadPoolExecutor(len(questions)) as pool:
            return list(pool.map(ask, questions))

    def rows(self, model):
        """How many slices a model has answered about."""
        return self._count(model, "inference_count")

    def executions(self, model):
        """How many batches a model has run."""
        return self._count(model, "execution_count")

    def _count(self, model, name):
        def read():
            statistics = self.client.get_inference_statistics(model.name, as_json=True)["model_stats"][0]
            return int(statistics.get(name, 0))

        return settled(read)


@pytest.fixture(scope="module")
def triton(tiny_server):
    triton = Triton(tiny_server.url)
    yield triton
    triton.client.close()


def test_sixteen_mixed_rows_in_one_request(triton):
    levels = [index / 16 for index in range(16)]
    before = triton.rows(contract.SEGMENTER)

    answer = triton.ask(slices(*levels))

    np.testing.assert_array_equal(answer[PROBABILITY][:, 0], np.float32(levels))
    np.testing.assert_array_equal(answer[SEGMENTED][:, 0], [level >= 0.5 for level in levels])
    expected = [level if level >= 0.5 else 0.0 for level in levels]
    np.testing.assert_array_equal(answer[MASK].mean(axis=(1, 2)), expected)
    np.testing.assert_array_equal(answer["mask_probability"], answer[MASK].astype(np.float32))
    assert triton.rows(contract.SEGMENTER) - before == 8


def test_requests_with_different_parameters_share_batches_and_keep_their_own_settings(triton):
    questions = [
        (slices(0.25, 0.75), {"detection_threshold": threshold, "gate": gate})
        for threshold in (0.0, 0.25, 0.5, "0.75", 1)
        for gate in contract.GATE_MODES
    ] * 4
    rows, executions = triton.rows(contract.ENSEMBLE), triton.executions(contract.ENSEMBLE)

    answers = triton.ask_at_once(*questions)

    for (_, parameters), answer in zip(questions, answers, strict=True):
        threshold = float(parameters["detection_threshold"])
        by_mode = {"auto": [threshold <= 0.25, threshold <= 0.75], "always": [True] * 2, "never": [False] * 2}
        opened = by_mode[parameters["gate"]]
        assert answer[PROBABILITY].tolist() == [[0.25], [0.75]]
        assert answer[SEGMENTED][:, 0].tolist() == opened
        assert answer[MASK].mean(axis=(1, 2)).tolist() == [0.25 * opened[0], 0.75 * opened[1]]
    assert triton.rows(contract.ENSEMBLE) - rows == 2 * len(questions)
    assert triton.executions(contract.ENSEMBLE) - executions < len(questions)


@pytest.mark.parametrize("outputs", [[PROBABILITY], [PROBABILITY, SEGMENTED]])
def test_who_asks_for_no_mask_never_wakes_the_segmenter(triton, outputs):
    before = triton.rows(contract.SEGMENTER)

    answer = triton.ask(slices(1.0, 0.75), outputs=outputs)

    assert answer[PROBABILITY].tolist() == [[1.0], [0.75]]
    assert triton.rows(contract.SEGMENTER) == before


def test_a_closed_gate_does_not_wake_the_segmenter(triton):
    before = triton.rows(contract.SEGMENTER)

    triton.ask(slices(0.25))
    triton.ask(slices(1.0), gate="never")

    assert triton.rows(contract.SEGMENTER) == before


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"detection_threshold": 1.5}, "detection_threshold is 1.5, expected a number from 0 to 1"),
        ({"mask_threshold": -1}, "mask_threshold is -1, expected a number from 0 to 1"),
        ({"mask_threshold": float("nan")}, "mask_threshold is nan, expected a number from 0 to 1"),
        ({"detection_threshold": True}, "detection_threshold is True, expected a number from 0 to 1"),
        ({"gate": "open"}, "gate is 'open', expected one of auto, always, never"),
        ({"threshold": 0.5}, "unknown parameter 'threshold'"),
    ],
)
def test_a_wrong_parameter_fails_its_request_and_not_its_neighbours(triton, parameters, reason):
    before, wrong, after = triton.ask_at_once((slices(0.75), {}), (slices(0.75), parameters), (slices(0.25), {}))

    assert isinstance(wrong, InferenceServerException)
    assert wrong.status() == "StatusCode.INVALID_ARGUMENT"
    assert reason in wrong.message()
    assert before[MASK].mean() == 0.75
    assert after[PROBABILITY].item() == 0.25


@pytest.mark.parametrize(
    ("images", "datatype", "reason"),
    [
        (slices(1.0).astype(np.float32), "FP32", "data-type is 'FP32', but model 'brain_tumor' expects 'UINT8'"),
        (slices(1.0)[:, :, :255], "UINT8", "unexpected shape for input 'image'"),
        # Without a batch dimension, the rows of the picture look like a batch of 256.
        (slices(1.0)[0], "UINT8", "batch-size must be <= 32"),
        (np.zeros((33, *contract.IMAGE.shape), np.uint8), "UINT8", "batch-size must be <= 32"),
    ],
)
def test_a_wrong_image_fails_its_request_and_not_its_neighbours(triton, images, datatype, reason):
    wrong, neighbour = triton.ask_at_once((images, {"datatype": datatype}), (slices(0.75), {}))

    assert isinstance(wrong, InferenceServerException)
    assert wrong.status() == "StatusCode.INVALID_ARGUMENT"
    assert reason in wrong.message()
    assert neighbour[MASK].mean() == 0.75


def test_a_segmenter_that_fails_fails_only_requests_that_needed_it(triton):
    poison = poisoned(slices(0.75), contract.SEGMENTER)
    failed, shut, probability_only = triton.ask_at_once(
        (poison, {}), (slices(0.25), {}), (poison, {"outputs": [PROBABILITY]})
    )

    assert isinstance(failed, InferenceServerException)
    assert failed.status() == "StatusCode.INTERNAL"
    assert "tumor_segmenter: " in failed.message()
    assert shut[PROBABILITY].item() == 0.25
    assert probability_only[PROBABILITY].item() == 0.75


def test_a_detector_that_fails_fails_only_requests_that_needed_it(triton):
    poison = poisoned(slices(0.75), contract.DETECTOR)
    failed, always = triton.ask_at_once((poison, {}), (poison, {"gate": "always", "outputs": [MASK]}))

    assert isinstance(failed, InferenceServerException)
    assert "tumor_detector: " in failed.message()
    assert always[MASK].mean() == 0.75


def test_a_network_that_batches_and_fails_on_one_request_answers_the_others(tiny_repository, tmp_path):
    """Ours do not batch; another's model that the backend is given may."""
    repository = shutil.copytree(tiny_repository, tmp_path / "model_repository")
    with (repository / contract.DETECTOR.name / "config.pbtxt").open("a") as config:
        config.write("dynamic_batching { max_queue_delay_microseconds: 500000 }\n")
    options = {"model": contract.DETECTOR, "outputs": [PROBABILITY]}
    good, bad = (slices(0.75), options), (poisoned(slices(0.25), contract.DETECTOR), options)

    with EmbeddedServer(repository) as server:
        triton = Triton(server.url)
        executions = triton.executions(contract.DETECTOR)
        answers = triton.ask_at_once(*[good, bad, good, good] * 8)
        executions = triton.executions(contract.DETECTOR) - executions
        triton.client.close()

    assert executions < len(answers)
    for index, answer in enumerate(answers):
        if index % 4 == 1:
            assert isinstance(answer, InferenceServerException)
            assert "MatMul" in answer.message()
        else:
            assert answer[PROBABILITY].item() == 0.75


def test_an_overloaded_gate_refuses_at_once_and_answers_the_rest(tiny_repository, tmp_path):
    repository = shutil.copytree(tiny_repository, tmp_path / "model_repository")
    config = repository / contract.ENSEMBLE.name / "config.pbtxt"
    text = config.read_text()
    assert "max_queue_size: 128" in text
    config.write_text(text.replace("max_queue_size: 128", "max_queue_size: 1"))

    with EmbeddedServer(repository) as server:
        triton = Triton(server.url)
        answers = triton.ask_at_once(*[(slices(*[0.75] * 8), {})] * 48)
        triton.client.close()

    refused = [answer for answer in answers if isinstance(answer, InferenceServerException)]
    assert 0 < len(refused) < len(answers)
    assert {error.status() for error in refused} == {"StatusCode.UNAVAILABLE"}
    assert all((answer[MASK].mean(axis=(1, 2)) == 0.75).all() for answer in answers if answer not in refused)


def test_a_server_that_stops_answers_or_says_try_elsewhere(tiny_repository):
    with EmbeddedServer(tiny_repository) as server, ThreadPoolExecutor(1) as elsewhere:
        triton = Triton(server.url)
        asked = elsewhere.submit(triton.ask_at_once, *[(slices(*[0.75] * 32), {})] * 6)
        time.sleep(0.1)
        server.stop()
        answers = asked.result()
        triton.client.close()

    # NOT_FOUND is what Triton itself says once its models are unloaded and its port is still open.
    statuses = {answer.status() for answer in answers if isinstance(answer, InferenceServerException)}
    assert statuses <= {"StatusCode.UNAVAILABLE", "StatusCode.NOT_FOUND"}


def test_the_gate_counts_what_it_does(triton, tiny_server):
    before = counted(tiny_server.metrics_url)

    triton.ask(slices(0.25, 0.75, 0.75))
    triton.ask(slices(0.75), outputs=[PROBABILITY])
    triton.ask(slices(0, 0.75), detection_threshold=0.0)
    with pytest.raises(InferenceServerException):
        triton.ask(slices(0.75), gate="ajar")

    after = counted(tiny_server.metrics_url)
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    timed = {name: grown.pop(name) for name in tuple(grown) if name.startswith("gliogate_seconds_total")}
    assert len(timed) == 3
    of_requests = {name: grown.pop(name) for name in tuple(grown) if name.startswith("gliogate_request_seconds")}
    # Of those that were answered; in the gate they took as long as it spent, and sending.
    assert of_requests["gliogate_request_seconds_count"] == 3
    assert of_requests['gliogate_request_seconds_bucket{le="+Inf"}'] == 3
    assert of_requests.pop("gliogate_request_seconds_sum") > sum(timed.values()) / 2
    assert set(of_requests.values()) <= {1, 2, 3}
    assert grown == {
        'gliogate_requests_total{outcome="answered"}': 3,
        'gliogate_requests_total{outcome="invalid"}': 1,
        'gliogate_slices_total{decision="opened"}': 4,
        'gliogate_slices_total{decision="shut"}': 1,
        "gliogate_suspicious_slices_total": 1,
        'gliogate_batch_rows_bucket{le="1"}': 1,
        'gliogate_batch_rows_bucket{le="2"}': 2,
        **{f'gliogate_batch_rows_bucket{{le="{edge}"}}': 3 for edge in (4, 8, 16, 32, "+Inf")},
        "gliogate_batch_rows_sum": 6,
        "gliogate_batch_rows_count": 3,
    }


def test_the_probes_requests_are_counted_by_themselves(triton, tiny_server):
    before = counted(tiny_server.metrics_url)

    triton.ask(slices(0.25), outputs=[PROBABILITY, MASK], request_id="gliogate-probe", gate="always")
    with pytest.raises(InferenceServerException):
        triton.ask(poisoned(slices(0.25), contract.DETECTOR), outputs=[PROBABILITY], request_id="gliogate-probe")

    after = counted(tiny_server.metrics_url)
    of_requests = ("gliogate_request_seconds", "gliogate_requests_total")
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert not any(name.startswith(("gliogate_slices", "gliogate_batch_rows")) for name in grown)
    assert {name: by for name, by in grown.items() if name.startswith(of_requests)} == {
        'gliogate_requests_total{outcome="probe"}': 1,
        'gliogate_requests_total{outcome="probe_failed"}': 1,
    }


@pytest.fixture
def grouping(tiny_repository, tmp_path):
    """A repository whose gate waits for a batch, to work on it by `rows_at_once`."""

    def build(rows_at_once):
        repository = shutil.copytree(tiny_repository, tmp_path / "model_repository")
        config = repository / contract.ENSEMBLE.name / "config.pbtxt"
        text = config.read_text()
        for old, new in (
            ("dynamic_batching {", "dynamic_batching {\n  max_queue_delay_microseconds: 500000"),
            ('key: "rows_at_once" value: { string_value: "8" }', f'key: "rows_at_once" value: {{ {rows_at_once} }}'),
        ):
            assert old in text
            text = text.replace(old, new)
        config.write_text(text)
        return repository

    return build


def test_a_large_batch_is_answered_group_by_group(grouping):
    levels = [0.25, 0.75, 0.5, 0.625, 0.125, 0.875]
    requests = [(slices(level), {"gate": "perhaps"} if level == 0.5 else {}) for level in levels]

    with EmbeddedServer(grouping('string_value: "2"')) as server:
        triton = Triton(server.url)
        answers = triton.ask_at_once(*requests)
        triton.client.close()
        count = counted(server.metrics_url)

    for level, answer in zip(levels, answers, strict=True):
        if level == 0.5:
            assert "gate is 'perhaps'" in answer.message()
        else:
            assert answer[PROBABILITY].item() == level
            assert answer[MASK].mean() == (level if level > 0.5 else 0)
    assert count['gliogate_requests_total{outcome="answered"}'] == 5
    # Five rows in groups of at most two, whichever came first, and none larger.
    assert count["gliogate_batch_rows_count"] >= 3
    assert count['gliogate_batch_rows_bucket{le="2"}'] == count["gliogate_batch_rows_count"]


@pytest.mark.parametrize("text", ["0", "eight", "-1"])
def test_a_group_of_no_size_is_refused_by_name(grouping, text):
    with pytest.raises(EmbeddedServerError, match=f"parameter 'rows_at_once' is '{text}', expected a positive number"):
        EmbeddedServer(grouping(f'string_value: "{text}"')).start()
