"""Requests, responses and errors of the wire, without any I/O: what a client of any kind is made of."""

import json
import uuid
from dataclasses import dataclass
from typing import Any, Final, TypedDict

import numpy as np
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult

from gliogate.contract import (
    DETECTION_THRESHOLD,
    ENSEMBLE,
    GATE,
    IMAGE,
    MASK_PROBABILITY,
    MASK_THRESHOLD,
    SEGMENTED,
    TUMOR_MASK,
    TUMOR_PROBABILITY,
    GateMode,
)
from gliogate.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    ModelNotReadyError,
    RequestError,
    ServerUnavailableError,
)
from gliogate.images import Picture, SliceGeometry, load_picture
from gliogate.results import Analysis

TIMEOUT_S: Final = 60.0
"""How long an answer may take where the caller says nothing."""

IN_FLIGHT: Final = 16
"""How many requests are on their way at a time where the caller says nothing: a full batch for the server."""

READINESS_TIMEOUT_S: Final = 2.0
"""How long a question about the server's health may take."""

_MIB: Final = 2**20
_RETRIES: Final = {
    "methodConfig": [
        {
            "name": [{"service": "inference.GRPCInferenceService", "method": "ModelInfer"}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
CHANNEL_OPTIONS: Final = (
    # A slice is 0.2 MB and its answer 0.3; the rest is room for a server that has more to say.
    ("grpc.max_send_message_length", 16 * _MIB),
    ("grpc.max_receive_message_length", 16 * _MIB),
    # gRPC's own waits are made for data centers: up to 20 s to give up a connection, 120 s before the next try.
    ("grpc.min_reconnect_backoff_ms", 3000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.service_config", json.dumps(_RETRIES)),
)


def check_address(url: str) -> str:
    """Returns `url` as it is.

    Raises:
        ValueError: it is no HOST:PORT.
    """
    host, _, port = url.rpartition(":")
    if not host or "/" in url or not port.isdecimal():
        raise ValueError(f"{url!r} is no address of a gRPC endpoint: expected HOST:PORT, as in localhost:8001")
    return url


class Options(TypedDict, total=False):
    """What can be asked of an analysis, by keyword.

    Attributes:
        detection_threshold: the probability, 0 to 1, from which a slice counts as tumor; the server's operating point
            where it is not given.
        mask_threshold: the probability, 0 to 1, from which a pixel belongs to the mask; the server's operating point
            where it is not given.
        gate: `auto` (the default) segments what the detector finds, `always` and `never` what they say.
        return_mask_probability: also fetch `Analysis.mask_probability`, 256 KB more for each slice.
        timeout_s: how long the answer may take, counted from sending the request; 60 s where it is not given. It is one
            deadline for everything, retries included.
    """

    detection_threshold: float | None
    mask_threshold: float | None
    gate: GateMode
    return_mask_probability: bool
    timeout_s: float


class Request:
    """One picture on its way to the server.

    Raises:
        ImageError: the picture cannot be read, or cannot be a slice.
    """

    def __init__(
        self,
        picture: Picture,
        *,
        detection_threshold: float | None = None,
        mask_threshold: float | None = None,
        gate: GateMode = "auto",
        return_mask_probability: bool = False,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.timeout_s = timeout_s
        self._picture = load_picture(picture)
        self._geometry = SliceGeometry(*self._picture.shape[:2])
        self._detection_threshold = detection_threshold
        self._gate = gate
        thresholds = {DETECTION_THRESHOLD: detection_threshold, MASK_THRESHOLD: mask_threshold}
        self._parameters = {GATE: gate} | {k: float(v) for k, v in thresholds.items() if v is not None}
        self._outputs = [TUMOR_PROBABILITY, TUMOR_MASK, SEGMENTED] + [MASK_PROBABILITY] * return_mask_probability

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of tritonclient's `infer` and its kin."""
        image = InferInput(IMAGE.name, (1, *IMAGE.shape), IMAGE.dtype)
        image.set_data_from_numpy(self._geometry.to_slice(self._picture)[np.newaxis])
        return {
            "model_name": ENSEMBLE.name,
            "inputs": [image],
            "outputs": [InferRequestedOutput(output.name) for output in self._outputs],
            "request_id": self.id,
            "client_timeout": self.timeout_s,
            "parameters": self._parameters,
        }

    def read(self, result: InferResult, latency_s: float) -> Analysis:
        """Makes the server's answer an analysis, on the picture's own grid."""
        values = {output.name: result.as_numpy(output.name)[0] for output in self._outputs}
        probability = float(values[TUMOR_PROBABILITY.name][0])
        segmented = bool(values[SEGMENTED.name][0])
        plane = values.get(MASK_PROBABILITY.name)
        return Analysis(
            tumor_probability=probability,
            tumor=self._judge(probability, segmented=segmented),
            segmented=segmented,
            mask=self._geometry.mask_to_picture(values[TUMOR_MASK.name]),
            mask_probability=None if plane is None else self._geometry.to_picture(plane),
            picture=self._picture,
            latency_s=latency_s,
            request_id=self.id,
        )

    def _judge(self, probability: float, *, segmented: bool) -> bool | None:
        if self._gate == "auto":  # The server's gate opens exactly where its threshold is reached.
            return segmented
        if self._detection_threshold is None:
            return None
        # As FP32, the type that the server compares in.
        return probability >= float(np.float32(self._detection_threshold))


@dataclass(frozen=True)
class Health:
    """What a server answered when it was asked how it is.

    Attributes:
        is_live: a Triton answered at all.
        not_ready: names of gliogate's models that it cannot serve yet.
    """

    is_live: bool
    not_ready: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Triton answered, and every model is ready."""
        return self.is_live and not self.not_ready


FINAL_STATUSES: Final = ("CANCELLED", "DEADLINE_EXCEEDED", "INVALID_ARGUMENT")
"""gRPC statuses that say what happened by themselves; behind any other, the server's health tells the cause."""


def request_error(
    status: str, details: str, *, url: str, request: Request | None = None, health: Health | None = None
) -> RequestError:
    """Makes an error of gliogate's of a failed call.

    Args:
        status: the name of the gRPC status.
        details: what gRPC or Triton said of it.
        url: the server's address.
        request: the request that failed; None where the call was about readiness.
        health: the server's, asked for after the failure; None for one of `FINAL_STATUSES`.
    """
    kind, message = RequestError, f"the server at {url} failed: {details}"
    if status == "INVALID_ARGUMENT":
        kind, message = InvalidRequestError, f"the server at {url} refused the request: {details}"
    elif status == "DEADLINE_EXCEEDED":
        allowed = f" within {request.timeout_s:g} s" if request else ""
        message = f"no answer from {url}{allowed}: allow a longer timeout_s, or send fewer requests at a time"
        kind = DeadlineExceededError
    elif health and not health.is_live:
        kind = ServerUnavailableError
        message = f"no Triton answers gRPC at {url}: is it running (`gliogate serve`), and is that its gRPC port?"
    elif health and health.not_ready:
        kind = ModelNotReadyError
        message = f"{', '.join(health.not_ready)} not ready at {url}: wait_until_ready(), or see the server's log"
    elif status == "UNAVAILABLE":
        kind = ServerUnavailableError
        message = f"the server at {url} is overloaded or just restarted: try again, with fewer requests at a time"
    return kind(message, url=url, request_id=request.id if request else "", status=status)
