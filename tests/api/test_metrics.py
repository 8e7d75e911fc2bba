"""The api's metrics of what waits, of the event log, and of beginnings with a free connector."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from api.jobs.event_log import MAX_EXEMPLARS
from api.jobs.free_connectors import FreeConnectors
from api.last_heard import LastHeard
from api.metrics import LogCollector
from api.substations import Condition, Substation, Substations
from grid import kinds
from grid.events import SUBSTATIONS, Event, State
from grid.kinds import snapshot
from grid.messages import ChargeRequest
from tests.api.harness import AT, Bench

FULL = "full"
OPENMETRICS = "application/openmetrics-text"
ROW: dict[str, Any] = {
    "load": 0,
    "connectors": 2,
    "utilisation": 0.0,
    "gauge": 0,
    "gauge_age_seconds": 0.1,
    "outstanding": 0,
    "eligible": True,
    "reason": None,
    "state": "available",
}


def row(name: str, **changed: object) -> dict[str, Any]:
    """Return a substation as the dispatcher's snapshot has it."""
    return {**ROW, "substation": name, **changed}


def seen(at: float, *rows: dict[str, Any]) -> Event:
    """Return a snapshot that was written at ``at``."""
    return snapshot(at, "d", list(rows), (), 0)


def observed() -> Bench:
    """Return an api with the collector of the event log."""
    bench = Bench()
    bench.registry.register(
        LogCollector(
            bench.projection,
            bench.feed,
            accepted=lambda: bench.intake.accepted,
            offset=lambda: bench.offset,
            clock=lambda: bench.at,
        )
    )
    return bench


async def test_metrics_show_accepted_requests_and_oldest_that_waits() -> None:
    """The age counts from the request, and ends with the decision."""
    async with observed().serve() as bench:
        assert bench.count("accepted_requests_total") == 0
        assert bench.count("oldest_waiting_request_seconds") == 0
        await bench.post()
        bench.at += 90
        await bench.post()
        assert bench.count("accepted_requests_total") == 2
        assert bench.count("oldest_waiting_request_seconds") == 90
        bench.hear(Event(State.ASSIGNED, AT + 90, "job1", "s1", 1))
        assert bench.count("oldest_waiting_request_seconds") == 0
        bench.at += 5
        assert bench.count("oldest_waiting_request_seconds") == 5


async def test_metrics_show_age_of_snapshot_and_offset_of_event_log() -> None:
    """Without a snapshot it is as old as can be: an alert must not stay silent."""
    bench = observed()
    assert bench.count("snapshot_age_seconds") == inf
    bench.hear(seen(AT, row("s1")))
    bench.offset, bench.at = 17, AT + 40
    assert bench.count("snapshot_age_seconds") == 40
    assert bench.count("event_log_offset") == 17


async def test_wait_counts_from_when_a_connector_was_free() -> None:
    """While every substation is full, a request waits for a vehicle to leave."""
    async with observed().serve() as bench:
        await bench.post()
        bench.at = AT + 50
        bench.hear(
            seen(AT + 50, row("s1", reason=FULL), row("s2", state="draining", eligible=False))
        )
        bench.at = AT + 60
        bench.hear(seen(AT + 60, row("s1"), row("s2", state="draining", eligible=False)))
        bench.hear(Event(State.CHARGING, AT + 53, "job1", "s1", 1))
        assert bench.count("request_to_charging_seconds_sum") == 53
        assert bench.count("free_connector_to_charging_seconds_sum") == 3


async def test_wait_counts_in_full_while_a_connector_is_free_or_none_works() -> None:
    """A dispatcher that does not send a request anywhere is at fault, whatever the reason."""
    async with observed().serve() as bench:
        await bench.post()
        bench.at = AT + 50
        bench.hear(seen(AT + 30, row("s1", reason=FULL), row("s2")))
        bench.hear(seen(AT + 40, row("s1", reason="its page is stale", eligible=False)))
        bench.hear(Event(State.CHARGING, AT + 50, "job1", "s1", 1))
        assert bench.count("free_connector_to_charging_seconds_sum") == 50


async def test_wait_of_a_replayed_job_counts_from_its_replay() -> None:
    """What lay parked did not wait for a substation: to replay it must raise no alert."""
    async with observed().serve() as bench:
        await bench.post()
        bench.at = AT + 7_201
        bench.hear(
            seen(AT, row("s1")),
            Event(State.PARKED, AT + 1, "job1", reason="no such substation: s9"),
            Event(State.QUEUED, AT + 7_200, "job1", detail={"replays": 1}),
        )
        assert bench.count("oldest_waiting_request_seconds") == 1
        bench.hear(
            Event(State.ASSIGNED, AT + 7_201, "job1", "s1", 2, detail={"replays": 1}),
            Event(State.CHARGING, AT + 7_201, "job1", "s1", 2),
        )
        assert bench.count("request_to_charging_seconds_sum") == 1
        assert bench.count("free_connector_to_charging_seconds_sum") == 1


def test_connector_is_free_for_a_job_where_that_may_go() -> None:
    """A job that names its substations waits for these only."""
    free = FreeConnectors()
    free.see(Substations(seen(AT, row("s1", reason=FULL), row("s2")), AT).rows(LastHeard()), AT)
    assert free.since(()) == -inf
    assert free.since(["s1"]) == AT
    assert free.since(["s2"]) == -inf
    assert free.since(["s1", "s2"]) == -inf
    assert free.since(["s1", "typo"]) == AT
    assert free.since(["typo"]) == -inf
    free.see(Substations(seen(AT + 1, row("s2")), AT + 1).rows(LastHeard()), AT + 1)
    assert free.since(["s1", "s2"]) == -inf
    assert free.since(["s1"]) == -inf  # it is gone


def test_test_rows_are_valid() -> None:
    """Else they would be left out, and nothing tested."""
    rows = Substations(seen(AT, row("s1"), row("s2", reason=FULL)), AT).rows(LastHeard())
    assert [each.status for each in rows] == [Condition.AVAILABLE, Condition.FULL]
    assert all(isinstance(each, Substation) for each in rows)
    assert seen(AT).kind == SUBSTATIONS


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")


def exemplars(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Return the traces that each metric names."""
    found: dict[str, set[str]] = {}
    for family in registry.collect():
        for each in family.samples:
            if each.exemplar is not None:
                found.setdefault(family.name, set()).add(each.exemplar.labels["trace_id"])
    return found


@pytest.mark.parametrize("path", ["/charge", "/charges"])
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        pytest.param("application/json", {}, id="shortcut"),
        pytest.param("application/json;charset=UTF-8", {}, id="FastAPI"),
        pytest.param("application/json", {"priority": 10}, id="rejected"),
    ],
)
async def test_api_names_recorded_trace_of_a_request(
    path: str, kind: str, fields: dict[str, Any]
) -> None:
    """Whatever answers it; a request that nobody records is not named."""
    data = json.dumps([fields] if path == "/charges" else fields)
    async with Bench().serve() as bench:
        for parent in (SAMPLED[1][:-1] + "0", SAMPLED[1]):
            assert exemplars(bench.registry) == {}
            await bench.ask("POST", path, data, [("Content-Type", kind), (SAMPLED[0], parent)])
        assert exemplars(bench.registry) == {"api_request_seconds": {TRACE}}


async def test_api_names_recorded_trace_of_a_session() -> None:
    """The event of its start does not name the trace: the api that accepted it knows it."""
    async with Bench().serve() as bench:
        await bench.ask("POST", "/charge", None, [SAMPLED])
        await bench.post()
        bench.hear(Event(State.CHARGING, AT + 3, "job2", "s1", 1))
        assert exemplars(bench.registry).keys() == {"api_request_seconds"}
        bench.hear(Event(State.CHARGING, AT + 3, "job1", "s1", 1))
        assert exemplars(bench.registry) == {
            "api_free_connector_to_charging_seconds": {TRACE},
            "api_request_seconds": {TRACE},
            "api_request_to_charging_seconds": {TRACE},
        }


async def test_api_forgets_exemplars_of_jobs_that_never_begin() -> None:
    """Their number is bounded: the oldest go first."""
    bench = Bench()
    for number in range(MAX_EXEMPLARS + 1):
        bench.log.record(kinds.queued(ChargeRequest(f"job{number}", AT)), {"trace_id": TRACE})
    bench.hear(Event(State.CHARGING, AT, "job0", "s1", 1))
    assert exemplars(bench.registry) == {}
    bench.hear(Event(State.CHARGING, AT, "job1", "s1", 1))
    assert exemplars(bench.registry).keys() >= {"api_request_to_charging_seconds"}


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ((), "text/plain"),
        (("text/plain", "application/openmetrics-text;q=0.5"), "text/plain"),
        (("text/plain;q=0.5", "application/openmetrics-text;version=1.0.0"), OPENMETRICS),
    ],
)
async def test_metrics_page_of_the_api_has_exemplars_for_prometheus(
    accept: tuple[str, ...], kind: str
) -> None:
    """All headers Accept count, and caches are told so."""
    async with Bench().serve() as bench:
        await bench.ask("POST", "/charge", None, [SAMPLED])
        page = await bench.ask("GET", "/metrics", headers=[("Accept", each) for each in accept])
    assert page.headers["Content-Type"].startswith(f"{kind};")
    assert page.headers["Vary"] == "Accept"
    assert (TRACE in page.body) is (kind == OPENMETRICS)
