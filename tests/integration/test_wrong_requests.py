"""Wrong requests amid right ones, to a real Triton: who is wrong is told so, and nobody else notices."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from random import Random

import grpc
import pytest
from support import wrong_requests
from support.gate_counts import counted
from support.right_requests import ANSWER_S, CALLERS, Load
from support.waiting import settled
from tritonclient.grpc import service_pb2_grpc

from gliogate import contract
from gliogate.embedded import EmbeddedServer
from gliogate.errors import EmbeddedServerError

SEED = 21
WRONG = 1500


def test_no_wrong_request_fails_a_right_one_and_each_gets_an_answer(tiny_server):
    random = Random(SEED)
    contents = [wrong_requests.generate_bytes(random) for _ in range(WRONG)]

    with Load(tiny_server.url) as load:
        assert wrong_requests.unanswered(tiny_server.url, contents) == []

    assert load.answered >= CALLERS


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


def test_a_first_dimension_that_triton_takes_for_none_is_refused_and_fails_no_neighbour(joining, capfd):
    repository, _ = joining
    sizes = [0, 2**32, 2**40, -(2**32), -(2**63)]
    wrong = [with_first_dimension(size, "of a stranger") for size in sizes]
    right = [wrong_requests.right() for _ in sizes]

    with EmbeddedServer(repository, verbose=True) as server:
        answers = ask_at_once(server.url, [each for pair in zip(wrong, right, strict=True) for each in pair])
        assert counted(server.metrics_url)['gliogate_requests_total{outcome="invalid"}'] == len(sizes)

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


def spoil(gate, file, code):
    """Has a copy of the gate do what happens to it seldom; the code follows the gate's own."""
    with (gate / file).open("a") as source:
        source.write(f"\n{code}")


def test_requests_that_are_too_much_together_are_answered_one_by_one(joining):
    """And what was made of them together is gone by then."""
    repository, gate = joining
    spoil(
        gate,
        "gating.py",
        """
import weakref

_run = run
_joined = lambda: None


def run(requests, *rest, **options):
    global _joined
    if len(requests) > 1:
        masks = np.zeros(1)
        _joined = weakref.ref(masks)
        raise MemoryError("too much")
    if _joined() is not None:
        raise MemoryError("what was joined is still there")
    if requests[0].settings.mask_threshold == 0.25:
        raise MemoryError("too much")
    return _run(requests, *rest, **options)
""",
    )
    requests = [wrong_requests.right() for _ in range(4)]
    requests[2].parameters["mask_threshold"].double_param = 0.25

    with EmbeddedServer(repository) as server:
        answers = ask_at_once(server.url, requests)

    failed = answers.pop(2)
    assert (failed.code(), failed.details()) == (grpc.StatusCode.INTERNAL, "too much")
    assert [answer.outputs[0].name for answer in answers] == [contract.TUMOR_PROBABILITY.name] * 3


def test_requests_that_are_too_much_for_a_network_together_are_answered_one_by_one(joining):
    repository, gate = joining
    spoil(
        gate,
        "model.py",
        """
_network = _ask


def _ask(model, version, output, images):
    if len(images) > 1:
        raise pb_utils.TritonModelException("Failed to increase the shared memory pool size")
    return _network(model, version, output, images)
""",
    )
    requests = [wrong_requests.right() for _ in range(4)]
    requests[2].inputs[0].shape[0] = 2
    requests[2].raw_input_contents[:] = [bytes(2 * wrong_requests.ROW_BYTES)]

    with EmbeddedServer(repository) as server:
        answers = ask_at_once(server.url, requests)
        count = settled(lambda: counted(server.metrics_url))

    failed = answers.pop(2)
    assert (failed.code(), failed.details()) == (
        grpc.StatusCode.INTERNAL,
        "Failed to increase the shared memory pool size",
    )
    assert [answer.outputs[0].shape for answer in answers] == [[1, 1]] * 3
    assert count["gliogate_batch_rows_sum"] == 3


def test_an_answer_that_cannot_be_sent_fails_no_other(joining):
    """And nothing of it waits for the garbage collector."""
    repository, gate = joining
    spoil(
        gate,
        "model.py",
        """
import gc
import weakref

_to_send = _response
_unsent = lambda: None
gc.disable()


def _response(outcome):
    global _unsent
    if not isinstance(outcome, dict):
        return _to_send(outcome)
    if (outcome["thresholds"] == 0.75).any() and _unsent() is not None:
        raise pb_utils.TritonModelException("what could not be sent is still there")
    if (outcome["thresholds"] == 0.25).any():
        _unsent = weakref.ref(outcome["thresholds"])
        raise pb_utils.TritonModelException("nobody is there")
    return _to_send(outcome)
""",
    )
    requests = [wrong_requests.right() for _ in range(4)]
    for request in requests:
        request.outputs.add(name=contract.THRESHOLDS.name)
    requests[2].parameters["mask_threshold"].double_param = 0.25
    requests[3].parameters["mask_threshold"].double_param = 0.75
    config = repository / contract.ENSEMBLE.name / "config.pbtxt"
    config.write_text(config.read_text().replace("count: 2", "count: 1"))

    with EmbeddedServer(repository) as server:
        answers = ask_at_once(server.url, requests[:3])
        answers += ask_at_once(server.url, requests[3:])

    failed = answers.pop(2)
    assert (failed.code(), failed.details()) == (grpc.StatusCode.INTERNAL, "nobody is there")
    assert [len(answer.outputs) for answer in answers] == [2, 2, 2]


def test_neither_a_request_that_cannot_be_answered_nor_a_log_that_takes_no_line_fails_another(joining):
    repository, gate = joining
    spoil(
        gate,
        "model.py",
        """
def tell(self, request_id, error):
    raise pb_utils.TritonModelException("the log takes no line")


Refusals.tell = tell


class _WithoutSender:
    def __init__(self, request):
        self.request = request

    def __getattr__(self, name):
        return getattr(self.request, name)

    def get_response_sender(self):
        raise pb_utils.TritonModelException("there is no sender")


_tensor_by_name = pb_utils.get_input_tensor_by_name
pb_utils.get_input_tensor_by_name = lambda request, name: _tensor_by_name(getattr(request, "request", request), name)
_execute = TritonPythonModel.execute


def execute(self, requests):
    is_lost = [request.request_id() == "lost" for request in requests]
    answers = _execute(self, [_WithoutSender(each) if lost else each for each, lost in zip(requests, is_lost)])
    error = pb_utils.InferenceResponse(error=pb_utils.TritonError("it was lost"))
    for request, lost in zip(requests, is_lost):
        if lost:
            request.get_response_sender().send(error, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    return answers


TritonPythonModel.execute = execute
""",
    )
    requests = [wrong_requests.right() for _ in range(4)]
    requests[1].id = "lost"
    requests[2].parameters["mask_threshold"].double_param = 25

    with EmbeddedServer(repository) as server:
        first, lost, wrong, last = ask_at_once(server.url, requests)

    assert [len(answer.outputs) for answer in (first, last)] == [1, 1]
    assert lost.details() == "it was lost"
    assert wrong.code() == grpc.StatusCode.INVALID_ARGUMENT
