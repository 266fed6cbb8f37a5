"""Requests, responses and errors of the wire, without any I/O: what a client of any kind is made of."""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from numbers import Real
from typing import Any, Final, Generic, TypedDict, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from gliogate.connection import METHOD, SERVICE
from gliogate.contract import (
    CERTAINTY,
    CONTEXT_AFTER,
    CONTEXT_BEFORE,
    DETECTION_THRESHOLD,
    ENSEMBLE,
    GATE,
    GATE_MODES,
    IMAGE,
    MASK_PROBABILITY,
    MASK_THRESHOLD,
    RELIABILITY,
    SEGMENTED,
    SLICE_SPACING_MM,
    THRESHOLDS,
    TUMOR_MASK,
    TUMOR_PROBABILITY,
    VOLUME,
    GateMode,
    Model,
    Tensor,
)
from gliogate.errors import (
    AuthenticationError,
    DeadlineExceededError,
    InvalidRequestError,
    ModelNotReadyError,
    RequestError,
    ServerUnavailableError,
)
from gliogate.images import Picture, SliceGeometry, load_picture
from gliogate.parts import Part
from gliogate.responses import invalid_response, read_tensors
from gliogate.results import Analysis, Detection, ModelInfo, OperatingPoint, Reliability, ServerInfo

TIMEOUT_S: Final = 60.0
"""How long an answer may take where the caller says nothing."""

MAX_TIMEOUT_S: Final = 86400.0
"""A day: how long an answer may be given at most."""

WAITING_SHARE: Final = 0.5
"""Of its time a request may wait this share for its turn. A server that has too much to do then works on what it can
still answer in time; what it takes up at the last moment is too late when it is done, and so is what waits behind."""

IN_FLIGHT: Final = 16
"""How many requests are on their way at a time where the caller says nothing: a full batch for the server."""

READINESS_TIMEOUT_S: Final = 2.0
"""How long a question about the server's health may take."""

LEAST_PATIENCE_S: Final = 0.1
"""How long it may take at least, where a request's deadline is over or nearly so."""


class DetectionOptions(TypedDict, total=False):
    """What can be asked of a detection, by keyword.

    Attributes:
        detection_threshold: the probability, 0 to 1, from which a slice is detected and the gate opens; the server's
            operating point where it is not given.
        timeout_s: how long the answer may take, counted from sending the request; 60 s where it is not given. It is one
            deadline for everything, retries included; the server hears of it too, and refuses what has waited half of
            it for its turn.
    """

    detection_threshold: float | None
    timeout_s: float


class Options(DetectionOptions, total=False):
    """What can be asked of an analysis, by keyword: all of `DetectionOptions`, and more.

    Attributes:
        mask_threshold: the probability, 0 to 1, from which a pixel belongs to the mask; the server's operating point
            where it is not given.
        gate: `auto` (the default) segments what the detector finds, `always` and `never` what they say.
        return_mask_probability: also fetch `Analysis.mask_probability`, 256 KB more for each slice.
    """

    mask_threshold: float | None
    gate: GateMode
    return_mask_probability: bool


_SLICE_BYTES: Final = prod(IMAGE.shape)


@lru_cache
def before_slices(count: int) -> bytes:
    """What stands before the bytes of so many slices in a message.

    Protobuf, which would copy them three times, merges messages that are joined to one.
    """
    size = count * _SLICE_BYTES
    return bytes(service_pb2.ModelInferRequest(raw_input_contents=[bytes(size)]).SerializeToString()[:-size])


R_co = TypeVar("R_co", covariant=True)


def patience(deadline: float) -> float:
    """How long a question about a server's health may take: within a deadline of `time.monotonic`, or hardly longer."""
    return min(READINESS_TIMEOUT_S, max(LEAST_PATIENCE_S, deadline - time.monotonic()))


class Request(ABC, Generic[R_co]):
    """What is asked in one message: one picture on its way to the server, and how its answer is read.

    Raises:
        ImageError: the picture cannot be read, or cannot be a slice.
        ValueError: `timeout_s` is not above 0 or too long, `request_id` is no text that can be sent, a threshold no
            number, or `gate` no text.
    """

    outputs: tuple[Tensor, ...]
    optional: tuple[Tensor, ...] = ()  # outputs that servers of versions before 11 do not have
    answered: int = 1  # slices

    def __init__(
        self,
        picture: Picture,
        *,
        detection_threshold: float | None = None,
        timeout_s: float = TIMEOUT_S,
        request_id: str | None = None,
    ) -> None:
        if not _is_number(timeout_s) or not 0 < timeout_s <= MAX_TIMEOUT_S:
            raise ValueError(f"timeout_s is {timeout_s}, expected above 0 and at most {MAX_TIMEOUT_S:g}")
        if not isinstance(request_id, str | None):
            raise ValueError(f"request_id is {request_id!r}, expected text")
        self.id: str = request_id or uuid.uuid4().hex
        if any("\ud800" <= character <= "\udfff" for character in self.id):
            raise ValueError(f"request_id is {self.id!r}, expected text without lone surrogates: UTF-8 has none")
        self.timeout_s = timeout_s
        self.picture: NDArray[np.uint8] = load_picture(picture)
        self.geometry: SliceGeometry = SliceGeometry(*self.picture.shape[:2])
        self.parameters: dict[str, str | float] = {}
        if detection_threshold is not None:
            self.parameters[DETECTION_THRESHOLD] = _number(DETECTION_THRESHOLD, detection_threshold)
        self._deadline = time.monotonic() + timeout_s

    @property
    def pictures(self) -> NDArray[np.uint8]:
        """Those that are to be answered, (answered, H, W, 3)."""
        return self.picture[np.newaxis]

    @property
    def remaining_s(self) -> float:
        """How long its answer may still take."""
        return max(0.0, self._deadline - time.monotonic())

    @property
    def patience_s(self) -> float:
        """How long a question about what became of it may take: within its deadline, or hardly longer."""
        return patience(self._deadline)

    def message(self, *, with_optional: bool = True) -> bytes:
        """The request as it goes over the wire: a ModelInferRequest, serialized.

        Args:
            with_optional: whether it asks for the optional outputs, too; a server that does not have one refuses it.
        """
        pixels = self.geometry.to_slice(self.picture)
        envelope = self._envelope(ENSEMBLE, 1, with_optional=with_optional)
        return b"".join((envelope.SerializeToString(), before_slices(1), pixels.data))

    def _envelope(self, model: Model, slices: int, *, with_optional: bool = True) -> Any:
        """The message without the pixels: a ModelInferRequest."""
        outputs = self.outputs + self.optional if with_optional else self.outputs
        message = service_pb2.ModelInferRequest(
            model_name=model.name,
            id=self.id,
            inputs=[{"name": IMAGE.name, "datatype": IMAGE.dtype, "shape": (slices, *IMAGE.shape)}],
            outputs=[{"name": output.name} for output in outputs],
        )
        # In microseconds: how long the request may wait for its turn.
        message.parameters["timeout"].int64_param = round(1e6 * WAITING_SHARE * self.timeout_s)
        for name, value in self.parameters.items():
            if isinstance(value, str):
                message.parameters[name].string_param = value
            else:
                message.parameters[name].double_param = value
        return message

    def read(self, response: bytes, latency_s: float, *, url: str) -> R_co:
        """Makes the server's answer, a ModelInferResponse, serialized, a result.

        Raises:
            InvalidResponseError: the answer breaks the wire contract.
        """
        values = read_tensors(response, self.outputs, self.optional, url=url, request_id=self.id, slices=self.answered)
        return self._result(values, latency_s)

    @abstractmethod
    def _result(self, values: dict[str, NDArray[Any]], latency_s: float) -> R_co:
        """Makes a result of the tensors of an answer, by name; their first dimension is that of the slices."""


class DetectionRequest(Request[Detection]):
    """Asks for the detector's word only: without a mask among the outputs, the server never wakes the segmenter."""

    outputs: tuple[Tensor, ...] = (TUMOR_PROBABILITY, SEGMENTED)

    def _result(self, values: dict[str, NDArray[Any]], latency_s: float) -> Detection:
        return Detection(
            tumor_probability=float(values[TUMOR_PROBABILITY.name][0, 0]),
            # The gate says here whether it would open.
            detected=bool(values[SEGMENTED.name][0, 0]),
            latency_s=latency_s,
            request_id=self.id,
        )


class OperatingPointRequest(Request[OperatingPoint]):
    """Asks for the thresholds alone, which wakes no network; the slice with it is empty."""

    outputs: tuple[Tensor, ...] = (THRESHOLDS,)

    def __init__(self) -> None:
        super().__init__(np.zeros(IMAGE.shape, np.uint8), timeout_s=READINESS_TIMEOUT_S)

    def _result(self, values: dict[str, NDArray[Any]], latency_s: float) -> OperatingPoint:  # noqa: ARG002
        # As FP32 has them, 0.052 is 0.05199999734759331.
        return OperatingPoint(*(round(float(threshold), 6) for threshold in values[THRESHOLDS.name][0]))


class _AnalyzingRequest(Request[R_co]):
    """Asks for the detector's word and, where the gate opens, for a mask."""

    optional: tuple[Tensor, ...] = (CERTAINTY, RELIABILITY)

    def __init__(
        self,
        picture: Picture,
        *,
        detection_threshold: float | None = None,
        mask_threshold: float | None = None,
        gate: GateMode = "auto",
        return_mask_probability: bool = False,
        timeout_s: float = TIMEOUT_S,
        request_id: str | None = None,
    ) -> None:
        super().__init__(picture, detection_threshold=detection_threshold, timeout_s=timeout_s, request_id=request_id)
        self.outputs = (TUMOR_PROBABILITY, TUMOR_MASK, SEGMENTED)
        if return_mask_probability:
            self.outputs += (MASK_PROBABILITY,)
        if not isinstance(gate, str):
            raise ValueError(f"gate is {gate!r}, expected one of {', '.join(GATE_MODES)}")
        self.parameters[GATE] = gate
        if mask_threshold is not None:
            self.parameters[MASK_THRESHOLD] = _number(MASK_THRESHOLD, mask_threshold)

    def _analyses(
        self, values: dict[str, NDArray[Any]], latency_s: float, *, among_neighbours: bool
    ) -> tuple[Analysis, ...]:
        """An analysis of each picture."""
        return tuple(
            self._analysis({name: each[row] for name, each in values.items()}, latency_s, picture, among_neighbours)
            for row, picture in enumerate(self.pictures)
        )

    def _analysis(
        self, values: dict[str, NDArray[Any]], latency_s: float, picture: NDArray[np.uint8], among_neighbours: bool
    ) -> Analysis:
        probability = float(values[TUMOR_PROBABILITY.name][0])
        segmented = bool(values[SEGMENTED.name][0])
        plane = values.get(MASK_PROBABILITY.name)
        return Analysis(
            tumor_probability=probability,
            detected=self._judge(probability, segmented=segmented),
            segmented=segmented,
            mask=self.geometry.mask_to_picture(values[TUMOR_MASK.name]),
            mask_probability=None if plane is None else self.geometry.to_picture(plane),
            picture=picture,
            latency_s=latency_s,
            request_id=self.id,
            certainty=_certainty(values),
            reliability=_reliability(values),
            among_neighbours=among_neighbours,
        )

    def _judge(self, probability: float, *, segmented: bool) -> bool | None:
        if self.parameters[GATE] == "auto":  # The server's gate opens exactly where its threshold is reached.
            return segmented
        threshold = self.parameters.get(DETECTION_THRESHOLD)
        # As FP32, the type that the server compares in.
        return None if threshold is None else probability >= float(np.float32(threshold))


class AnalysisRequest(_AnalyzingRequest[Analysis]):
    """Asks about one picture."""

    def _result(self, values: dict[str, NDArray[Any]], latency_s: float) -> Analysis:
        [analysis] = self._analyses(values, latency_s, among_neighbours=False)
        return analysis


class PartRequest(_AnalyzingRequest[tuple[Analysis, ...]]):
    """Asks about consecutive slices of a head, which are judged among their neighbours.

    Args:
        slices: of the head, uint8 (N, H, W, 3).
        part: which of them.
        spacing_mm: between neighbours; None where it is unknown.
        **options: see `Options`; `timeout_s` counts for all of the part.
    """

    def __init__(
        self, slices: NDArray[np.uint8], part: Part, *, spacing_mm: float | None, **options: Unpack[Options]
    ) -> None:
        super().__init__(slices[part.start], **options)
        self.part = part
        self.answered = part.stop - part.start
        self._slices = slices
        self._spacing_mm = spacing_mm

    @property
    def pictures(self) -> NDArray[np.uint8]:
        """Those that are to be answered, (answered, H, W, 3)."""
        return self._slices[self.part.start : self.part.stop]

    def message(self, *, with_optional: bool = True) -> bytes:
        """See `Request.message`."""
        sent = self._slices[self.part.sent]
        envelope = self._envelope(VOLUME, len(sent), with_optional=with_optional)
        envelope.parameters[CONTEXT_BEFORE].int64_param = self.part.before
        envelope.parameters[CONTEXT_AFTER].int64_param = self.part.after
        pieces: list[Any] = [before_slices(len(sent)), *(self.geometry.to_slice(each).data for each in sent)]
        if self._spacing_mm is not None:
            name, dtype, shape = SLICE_SPACING_MM
            envelope.inputs.add(name=name, datatype=dtype, shape=shape)
            spacing = np.array([self._spacing_mm], np.float32).tobytes()
            pieces.append(service_pb2.ModelInferRequest(raw_input_contents=[spacing]).SerializeToString())
        return b"".join((envelope.SerializeToString(), *pieces))

    def _result(self, values: dict[str, NDArray[Any]], latency_s: float) -> tuple[Analysis, ...]:
        return self._analyses(values, latency_s, among_neighbours=True)


def _certainty(values: dict[str, NDArray[Any]]) -> float | None:
    """Of a slice; None where its mask is empty, or the server did not say."""
    found = values.get(CERTAINTY.name)
    return float(found[0]) if found is not None and values[TUMOR_MASK.name].any() else None


def _reliability(values: dict[str, NDArray[Any]]) -> Reliability | None:
    """Of the version that answered; None where it does not know, or did not say."""
    found = values.get(RELIABILITY.name)
    if found is None or not found.any():
        return None
    # As FP32 has them, 0.9 is 0.8999999761581421.
    limit, *bounds = (round(float(number), 6) for number in found)
    return Reliability(limit, (bounds[0], bounds[1]), (bounds[2], bounds[3]))


def _number(name: str, value: float) -> float:
    """What is sent of a threshold; whether it is one, the server says."""
    if not _is_number(value):
        raise ValueError(f"{name} is {value!r}, expected a number from 0 to 1")
    return float(value)


def _is_number(value: object) -> bool:
    """Whether this is one, of Python's or NumPy's; True and False are a mistake."""
    return isinstance(value, Real) and not isinstance(value, bool)


def infer_on(channel: Any) -> Any:
    """The call that asks, on a channel of `grpc` or `grpc.aio`: `Request.message` in, what `Request.read` reads out."""
    return channel.unary_unary(f"/{SERVICE}/{METHOD}")


_NOT_LET_IN: Final = ("PERMISSION_DENIED", "UNAUTHENTICATED")


@dataclass(frozen=True)
class Health:
    """What a server answered when it was asked how it is.

    Attributes:
        is_live: a Triton answered at all.
        not_ready: names of gliogate's models that it cannot serve yet.
        status: the name of the gRPC status that a server that is not ready has, or gave.
        details: what gRPC said of it.
    """

    is_live: bool
    not_ready: tuple[str, ...] = ()
    status: str = "UNAVAILABLE"
    details: str = ""

    @property
    def is_ready(self) -> bool:
        """Triton answered, and every model is ready."""
        return self.is_live and not self.not_ready

    @property
    def is_worth_waiting(self) -> bool:
        """Whether time may make it ready."""
        return self.status not in _NOT_LET_IN


FINAL_STATUSES: Final = ("CANCELLED", "DEADLINE_EXCEEDED", "INVALID_ARGUMENT", *_NOT_LET_IN)
"""gRPC statuses that say what happened by themselves; behind any other, the server's health tells the cause."""


def request_error(
    status: str,
    details: str,
    *,
    url: str,
    request: Request[Any] | None = None,
    health: Health | None = None,
    route: str = "",
) -> RequestError:
    """Makes an error of gliogate's of a failed call.

    Args:
        status: the name of the gRPC status.
        details: what gRPC or Triton said of it.
        url: the server's address.
        request: the request that failed; None where the call was about readiness.
        health: the server's, asked for after the failure; None for one of `FINAL_STATUSES`.
        route: what is to be known of the way to a server that nobody reaches; empty where that is nothing.
    """
    kind, message = RequestError, f"the server at {url} failed: {details}"
    if status == "INVALID_ARGUMENT":
        kind, message = InvalidRequestError, f"the server at {url} refused the request: {details}"
    elif status in _NOT_LET_IN:
        kind, message = AuthenticationError, f"the server at {url} does not let this client in: {details}"
    elif health and not health.is_live:
        kind = ServerUnavailableError
        message = f"no Triton answers gRPC at {url}: is it running (`gliogate serve`), and is that its gRPC port?"
        told = "; ".join(filter(None, (health.details, route)))
        message += f" ({told})" if told else ""
    elif health and health.not_ready:
        kind = ModelNotReadyError
        message = f"{', '.join(health.not_ready)} not ready at {url}: wait_until_ready(), or see the server's log"
    elif status == "DEADLINE_EXCEEDED":
        allowed = f" within {request.timeout_s:g} s" if request else ""
        message = f"no answer from {url}{allowed}: allow a longer timeout_s, or send fewer requests at a time"
        # A firewall may swallow what does not come through its proxy.
        message += f" ({route})" if route else ""
        kind = DeadlineExceededError
    elif status in ("UNAVAILABLE", "NOT_FOUND"):
        kind = ServerUnavailableError
        message = f"the server at {url} is overloaded or just restarted: try again, with fewer requests at a time"
    return kind(message, url=url, request_id=request.id if request else "", status=status)


def server_info(
    server: Any, models: Iterable[Any], configs: Iterable[Any], operating_point: OperatingPoint, *, url: str
) -> ServerInfo:
    """Makes Triton's messages about itself and about gliogate's models one answer.

    Args:
        server: a ServerMetadataResponse.
        models: a ModelMetadataResponse for each of `contract.MODELS` that is there.
        configs: a ModelConfigResponse for each.
        operating_point: the gate's.
        url: the server's address.

    Raises:
        InvalidResponseError: a version is no number.
    """

    def info(model: Any, config: Any) -> ModelInfo:
        if odd := [version for version in model.versions if not version.isdecimal()]:
            raise invalid_response(f"{model.name} has the version {odd[0]!r}, expected a number", url=url)
        return ModelInfo(
            model.name,
            tuple(sorted(model.versions, key=int)),
            config.max_batch_size,
            config.dynamic_batching.default_queue_policy.max_queue_size,
        )

    infos = tuple(info(model, answer.config) for model, answer in zip(models, configs, strict=True))
    return ServerInfo(server.version, infos, operating_point)
