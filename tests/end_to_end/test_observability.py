from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.broker import VirtualHost
from tests.deploy.dashboards import (
    committed,
    exemplar_queries,
    queries_with_nan,
    queries_without_data,
    rules_without_data,
    traces_named,
)
from tests.observed import running_prometheus
from tests.operators import operated, put
from tests.system import QUICK, System

pytestmark = pytest.mark.e2e

SECONDS = 90
LATENCIES = (
    "api_free_connector_to_charging_seconds",
    "api_request_seconds",
    "api_request_to_charging_seconds",
    "dispatcher_decision_seconds",
    "dispatcher_request_to_assignment_seconds",
    "ev_charging_session_seconds",
)
RULES_SECONDS = 30  # some rules are evaluated that often


def test_every_panel_and_alert_has_data(vhost: VirtualHost, tmp_path: Path) -> None:
    """Each query of the dashboards, and each metric a rule reads, is there in a running system.

    While it is idle, a panel may be empty, and shows nothing that is no number. An operator has
    limited the power of a substation.
    """
    with (
        System(vhost, tmp_path, environment={**QUICK, **operated(tmp_path)}) as system,
        running_prometheus(system, vhost, tmp_path) as url,
    ):
        block = {"start": "2020-01-01T00:00:00Z", "end": "2090-01-01T00:00:00Z", "limit_kw": 300}
        put(system, "substation1/limits", source="test", blocks=[block])
        deadline = time.monotonic() + SECONDS
        missing: list[str] = ["not asked yet"]
        while missing and time.monotonic() < deadline:
            time.sleep(1)  # Prometheus scrapes on its own clock
            missing = _asked(url, rules_without_data)
        assert missing == []
        time.sleep(RULES_SECONDS)
        assert queries_with_nan(url) == []
        deadline, missing = time.monotonic() + SECONDS, ["not asked yet"]
        while missing and time.monotonic() < deadline:
            assert system.post()[0] == 202
            time.sleep(1)
            missing = _asked(url, queries_without_data)
        assert missing == []
        assert queries_with_nan(url) == []


def test_panels_of_latency_name_traces(vhost: VirtualHost, tmp_path: Path) -> None:
    """Every panel of a histogram, and every histogram of a request's way."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    queries = {name: f"{name}_bucket" for name in LATENCIES}
    for content in committed().values():
        queries |= exemplar_queries(content)
    with (
        System(vhost, tmp_path, environment=QUICK) as system,
        running_prometheus(system, vhost, tmp_path) as url,
    ):
        parent = f"00-{trace}-00f067aa0ba902b7-01"
        assert system.post({}, traceparent=parent)[0] == 202
        deadline = time.monotonic() + SECONDS
        left = [*queries]
        while left and time.monotonic() < deadline:
            time.sleep(1)
            left = [each for each in left if trace not in _traces(url, queries[each])]
    assert left == []
    assert len(queries) > len(LATENCIES)


def _traces(url: str, query: str) -> set[str]:
    try:
        return traces_named(url, query)
    except OSError:  # it does not answer yet
        return set()


def _asked(url: str, missing: Callable[[str], list[str]]) -> list[str]:
    try:
        return missing(url)
    except OSError as error:
        return [f"Prometheus does not answer yet: {error}"]
