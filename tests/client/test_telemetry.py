"""What a client tells of its calls: log lines, and spans that the server's trace continues."""

import asyncio
import logging
import subprocess
import sys

import numpy as np
import pytest
from opentelemetry import trace
from support.spans import span_exporter

from gliogate import TLS, AsyncClient, Client, ServerUnavailableError

SLICE = np.zeros((256, 256, 3), np.uint8)


@pytest.fixture
def spans():
    span_exporter().clear()
    return span_exporter().get_finished_spans


def analyze(url: str) -> None:
    with Client(url) as client:
        client.analyze(SLICE, request_id="study-7")


def analyze_async(url: str) -> None:
    async def ask() -> None:
        async with AsyncClient(url) as client:
            await client.analyze(SLICE, request_id="study-7")

    asyncio.run(ask())


@pytest.mark.parametrize("ask", [analyze, analyze_async])
def test_a_call_is_a_span_below_the_applications_own_and_goes_along(ask, triton, spans):
    with trace.get_tracer("hospital").start_as_current_span("study") as study:
        ask(triton.url)

    call = next(span for span in spans() if span.name == "inference.GRPCInferenceService/ModelInfer")
    assert call.kind is trace.SpanKind.CLIENT
    assert call.parent.span_id == study.get_span_context().span_id
    assert call.attributes["triton.request_id"] == "study-7"
    context = call.get_span_context()
    assert triton.metadata[0]["traceparent"].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")


@pytest.mark.parametrize("ask", [analyze, analyze_async])
def test_a_call_that_fails_is_told(ask, triton, spans, caplog):
    triton.failures = 1000

    with caplog.at_level(logging.INFO, logger="gliogate"), pytest.raises(ServerUnavailableError):
        ask(triton.url)

    (call,) = spans()
    assert not call.status.is_ok
    assert call.attributes["error.type"] == "UNAVAILABLE"
    assert caplog.messages == [f"request study-7 to {triton.url}: UNAVAILABLE"]


def test_a_token_that_cannot_be_had_ends_the_call_with_its_own_error(spans):
    def read_token() -> str:
        raise LookupError("no vault")

    with Client("127.0.0.1:9", tls=TLS(), token=read_token) as client, pytest.raises(LookupError, match="no vault"):
        client.analyze(SLICE)

    (call,) = spans()
    assert call.attributes["error.type"] == "LookupError"


def test_nothing_is_logged_unless_the_application_asks_and_nothing_traced_without_the_extra(triton):
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import numpy as np; from gliogate import Client\n"
        f"with Client({triton.url!r}) as client: client.analyze(np.zeros((256, 256, 3), np.uint8))"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (told.stdout, told.stderr) == ("", "")
    assert "traceparent" not in triton.metadata[0]
