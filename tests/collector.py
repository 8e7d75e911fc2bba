"""An OpenTelemetry collector for tests: it receives spans by OTLP over HTTP, and keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from deploy.local.ports import HOST


class Received(NamedTuple):
    """A span as it arrived; ids are hexadecimal, times are Unix seconds."""

    service: dict[str, Any]  # the attributes of the service that made it
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent: str
    began: float
    ended: float
    attributes: dict[str, Any]
    state: str
    is_error: bool


class Collector:
    """A collector at ``url``, which answers with ``status``, and keeps spans while that is 200."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.spans: list[Received] = []
        self.requests = 0

    def receive(self, path: str, kind: str | None, body: bytes) -> int:
        """Return the status of the answer to a request."""
        self.requests += 1
        if (path, kind) != ("/v1/traces", "application/x-protobuf"):
            return 404
        if self.status == 200:
            self.spans += _decoded(body)
        return self.status

    def named(self, name: str) -> list[Received]:
        """Return the spans of a name, in the order of their arrival."""
        return [each for each in self.spans if each.name == name]


@contextmanager
def running_collector(port: int = 0) -> Iterator[Collector]:
    """Run a collector; yield it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(collector.receive(self.path, self.headers["Content-Type"], body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, port), Handler) as server:
        collector = Collector(f"http://{HOST}:{server.server_port}")
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _decoded(body: bytes) -> Iterator[Received]:
    for of_service in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _attributes(of_service.resource.attributes)
        for of_scope in of_service.scope_spans:
            for span in of_scope.spans:
                yield Received(
                    service,
                    span.name,
                    Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano / 1e9,
                    span.end_time_unix_nano / 1e9,
                    _attributes(span.attributes),
                    span.trace_state,
                    span.status.code == Status.STATUS_CODE_ERROR,
                )


def _attributes(pairs: list[KeyValue]) -> dict[str, Any]:
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in pairs}
