"""Wrong requests amid right ones, to a real Triton: who is wrong is told so, and nobody else notices."""

import re
import shutil
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from random import Random

import grpc
import numpy as np
import pytest
from support import wrong_requests
from support.tiny_networks import slices
from support.waiting import wait_for
from tritonclient.grpc import service_pb2_grpc

from gliogate import contract
from gliogate.embedded import EmbeddedServer
from gliogate.errors import EmbeddedServerError

SEED = 21
WRONG = 1500
CALLERS = 8
ANSWER_S = 30.0
INFER = "/inference.GRPCInferenceService/ModelInfer"


class Load:
    """Right requests, from several callers at a time, until it is left."""

    def __init__(self, url):
        self._url = url
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(CALLERS)
        self.answered = 0

    def __enter__(self):
        self._futures = [self._pool.submit(self._call, caller) for caller in range(CALLERS)]
        return self

    def __exit__(self, *_):
        self._ended.set()
        # A right request that failed raises here.
        self.answered = sum(future.result() for future in self._futures)
        self._pool.shutdown()

    def _call(self, caller):
        answered = 0
        level = (caller + 1) / (CALLERS + 1) // (1 / 256) / 256
        expected = level if level >= 0.5 else 0.0
        [image] = slices(level)
        with grpc.insecure_channel(self._url) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            request = wrong_requests.right()
            request.outputs.add(name=contract.TUMOR_MASK.name)
            request.raw_input_contents[:] = [image.tobytes()]
            while not self._ended.is_set() or not answered:
                answer = stub.ModelInfer(request, timeout=ANSWER_S)
                probability, mask = answer.raw_output_contents
                assert np.frombuffer(probability, np.float32).item() == level
                assert np.frombuffer(mask, np.uint8).mean() == expected
                answered += 1
        return answered


def outcomes(url, contents):
    """Sends them, several at a time; returns the code of each."""

    def send(content):
        try:
            infer(content, timeout=ANSWER_S)
        except grpc.RpcError as error:
            return error.code(), error.details()
        return grpc.StatusCode.OK, ""

    with grpc.insecure_channel(url) as channel, ThreadPoolExecutor(CALLERS) as pool:
        infer = channel.unary_unary(INFER)
        return list(pool.map(send, contents))


def test_no_wrong_request_fails_a_right_one_and_each_gets_an_answer(tiny_server):
    random = Random(SEED)
    contents = [wrong_requests.generate_bytes(random) for _ in range(WRONG)]

    with Load(tiny_server.url) as load:
        answers = outcomes(tiny_server.url, contents)

    assert load.answered >= CALLERS
    # Some ask to wait for microseconds at most.
    told = {(grpc.StatusCode.UNAVAILABLE, "Request timeout expired")}
    unanswered = [
        f"{code}, {details}: {wrong_requests.readable(content)}"
        for content, (code, details) in zip(contents, answers, strict=True)
        if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE) and (code, details) not in told
    ]
    assert unanswered == []


@pytest.fixture
def joining(tiny_repository, tmp_path):
    """A repository whose gate waits for a batch, and the gate's folder in it."""
    repository = shutil.copytree(tiny_repository, tmp_path / "model_repository")
    config = repository / contract.ENSEMBLE.name / "config.pbtxt"
    text = config.read_text()
    assert "dynamic_batching {" in text
    config.write_text(text.replace("dynamic_batching {", "dynamic_batching {\n  max_queue_delay_microseconds: 200000"))
    return repository, repository / contract.ENSEMBLE.name / "1"


def ask_at_once(url, requests):
    """Returns answers, and errors in their place."""

    def ask(request):
        try:
            return stub.ModelInfer(request, timeout=ANSWER_S)
        except grpc.RpcError as error:
            return error

    with grpc.insecure_channel(url) as channel, ThreadPoolExecutor(len(requests)) as pool:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return list(pool.map(ask, requests))


def with_first_dimension(size, request_id=""):
    request = wrong_requests.right()
    request.id = request_id
    request.inputs[0].shape[0] = size
    return request


def invalid(server):
    """How many requests the gate has refused."""
    with urllib.request.urlopen(server.metrics_url, timeout=10) as page:
        text = page.read().decode()
    return float(re.search(r'^gliogate_requests_total\{outcome="invalid"\} (\S+)$', text, re.MULTILINE)[1])


def test_a_first_dimension_that_triton_takes_for_none_is_refused_and_fails_no_neighbour(joining, capfd):
    repository, _ = joining
    sizes = [0, 2**32, 2**40, -(2**32), -(2**63)]
    wrong = [with_first_dimension(size, "of a stranger") for size in sizes]
    right = [wrong_requests.right() for _ in sizes]

    with EmbeddedServer(repository, verbose=True) as server:
        answers = ask_at_once(server.url, [each for pair in zip(wrong, right, strict=True) for each in pair])
        wait_for(lambda: invalid(server) == len(sizes))

    assert {error.code() for error in answers[::2]} == {grpc.StatusCode.INVALID_ARGUMENT}
    [told] = {error.details() for error in answers[::2]}
    assert told.startswith("tensor 'image' has a first dimension of 0, or of one that Triton takes for 0; expected ")
    assert [answer.outputs[0].shape for answer in answers[1::2]] == [[1, 1]] * len(sizes)
    assert f"brain_tumor: request 'of a stranger': {told}" in capfd.readouterr().err


@pytest.mark.parametrize("size", [2**32 + 1, -(2**63) + 1])
def test_triton_counts_rows_in_32_bits(tiny_server, size):
    """So such a request, with the bytes of one slice, is one about one slice."""
    [answer] = ask_at_once(tiny_server.url, [with_first_dimension(size)])

    assert answer.outputs[0].shape == [1, 1]


def test_a_gate_refuses_the_configuration_under_which_it_could_not_tell(joining):
    repository, _ = joining
    config = repository / contract.ENSEMBLE.name / "config.pbtxt"
    reshape = "reshape { shape: [ 1, 256, 256, 3 ] }"
    assert reshape in config.read_text()
    config.write_text(config.read_text().replace(reshape, ""))

    with pytest.raises(EmbeddedServerError, match=r"older gate's input 'image': expected reshape .* found none"):
        EmbeddedServer(repository).start()


def test_requests_that_are_too_much_together_are_answered_one_by_one(joining):
    repository, gate = joining
    with (gate / "gating.py").open("a") as code:
        code.write(
            "\n_run = run\n\n"
            "def run(requests, *rest, **options):\n"
            "    if len(requests) > 1 or requests[0].settings.mask_threshold == 0.25:\n"
            "        raise MemoryError('too much')\n"
            "    return _run(requests, *rest, **options)\n"
        )
    requests = [wrong_requests.right() for _ in range(4)]
    requests[2].parameters["mask_threshold"].double_param = 0.25

    with EmbeddedServer(repository) as server:
        answers = ask_at_once(server.url, requests)

    failed = answers.pop(2)
    assert (failed.code(), failed.details()) == (grpc.StatusCode.INTERNAL, "too much")
    assert [answer.outputs[0].name for answer in answers] == [contract.TUMOR_PROBABILITY.name] * 3


def test_an_answer_that_cannot_be_sent_fails_no_other(joining):
    repository, gate = joining
    with (gate / "model.py").open("a") as code:
        code.write(
            "\n_to_send = _response\n\n"
            "def _response(outcome):\n"
            "    if isinstance(outcome, dict) and (outcome['thresholds'] == 0.25).any():\n"
            "        raise pb_utils.TritonModelException('nobody is there')\n"
            "    return _to_send(outcome)\n"
        )
    requests = [wrong_requests.right() for _ in range(4)]
    for request in requests:
        request.outputs.add(name=contract.THRESHOLDS.name)
    requests[2].parameters["mask_threshold"].double_param = 0.25

    with EmbeddedServer(repository) as server:
        answers = ask_at_once(server.url, requests)

    failed = answers.pop(2)
    assert (failed.code(), failed.details()) == (grpc.StatusCode.INTERNAL, "nobody is there")
    assert [len(answer.outputs) for answer in answers] == [2, 2, 2]
