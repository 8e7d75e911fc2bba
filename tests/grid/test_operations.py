"""The pages that every service has: metrics, liveness and readiness."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from prometheus_client import Counter, Histogram
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from grid.operations import operations_app
from grid.telemetry import new_registry
from grid.version import version


@asynccontextmanager
async def nothing(_: Starlette) -> AsyncIterator[None]:
    """Do nothing while a service runs."""
    yield


@pytest.fixture
def problems() -> list[str]:
    """Return what keeps the service from being ready; a test changes it."""
    return []


@pytest.fixture
def app(problems: list[str]) -> Starlette:
    """Return the app of a service that has only these pages."""
    return operations_app(new_registry(), lambda: problems, nothing)


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    text: str


async def get(app: Starlette, path: str, *accept: str, method: str = "GET") -> Answer:
    """Ask an app for a path, as a server does; with a header Accept for each ``accept``."""
    headers = [(b"accept", each.encode()) for each in accept]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": headers,
    }
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    body = b"".join(part.get("body", b"") for part in sent[1:])
    return Answer(sent[0]["status"], found, body.decode())


async def test_readyz_names_what_is_missing(app: Starlette, problems: list[str]) -> None:
    """An orchestrator sees 503 while something is missing, and an operator sees what."""
    answer = await get(app, "/readyz")
    assert answer.status == 200
    assert json.loads(answer.text) == {"status": "ready", "problems": []}
    problems.extend(["RabbitMQ link a is down", "no substations"])
    answer = await get(app, "/readyz")
    assert answer.status == 503
    assert json.loads(answer.text) == {"status": "not ready", "problems": problems}
    problems.clear()
    assert (await get(app, "/readyz")).status == 200


async def test_healthz_is_200_while_the_service_is_not_ready(
    app: Starlette, problems: list[str]
) -> None:
    """A broker that is away is no reason to restart the service."""
    problems.append("RabbitMQ link a is down")
    answer = await get(app, "/healthz")
    assert (answer.status, json.loads(answer.text)) == (200, {"status": "alive"})


async def test_metrics_page_is_valid_prometheus_text(app: Starlette) -> None:
    """Prometheus's own parser reads the page, which says when the process began."""
    answer = await get(app, "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name for family in text_string_to_metric_families(answer.text)}
    assert "process_start_time_seconds" in families
    assert f'grid_build_info{{version="{version()}"}} 1.0' in answer.text


# of Prometheus 2.42 and of 3.5
@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
        "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
        "application/openmetrics-text;version=0.0.1;q=0.4,"
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,"
        "*/*;q=0.1",
    ],
)
async def test_metrics_page_has_exemplars_for_prometheus(accept: str) -> None:
    """In OpenMetrics; with the same samples as the page of any other client."""
    registry = new_registry()
    latency = Histogram("latency_seconds", "Latency", ["route"], registry=registry)
    latency.labels('/a "b"').observe(0.2, {"trace_id": "a" * 32})
    Counter("requests", "Requests", registry=registry).inc()
    app = operations_app(registry, list, nothing)
    answer = await get(app, "/metrics", accept)
    assert answer.headers["content-type"] == (
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    )
    assert answer.headers["vary"] == "Accept"
    families = [*openmetrics_families(answer.text)]  # type: ignore[no-untyped-call]
    named = [each for family in families for each in family.samples if each.exemplar]
    assert [(each.labels["le"], each.exemplar.labels) for each in named] == [
        ("0.25", {"trace_id": "a" * 32})
    ]
    plain = await get(app, "/metrics", "text/plain;version=0.0.4")
    assert "trace_id" not in plain.text

    def names(found: Iterable[Metric]) -> list[tuple[str, dict[str, str]]]:
        return [(each.name, each.labels) for family in found for each in family.samples]

    assert names(families) == names(text_string_to_metric_families(plain.text))


@pytest.mark.parametrize(
    "accept",
    [
        (),
        ("*/*",),
        ("text/html, */*;q=0.8",),
        ("application/openmetrics-text;q=0.1", "text/plain"),
        ("application/openmetrics-text;version=nonsense;q=x",),
    ],
)
async def test_metrics_page_is_plain_text_unless_openmetrics_is_preferred(
    app: Starlette, accept: tuple[str, ...]
) -> None:
    """A person and the programs that read lines get what they always got."""
    answer = await get(app, "/metrics", *accept)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# EOF" not in answer.text


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/"])
async def test_service_without_api_serves_three_paths_only(app: Starlette, path: str) -> None:
    """A service without an API of its own serves only three paths."""
    assert (await get(app, path)).status == 404


@pytest.mark.parametrize("path", ["/metrics", "/healthz/", "/readyz"])
async def test_operations_pages_are_read_only(app: Starlette, path: str) -> None:
    assert (await get(app, path, method="HEAD")).status == 200
    assert (await get(app, path, method="POST")).status == 405


@pytest.mark.parametrize("service", ["substation.service", "dispatcher.app"])
def test_service_without_api_does_not_import_fastapi(service: str) -> None:
    """It takes a quarter of a substation's start, and 6 MB of its memory."""
    code = f"import sys, {service}; print('fastapi' in sys.modules)"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    assert found.stdout == "False\n"
