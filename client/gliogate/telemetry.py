"""What a client tells of each call: log lines of `logging`, and spans of OpenTelemetry where that is installed.

Log lines go to the logger `gliogate`, which is silent until the application configures logging. Spans go wherever the
application's OpenTelemetry sends them; the call carries their context, so that Triton's own trace continues them.
"""

import logging
from typing import TYPE_CHECKING, Any, Final

from tritonclient.utils import InferenceServerException

from gliogate.contract import ENSEMBLE

if TYPE_CHECKING:
    from opentelemetry.trace import Span

logger: logging.Logger = logging.getLogger("gliogate")
logger.addHandler(logging.NullHandler())

SERVICE: Final = "inference.GRPCInferenceService"
METHOD: Final = "ModelInfer"


class CallRecord:
    """One call, from its sending to its end, which is told once.

    Args:
        request_id: of the request.
        url: where it goes.
    """

    def __init__(self, request_id: str, url: str) -> None:
        self._request_id, self._url = request_id, url
        self._span = _start_span(request_id, url)

    def headers(self) -> dict[str, str]:
        """Metadata that makes what the server traces a part of this."""
        headers: dict[str, str] = {}
        if self._span:
            from opentelemetry import propagate, trace

            propagate.inject(headers, trace.set_span_in_context(self._span))
        return headers

    def answered(self, latency_s: float) -> None:
        """The answer came."""
        logger.debug("request %s to %s: answered in %.1f ms", self._request_id, self._url, 1000 * latency_s)
        if self._span:
            self._span.end()

    def failed(self, error: BaseException) -> None:
        """There will be no answer."""
        reason = status_of(error) if isinstance(error, InferenceServerException) else type(error).__name__
        logger.info("request %s to %s: %s", self._request_id, self._url, reason)
        if self._span:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_attribute("error.type", reason)
            self._span.set_status(Status(StatusCode.ERROR, str(error)))
            self._span.end()


def _start_span(request_id: str, url: str) -> "Span | None":
    """A client span as OpenTelemetry's conventions for gRPC have it; None where nothing would record it."""
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    attributes: dict[str, Any] = {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": METHOD,
        "server.address": url,
        "triton.model_name": ENSEMBLE.name,
        "triton.request_id": request_id,
    }
    span = trace.get_tracer("gliogate").start_span(
        f"{SERVICE}/{METHOD}", kind=trace.SpanKind.CLIENT, attributes=attributes
    )
    return span if span.is_recording() else None


def status_of(error: InferenceServerException) -> str:
    """The name of the gRPC status, `UNAVAILABLE` and the like."""
    return str(error.status()).rpartition(".")[2]
