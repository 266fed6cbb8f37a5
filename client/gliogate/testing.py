"""Clients that need no server, for the tests of your own code: same names, same signatures, phantoms inside.

    from gliogate.testing import FakeClient

    def test_my_report():
        with FakeClient(failures=[None, ServerUnavailableError("gone", url="fake:8001")]) as client:
            assert my_report(client, ["a.png", "b.png"]).failed == 1

Pictures are read, options checked and masks brought onto the picture's own grid as with a server. What is found in a
picture is another's: the known mask of a synthetic scan, drawn by the picture's content, so that the same picture
always gets the same answer.
"""

import time
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from gliogate.aio import AsyncClient
from gliogate.client import Client, _Call
from gliogate.connection import ConnectionOptions
from gliogate.contract import (
    CERTAINTY,
    DETECTION_THRESHOLD,
    ENSEMBLE,
    GATE,
    GATE_MODES,
    MASK_PROBABILITY,
    MASK_THRESHOLD,
    MODELS,
    QUEUE_SIZE,
    RELIABILITY,
    SEGMENTED,
    TUMOR_MASK,
    TUMOR_PROBABILITY,
    Model,
    Tensor,
)
from gliogate.phantom import make_phantoms
from gliogate.results import ModelInfo, OperatingPoint, ServerInfo
from gliogate.wire import READINESS_TIMEOUT_S, Health, Request, request_error

__all__ = ["FakeAsyncClient", "FakeClient"]

R = TypeVar("R")

PHANTOMS = 16
"""How many synthetic scans the answers are drawn from."""

THRESHOLD = 0.5
"""Of detection, and of the mask."""

SURE, SURELY_NOT = 0.97, 0.03
"""Probabilities of tumor where there is some, and where there is none."""

WORTH = (0.8, 0.8, 1.2, 0.5, 2.0)
"""The `reliability` of the fake server's masks."""

SERVER = ServerInfo(
    "0.0.0",
    tuple(ModelInfo(model.name, ("1",), 32, QUEUE_SIZE) for model in MODELS),
    OperatingPoint(THRESHOLD, THRESHOLD),
)
"""What the fake server says of itself."""


class _FakeServer:
    """Answers requests as the gate would that knows every tumor."""

    def __init__(self, url: str, prevalence: float, seed: int, failures: Iterable[Exception | None]) -> None:
        self._url = url
        self._phantoms = list(make_phantoms(PHANTOMS, prevalence=prevalence, seed=seed))
        self._failures = iter(failures)

    def answer(self, request: Request[Any]) -> bytes:
        if failure := next(self._failures, None):
            raise failure
        request.message()  # What cannot be sent is told as with a server.
        _check(request, self._url)
        of_slices = [self._of(picture, request) for picture in request.pictures]
        response = service_pb2.ModelInferResponse(model_name=ENSEMBLE.name, id=request.id)
        for tensor in request.outputs + request.optional:
            values = np.stack([each[tensor] for each in of_slices])
            response.outputs.add(name=tensor.name, datatype=tensor.dtype, shape=values.shape)
            response.raw_output_contents.append(values.tobytes())
        return bytes(response.SerializeToString())

    def _of(self, picture: NDArray[np.uint8], request: Request[Any]) -> dict[Tensor, NDArray[Any]]:
        """What is said of a picture."""
        content = request.geometry.to_slice(picture).tobytes()
        phantom = self._phantoms[zlib.crc32(content) % PHANTOMS]
        probability = SURE if phantom.tumor else SURELY_NOT
        is_over = probability >= _threshold(request, DETECTION_THRESHOLD)
        opened = {"always": True, "never": False}.get(str(request.parameters.get(GATE)), is_over)
        inside = np.where(phantom.mask, SURE, SURELY_NOT).astype(np.float32) * opened
        return {
            TUMOR_PROBABILITY: np.array([probability], np.float32),
            TUMOR_MASK: (opened & (inside >= _threshold(request, MASK_THRESHOLD))).astype(np.uint8),
            MASK_PROBABILITY: inside,
            SEGMENTED: np.array([opened]),
            CERTAINTY: np.array([SURE if inside.any() else 0], np.float32),
            RELIABILITY: np.array(WORTH, np.float32),
        }


def _threshold(request: Request[Any], name: str) -> float:
    value = request.parameters.get(name)
    return THRESHOLD if value is None else float(value)


def _check(request: Request[Any], url: str) -> None:
    """Refuses what the gate would.

    Raises:
        InvalidRequestError: a parameter has a value that it cannot have.
    """
    for name, value in request.parameters.items():
        if name == GATE:
            is_good, expected = value in GATE_MODES, f"one of {', '.join(GATE_MODES)}"
        else:
            is_good, expected = 0 <= float(value) <= 1, "a number from 0 to 1"
        if not is_good:
            details = f"{name} is {value!r}, expected {expected}"
            raise request_error("INVALID_ARGUMENT", details, url=url, request=request)


class FakeClient(Client):
    """A `Client` whose server is inside.

    Args:
        url: what errors and `url` say; nothing is connected to.
        prevalence: share of the pictures, 0 to 1, in which tumor is found.
        seed: of the synthetic scans.
        failures: what each request ends with, in the order of the requests: an error that is raised, or None for an
            answer. Answers, once there are no more.
        **options: see `ConnectionOptions`; checked, and of no effect.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = "fake:8001",
        *,
        prevalence: float = 0.35,
        seed: int = 0,
        failures: Iterable[Exception | None] = (),
        **options: Unpack[ConnectionOptions],
    ) -> None:
        super().__init__(url, **options)
        self._server = _FakeServer(self.url, prevalence, seed, failures)

    def server_info(self) -> ServerInfo:
        """What a server could say of itself."""
        self._check_usable()
        return SERVER

    def _send(self, request: Request[R]) -> _Call[R]:
        self._check_usable()
        call: _Call[R] = _Call(request, Future(), Future())
        sent = time.perf_counter()
        try:
            call.answer.set_result((self._server.answer(request), time.perf_counter() - sent))
        except Exception as failure:
            call.started.set_exception(failure)
            call.answer.set_exception(failure)
        return call

    def _serves(self, model: Model) -> bool:  # noqa: ARG002  nobody is asked
        return True

    def _health(self, timeout_s: float = READINESS_TIMEOUT_S) -> Health:  # noqa: ARG002  nobody is asked
        return Health(is_live=True)


class FakeAsyncClient(AsyncClient):
    """An `AsyncClient` whose server is inside; see `FakeClient`."""

    def __init__(
        self,
        url: str | Sequence[str] | None = "fake:8001",
        *,
        prevalence: float = 0.35,
        seed: int = 0,
        failures: Iterable[Exception | None] = (),
        **options: Unpack[ConnectionOptions],
    ) -> None:
        super().__init__(url, **options)
        self._server = _FakeServer(self.url, prevalence, seed, failures)

    async def server_info(self) -> ServerInfo:
        """What a server could say of itself."""
        self._check_usable()
        return SERVER

    async def _ask(self, request: Request[R]) -> R:
        self._check_usable()
        sent = time.perf_counter()
        return request.read(self._server.answer(request), time.perf_counter() - sent, url=self.url)

    async def _serves(self, model: Model) -> bool:  # noqa: ARG002  nobody is asked
        return True

    async def _health(self, timeout_s: float = READINESS_TIMEOUT_S) -> Health:  # noqa: ARG002  nobody is asked
        return Health(is_live=True)
