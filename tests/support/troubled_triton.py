"""A server of our own that refuses requests as a Triton in trouble would: what a healthy Triton never does."""

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gliogate.contract import (
    CONTEXT_AFTER,
    CONTEXT_BEFORE,
    MASK_PROBABILITY,
    SEGMENTED,
    THRESHOLDS,
    TUMOR_MASK,
    TUMOR_PROBABILITY,
)

NO_TUMOR = {
    TUMOR_PROBABILITY: np.zeros(1, np.float32),
    TUMOR_MASK: np.zeros((256, 256), np.uint8),
    MASK_PROBABILITY: np.zeros((256, 256), np.float32),
    SEGMENTED: np.zeros(1, bool),
    THRESHOLDS: np.full(2, 0.5, np.float32),
}


class TroubledTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Refuses the first `failures` requests with `status`, and answers the others with "no tumor".

    It does so as versions before 11: without certainty.

    Attributes:
        status: of what it refuses.
        failures: how many requests it refuses.
        not_ready: models that it says are not.
        token: who does not send it is not let in; None lets everybody in.
        holds: keeps requests until they are cancelled.
        spoil: what it does to an answer before it is sent.
        versions: that it says its models have.
        requests: those that came.
        cancelled: how many the client did not want answered any more.
        url: HOST:PORT.
    """

    def __init__(self) -> None:
        self.status = grpc.StatusCode.UNAVAILABLE
        self.failures = 0
        self.not_ready: tuple[str, ...] = ()
        self.token: str | None = None
        self.holds = False
        self.spoil: Callable[[service_pb2.ModelInferResponse], object] = lambda response: None  # noqa: ARG005
        self.versions = ["1"]
        self.requests: list[service_pb2.ModelInferRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.cancelled = threading.Semaphore(0)
        self.url = ""

    def _let_in(self, context) -> None:
        metadata = dict(context.invocation_metadata())
        if self.token is not None and metadata.get("authorization") != f"Bearer {self.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token, or another one")

    def ServerLive(self, request, context):  # noqa: N802, ARG002  as gRPC has it
        self._let_in(context)
        return service_pb2.ServerLiveResponse(live=True)

    def ModelReady(self, request, context):  # noqa: N802  as gRPC has it
        self._let_in(context)
        return service_pb2.ModelReadyResponse(ready=request.name not in self.not_ready)

    def ServerMetadata(self, request, context):  # noqa: N802, ARG002  as gRPC has it
        return service_pb2.ServerMetadataResponse(version="2.0.0")

    def ModelMetadata(self, request, context):  # noqa: N802, ARG002  as gRPC has it
        return service_pb2.ModelMetadataResponse(name=request.name, versions=self.versions)

    def ModelConfig(self, request, context):  # noqa: N802, ARG002  as gRPC has it
        return service_pb2.ModelConfigResponse()

    def ModelInfer(self, request, context):  # noqa: N802  as gRPC has it
        self._let_in(context)
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if len(self.requests) <= self.failures:
            context.abort(self.status, "in trouble")
        if self.holds:
            ended = threading.Event()
            context.add_callback(ended.set)
            ended.wait(30)
            self.cancelled.release()
        response = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
        asked = {output.name for output in request.outputs}
        context = sum(request.parameters[name].int64_param for name in (CONTEXT_BEFORE, CONTEXT_AFTER))
        rows = request.inputs[0].shape[0] - context
        for tensor, value in NO_TUMOR.items():
            if tensor.name in asked:
                response.outputs.add(name=tensor.name, datatype=tensor.dtype, shape=[rows, *tensor.shape])
                response.raw_output_contents.append(value.tobytes() * rows)
        self.spoil(response)
        return response


@contextmanager
def troubled_triton(credentials: grpc.ServerCredentials | None = None) -> Iterator[TroubledTriton]:
    """Serves one on a free port, in clear text or with TLS."""
    server = grpc.server(futures.ThreadPoolExecutor(8))
    servicer = TroubledTriton()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    add = server.add_secure_port if credentials else server.add_insecure_port
    port = add("127.0.0.1:0", *([credentials] if credentials else []))
    servicer.url = f"127.0.0.1:{port}"
    server.start()
    try:
        yield servicer
    finally:
        server.stop(grace=None).wait()
