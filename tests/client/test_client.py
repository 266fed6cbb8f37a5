"""What a healthy Triton never does: a server of our own that refuses requests as a Triton in trouble would."""

from concurrent import futures

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gliogate import (
    Client,
    DeadlineExceededError,
    InvalidRequestError,
    ModelNotReadyError,
    RequestError,
    ServerUnavailableError,
)
from gliogate.contract import ENSEMBLE, SEGMENTED, SEGMENTER, TUMOR_MASK, TUMOR_PROBABILITY

SLICE = np.zeros((256, 256, 3), np.uint8)


class TroubledTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Refuses the first `failures` requests with `status`, and answers the others with "no tumor"."""

    def __init__(self) -> None:
        self.status = grpc.StatusCode.UNAVAILABLE
        self.failures = 1000
        self.not_ready: tuple[str, ...] = ()
        self.requests: list[service_pb2.ModelInferRequest] = []

    def ServerLive(self, request, context):  # noqa: N802, ARG002  as gRPC has it
        return service_pb2.ServerLiveResponse(live=True)

    def ModelReady(self, request, context):  # noqa: N802, ARG002  as gRPC has it
        return service_pb2.ModelReadyResponse(ready=request.name not in self.not_ready)

    def ModelInfer(self, request, context):  # noqa: N802  as gRPC has it
        self.requests.append(request)
        if len(self.requests) <= self.failures:
            context.abort(self.status, "in trouble")
        response = service_pb2.ModelInferResponse(model_name=ENSEMBLE.name, id=request.id)
        values = {
            TUMOR_PROBABILITY: np.zeros(1, np.float32),
            TUMOR_MASK: np.zeros((256, 256), np.uint8),
            SEGMENTED: np.zeros(1, bool),
        }
        for tensor, value in values.items():
            response.outputs.add(name=tensor.name, datatype=tensor.dtype, shape=[1, *tensor.shape])
            response.raw_output_contents.append(value.tobytes())
        return response


@pytest.fixture
def triton():
    server = grpc.server(futures.ThreadPoolExecutor(4))
    servicer = TroubledTriton()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    servicer.url = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(grace=None).wait()


@pytest.fixture
def client(triton):
    with Client(triton.url) as client:
        yield client


def test_a_request_is_sent_again_when_the_server_was_unavailable(client, triton):
    triton.failures = 2

    assert client.analyze(SLICE).verdict == "no tumor"
    assert len({request.id for request in triton.requests}) == 1
    assert len(triton.requests) == 3


def test_an_overloaded_server_is_told_from_an_absent_one(client):
    with pytest.raises(ServerUnavailableError, match=r"overloaded .*: try again, with fewer requests") as caught:
        client.analyze(SLICE)

    assert caught.value.may_retry


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL])
def test_a_model_that_is_not_ready_is_named(client, triton, status):
    triton.status, triton.not_ready = status, (SEGMENTER.name,)

    assert not client.is_ready()
    with pytest.raises(ModelNotReadyError, match=f"{SEGMENTER.name} not ready at {triton.url}") as caught:
        client.analyze(SLICE)
    with pytest.raises(ModelNotReadyError, match=SEGMENTER.name):
        client.wait_until_ready(timeout_s=0)

    assert caught.value.status == status.name
    assert caught.value.may_retry


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequestError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, RequestError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceededError),
        (grpc.StatusCode.INTERNAL, RequestError),
        (grpc.StatusCode.CANCELLED, RequestError),
    ],
)
def test_every_other_status_has_its_error_and_is_not_tried_again(client, triton, status, kind):
    triton.status = status

    with pytest.raises(RequestError, match=triton.url) as caught:
        client.analyze(SLICE)

    assert type(caught.value) is kind
    assert caught.value.status == status.name
    assert caught.value.url == triton.url
    assert [request.id for request in triton.requests] == [caught.value.request_id]


def test_only_what_is_asked_for_is_sent(client, triton):
    triton.failures = 0

    client.analyze(SLICE, detection_threshold=1, gate="never")

    (request,) = triton.requests
    assert {output.name for output in request.outputs} == {"tumor_probability", "tumor_mask", "segmented"}
    assert request.parameters["detection_threshold"].double_param == 1.0
    assert request.parameters["gate"].string_param == "never"
    assert "mask_threshold" not in request.parameters
