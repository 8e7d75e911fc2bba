"""The export of spans to an OpenTelemetry collector: the only importer of its SDK.

``grid.spans`` imports this module where a collector is named. Spans are sent by a thread, in
batches. What the collector does not take in time is lost, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from grid.threads import in_thread
from grid.trace import SAMPLED, Span, Trace
from grid.version import version

log = logging.getLogger(__name__)

NAMESPACE: Final = "smart-grid"
TRACES_PATH: Final = "/v1/traces"  # below the endpoint, by OTLP
INTERVAL: Final = 1.0  # seconds between two batches
STOP_TIMEOUT: Final = 2.0  # seconds in which the last spans are sent
_NANOSECONDS: Final = 1e9
_KINDS: Final = {"server": SpanKind.SERVER, "consumer": SpanKind.CONSUMER}


class SpanExport:
    """The spans of one service, on their way to the collector at ``endpoint``."""

    def __init__(self, endpoint: str, service: str, instance: str) -> None:
        names = {"namespace": NAMESPACE, "name": service, "instance.id": instance}
        names["version"] = version()
        self._resource = Resource.create({f"service.{key}": name for key, name in names.items()})
        self._exporter = _ReportingExporter(endpoint)
        self._batches = BatchSpanProcessor(self._exporter, schedule_delay_millis=INTERVAL * 1000)

    def record(self, span: Span) -> None:
        """Export a span soon; one too many is lost."""
        trace = span.trace
        self._batches.on_end(
            ReadableSpan(
                span.name,
                _context(trace, trace.span_id, is_remote=False),
                _context(trace, trace.parent, is_remote=True) if trace.parent else None,
                self._resource,
                span.attributes,
                kind=_KINDS[span.kind],
                status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
                start_time=int(span.began * _NANOSECONDS),
                end_time=int(span.ended * _NANOSECONDS),
            )
        )

    async def run(self) -> None:
        """Wait until the task is cancelled, then export what is left, within a time limit."""
        try:
            await asyncio.Event().wait()
        finally:
            ended = in_thread(self._batches.shutdown, "last spans")
            await asyncio.wait({ended}, timeout=STOP_TIMEOUT)
            if not ended.done():
                self._exporter.shutdown()  # so that it does not try again


class _ReportingExporter(SpanExporter):
    """An exporter over HTTP that logs when the collector begins to take spans, or stops to.

    The SDK's own lines, of which there are several for each attempt, are not logged.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}{TRACES_PATH}")
        self._works: bool | None = None  # None before the first attempt
        self._ended = False
        self._problems = _Problems()
        self._problems.install()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, for some seconds at most."""
        if self._ended:
            return SpanExportResult.FAILURE
        self._problems.first = ""
        result = self._exporter.export(spans)
        works = result is SpanExportResult.SUCCESS
        if works is not self._works and not self._ended:
            self._works = works
            if works:
                log.info("spans are exported to %s", self._endpoint)
            else:
                log.warning(
                    "spans are lost until the collector at OTEL_EXPORTER_OTLP_ENDPOINT=%s takes "
                    "them again: %s",
                    self._endpoint,
                    self._problems.first or "it rejects them",
                )
        return result

    def shutdown(self) -> None:
        """End the present attempt as soon as it waits to try again, and begin no other."""
        if self._ended:
            return
        self._ended = True
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _Problems(logging.Handler):
    """A handler of the SDK's log that keeps the first line of the exporter."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""

    def install(self) -> None:
        """Receive all lines of the SDK, so that none reaches the service's log."""
        sdk = logging.getLogger("opentelemetry")
        sdk.propagate = False
        sdk.handlers = [self]

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(OTLPSpanExporter.__module__):
            self.first = self.first or record.getMessage()


def _context(trace: Trace, span_id: str, *, is_remote: bool) -> SpanContext:
    return SpanContext(
        int(trace.trace_id, 16),
        int(span_id, 16),
        is_remote,
        TraceFlags(trace.flags & SAMPLED),
        TraceState.from_header([trace.state] if trace.state else []),
    )
