"""What a client tells of each call: log lines of `logging`, and spans of OpenTelemetry where that is installed.

Log lines go to the logger `gliogate`, which is silent until the application configures logging. Spans go wherever the
application's OpenTelemetry sends them; the call carries their context, so that Triton's own trace continues them.
"""

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import grpc

from gliogate.connection import METHOD, SERVICE
from gliogate.contract import ENSEMBLE

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

logger: logging.Logger = logging.getLogger("gliogate")
logger.addHandler(logging.NullHandler())


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
        if isinstance(error, grpc.RpcError):
            reason, details = status_of(error), str(error.details())
        else:
            reason, details = type(error).__name__, str(error)
        logger.info("request %s to %s: %s", self._request_id, self._url, reason)
        if self._span:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_attribute("error.type", reason)
            self._span.set_status(Status(StatusCode.ERROR, details))
            self._span.end()


def _start_span(request_id: str, url: str) -> "Span | None":
    """A client span as OpenTelemetry's conventions for gRPC have it; None where nothing would record it."""
    tracer = _tracer()
    if tracer is None:
        return None
    attributes: dict[str, Any] = {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": METHOD,
        "server.address": url,
        "triton.model_name": ENSEMBLE.name,
        "triton.request_id": request_id,
    }
    from opentelemetry.trace import SpanKind

    span = tracer.start_span(f"{SERVICE}/{METHOD}", kind=SpanKind.CLIENT, attributes=attributes)
    return span if span.is_recording() else None


@cache
def _tracer() -> "Tracer | None":
    """Follows a provider that the application sets later; None where OpenTelemetry is not installed."""
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace.get_tracer("gliogate")


def status_of(error: grpc.RpcError) -> str:
    """The name of the gRPC status, `UNAVAILABLE` and the like."""
    return str(error.code().name)
