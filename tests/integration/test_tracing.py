"""Triton's own trace continues the client's."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tiny_networks import slices

from gliogate import Client
from gliogate.contract import ENSEMBLE

PATIENCE_S = 20.0


@pytest.fixture
def collector():
    """Takes spans as an OpenTelemetry collector does, by OTLP over HTTP; has its `url`, and the `spans` so far."""

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in message["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    server.spans += scope["spans"]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        server.spans, server.url = [], f"http://127.0.0.1:{server.server_port}/v1/traces"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_request_is_one_trace_from_the_application_to_the_gate(collector, started_with, monkeypatch):
    ours = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ours))
    tracer = provider.get_tracer("test")
    # The process's own provider can be set once only, and is other tests'.
    monkeypatch.setattr("gliogate.telemetry._tracer", lambda: tracer)
    settings = ("mode=opentelemetry", "rate=1", "level=TIMESTAMPS", f"opentelemetry,url={collector.url}")
    server = started_with(*(f"--trace-config={each}" for each in (*settings, "opentelemetry,bsp_schedule_delay=100")))

    with tracer.start_as_current_span("study"), Client(server.url) as client:
        client.analyze(slices(0.75)[0])
    deadline = time.monotonic() + PATIENCE_S
    while ENSEMBLE.name not in {span["name"] for span in collector.spans} and time.monotonic() < deadline:
        time.sleep(0.05)

    call, study = ours.get_finished_spans()
    assert call.parent == study.context
    told = {span["name"]: span for span in collector.spans}
    request, gate = told["InferRequest"], told[ENSEMBLE.name]
    assert request["parentSpanId"] == f"{call.context.span_id:016x}"
    assert gate["parentSpanId"] == request["spanId"]
    assert {span["traceId"] for span in (request, gate)} == {f"{study.context.trace_id:032x}"}
