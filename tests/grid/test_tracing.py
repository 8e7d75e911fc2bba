"""Spans reach a collector of OpenTelemetry; one that is away costs spans, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from msgspec.structs import replace

from deploy.local.ports import HOST
from grid.errors import ConfigurationError
from grid.settings import Settings, parse
from grid.spans import Spans, spans_of
from grid.trace import SAMPLED, Span, Trace
from grid.tracing import STOP_TIMEOUT
from grid.version import version
from tests.collector import running_collector
from tests.ports import free_ports

TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "a" * 16, "00f067aa0ba902b7", SAMPLED, "vendor=1")
AT = 1_800_000_000.0
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def a_span(name: str = "dispatch", trace: Trace = TRACE, error: str = "") -> Span:
    """Return a span of two seconds."""
    return Span(name, "consumer", trace, AT, AT + 2, {"job.id": "j1", "energy_kwh": 1.5}, error)


@asynccontextmanager
async def exporting(endpoint: str) -> AsyncIterator[Callable[[Span], None]]:
    """Export spans to a collector as a service does; yield what records one."""
    spans = spans_of(parse(Settings, {ENDPOINT: endpoint}), "dispatcher", "dispatcher-1")
    assert spans.record is not None
    running = asyncio.create_task(spans.run())
    try:
        await asyncio.sleep(0)
        yield spans.record
    finally:
        await ended(running)


async def ended(running: asyncio.Task[None]) -> None:
    """End a task, as a service does when it stops."""
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something holds that a thread brings about."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  # no event of this loop
            await asyncio.sleep(0.02)


def lines(caplog: pytest.LogCaptureFixture, name: str = "grid.tracing") -> list[tuple[str, str]]:
    """Return what a logger has logged: level and text."""
    return [(each.levelname, each.getMessage()) for each in caplog.records if each.name == name]


async def test_collector_receives_spans_as_they_were_recorded() -> None:
    """With the ids that travel between the services, so that a backend joins them."""
    with running_collector() as collector:
        async with exporting(f"{collector.url}/") as record:
            record(a_span())
            record(a_span("POST /charge", replace(TRACE, parent="", state=""), "it failed"))
        first, second = collector.spans
    assert (first.name, first.kind) == ("dispatch", "consumer")
    assert (first.trace_id, first.span_id, first.parent) == (
        TRACE.trace_id,
        TRACE.span_id,
        TRACE.parent,
    )
    assert (first.began, first.ended, first.state) == (AT, AT + 2, "vendor=1")
    assert first.attributes == {"job.id": "j1", "energy_kwh": 1.5}
    assert first.service.items() >= {
        ("service.namespace", "smart-grid"),
        ("service.name", "dispatcher"),
        ("service.instance.id", "dispatcher-1"),
        ("service.version", version()),
    }
    assert (second.parent, second.state) == ("", "")
    assert (first.is_error, second.is_error) == (False, True)


async def test_spans_are_sent_while_the_service_runs() -> None:
    """In batches, not only at its end."""
    with running_collector() as collector:
        async with exporting(collector.url) as record:
            for _ in range(1000):
                record(a_span())
            await until(lambda: len(collector.spans) == 1000)
            assert collector.requests < 10


async def test_collector_that_is_away_costs_spans_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Recording does not wait for it; its states are logged once each, with the reason."""
    caplog.set_level(logging.INFO)
    with running_collector() as collector:
        collector.status = 400
        async with exporting(collector.url) as record:
            for number in range(3):
                began = time.perf_counter()
                for _ in range(100):
                    record(a_span())
                assert time.perf_counter() - began < 1
                await until(lambda number=number: collector.requests > number)  # type: ignore[misc]
            await until(lambda: bool(lines(caplog)))
            collector.status = 200
            record(a_span("after"))
            await until(lambda: bool(collector.named("after")))
            await until(lambda: len(lines(caplog)) == 2)
    (level, text), recovered = lines(caplog)
    assert level == "WARNING"
    assert text.startswith(f"spans are lost until the collector at {ENDPOINT}={collector.url} ")
    assert "400" in text
    assert recovered == ("INFO", f"spans are exported to {collector.url}")


async def test_more_spans_than_can_be_sent_are_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The memory that they take is bounded, and recording one stays quick.

    The reason that is logged is what the exporter says, and not that its queue is full.
    """
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with socket.create_server((HOST, 0)) as silent:  # it accepts connections, and never answers
        async with exporting(f"http://{HOST}:{silent.getsockname()[1]}") as record:
            began = time.perf_counter()
            for _ in range(10_000):
                record(a_span())
            assert time.perf_counter() - began < 5
            await until(lambda: bool(lines(caplog)))
    [(level, text)] = lines(caplog)
    assert level == "WARNING"
    assert "due to timeout" in text


@pytest.mark.parametrize("answers", [False, True], ids=["silent", "closed"])
async def test_service_stops_in_time_without_its_collector(*, answers: bool) -> None:
    """What is left is lost then."""
    (port,) = free_ports(1)
    with socket.socket() as listening:
        listening.bind((HOST, port))
        if not answers:
            listening.listen()
        spans = spans_of(
            parse(Settings, {ENDPOINT: f"http://{HOST}:{port}"}), "dispatcher", "dispatcher-1"
        )
        assert spans.record is not None
        running = asyncio.create_task(spans.run())
        spans.record(a_span())
        await asyncio.sleep(0)
        began = time.monotonic()
        await ended(running)
        assert time.monotonic() - began < STOP_TIMEOUT + 2


async def test_spans_are_not_made_without_a_collector() -> None:
    spans = spans_of(parse(Settings, {}), "dispatcher", "dispatcher-1")
    assert spans.record is None
    await spans.run()


async def test_service_runs_without_opentelemetry(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says once what is missing: no request is refused over its spans."""
    monkeypatch.setitem(sys.modules, "grid.tracing", None)
    spans: Spans = spans_of(parse(Settings, {ENDPOINT: "http://collector:4318"}), "api", "api-1")
    assert spans.record is None
    assert lines(caplog, "grid.spans") == []
    await spans.run()
    [(level, text)] = lines(caplog, "grid.spans")
    assert level == "WARNING"
    assert f"{ENDPOINT}=http://collector:4318" in text
    assert "requirements-otel.lock" in text


def test_nothing_of_opentelemetrys_sdk_is_imported_without_a_collector() -> None:
    """It takes a tenth of a second and memory, and may not be installed."""
    program = (
        "import sys; import api.app, dispatcher.app, substation.service; "
        "from grid.settings import *; from grid.spans import spans_of; "
        "spans_of(parse(Settings, {}), 'api', 'api-1'); "
        "print([each for each in sys.modules if each.startswith(('opentelemetry.sdk', "
        "'opentelemetry.exporter', 'google.protobuf', 'requests'))])"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "endpoint", ["collector:4318", "ftp://collector", "http://", "http://u:s3cret@collector:4318"]
)
def test_invalid_collector_prevents_the_start(endpoint: str) -> None:
    """The error names the setting, and no password."""
    with pytest.raises(ConfigurationError, match=ENDPOINT) as raised:
        parse(Settings, {ENDPOINT: endpoint})
    assert "s3cret" not in str(raised.value)
