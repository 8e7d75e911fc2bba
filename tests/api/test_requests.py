"""One request: its fields, its answer, and what is published."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from grid import messages
from grid.events import SUBSTATIONS, Event, State
from tests.api.harness import AT, FULL, JSON, REQUESTS, Bench, assigned, problem
from tests.fake_broker import turns


async def test_request_without_a_body_is_accepted() -> None:
    """202 once RabbitMQ has confirmed, with the job's address; and it is on charge.requests."""
    async with Bench().serve() as bench:
        answer = await bench.post()
        assert answer.status == 202
        assert answer.headers["Location"] == "/charge/job1"
        assert answer.body == {
            "id": "job1",
            "status": "queued",
            "substation": None,
            "attempt": 0,
            "times": {"queued": "2026-01-01T00:00:00Z"},
            "duplicates": 0,
            "request": {"priority": 0},
            "reservation": None,
            "reason": "no dispatcher has been heard yet",
            "place": 1,
            "expected_start": None,
            "expected_start_basis": None,
            "will_be_ready": None,
            "expected_energy_kwh": None,
            "power_kw": None,
            "energy_kwh": None,
            "details": {"routed_to": None, "loads": {}, "reason": None},
        }
        (sent,) = bench.publisher.to(REQUESTS)
        assert (sent.exchange, sent.key, sent.id) == (
            "charge.requests.in",
            REQUESTS,
            "job1",
        )
        assert messages.decode(sent.body) == messages.ChargeRequest("job1", AT)
        await turns()
        (event,) = bench.publisher.events()
        assert (event.kind, event.job, event.at) == (State.QUEUED, "job1", AT)


async def test_no_request_uses_a_thread() -> None:
    """FastAPI runs plain functions in threads, which costs on a busy machine."""
    async with Bench().serve() as bench:
        before = set(threading.enumerate())
        await bench.post()
        for path in ("/charge/job1", "/charges", "/substations", "/metrics", "/readyz"):
            assert (await bench.ask("GET", path)).status == 200
        assert set(threading.enumerate()) <= before


async def test_every_field_is_published_and_shown() -> None:
    """What the client sends is what is published, and what the job shows."""
    async with Bench().serve() as bench:
        answer = await bench.post(FULL)
        assert answer.status == 202
        (sent,) = bench.publisher.to(REQUESTS)
        request = messages.decode(sent.body)
        assert request.eligible_substations == ("s1", "s2")
        assert request.departure_time == AT + 151 * 86_400 + 6 * 3_600
        assert request.earliest_start == AT + 150 * 86_400 + 23 * 3_600
        assert request.reserve
        shown = (await bench.get(answer.headers["Location"])).body["request"]
        times = {
            "departure_time": "2026-06-01T06:00:00Z",
            "earliest_start": "2026-05-31T23:00:00Z",
        }
        assert shown == FULL | times


@pytest.mark.parametrize("data", [b"", b"{}", b"null"])
async def test_empty_body_is_a_request(data: bytes) -> None:
    """No body, an empty object and null are all a request with default values."""
    async with Bench().serve() as bench:
        assert (await bench.ask("POST", "/charge", data, [JSON])).status == 202


async def test_answer_waits_for_the_decision() -> None:
    """It names the substation, the loads that were seen, and the reason."""
    async with Bench(decision_wait=20).serve() as bench:
        asking = asyncio.create_task(bench.post())
        await bench.until(lambda: bench.projection.get("job1") is not None)
        assert not asking.done()
        bench.hear(assigned("job1", "s2", s1=3, s2=1))
        answer = await asyncio.wait_for(asking, 5)
        assert answer.status == 202
        details = {"routed_to": "s2", "loads": {"s1": 3, "s2": 1}, "reason": "lightest"}
        assert answer.body == {
            "id": "job1",
            "status": "assigned",
            "substation": "s2",
            "attempt": 1,
            "times": {"queued": "2026-01-01T00:00:00Z", "assigned": "2026-01-01T00:00:01Z"},
            "duplicates": 0,
            "request": {"priority": 0},
            "reservation": None,
            "reason": None,
            "place": None,
            "expected_start": None,
            "expected_start_basis": None,
            "will_be_ready": None,
            "expected_energy_kwh": None,
            "power_kw": None,
            "energy_kwh": None,
            "details": details,
        }
        assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize(
    "prefer",
    [["respond-async"], ["Respond-Async; x=1, wait=5"], ["wait=5", "respond-async"]],
)
async def test_respond_async_is_answered_without_the_decision(prefer: list[str]) -> None:
    """RFC 7240: respond-async does not wait for the decision, and the answer says so."""
    async with Bench(decision_wait=3_600).serve() as bench:
        headers = [("Prefer", each) for each in prefer]
        answer = await asyncio.wait_for(bench.ask("POST", "/charge", None, headers), 5)
        assert answer.status == 202
        assert answer.headers["Preference-Applied"] == "respond-async"


@pytest.mark.parametrize("prefer", ["", "wait=5", "respond-asynchronously", "return=minimal"])
async def test_unknown_preferences_are_ignored(prefer: str) -> None:
    """What is not known is ignored, as the RFC wants it."""
    async with Bench().serve() as bench:
        answer = await bench.post(Prefer=prefer)
        assert answer.status == 202
        assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ([], "body", "must be a JSON object"),
        ("text", "body", "must be a JSON object"),
        ({"prio": 3}, "prio", "no such field"),
        ({"id": "mine"}, "id", "no such field"),
        ({"priority": "3"}, "priority", 'got "3"'),
        ({"priority": 10}, "priority", "got 10"),
        ({"priority": -1}, "priority", "got -1"),
        ({"priority": 1.5}, "priority", "got 1.5"),
        ({"priority": True}, "priority", "got true"),
        ({"priority": None}, "priority", "got null"),
        ({"vehicle_id": ""}, "vehicle_id", 'got ""'),
        ({"vehicle_id": "x" * 65}, "vehicle_id", "64"),
        ({"vehicle_id": "a\nb"}, "vehicle_id", "printable"),
        ({"vehicle_id": "\ud800"}, "vehicle_id", "unicode"),
        ({"vehicle_id": 7}, "vehicle_id", "got 7"),
        ({"requested_energy_kwh": 0}, "requested_energy_kwh", "got 0"),
        ({"requested_energy_kwh": "10"}, "requested_energy_kwh", 'got "10"'),
        ({"requested_energy_kwh": 10_001}, "requested_energy_kwh", "10000"),
        ({"requested_energy_kwh": float("nan")}, "requested_energy_kwh", "got NaN"),
        ({"requested_energy_kwh": float("inf")}, "requested_energy_kwh", "got Infinity"),
        ({"requested_power_kw": 4_001}, "requested_power_kw", "4000"),
        ({"departure_time": "2025-12-31T23:59:59Z"}, "departure_time", "in the future, got 2025"),
        ({"departure_time": "0001-01-01T00:00:00+12:00"}, "departure_time", "in the future"),
        ({"departure_time": "9999-12-31T23:59:59-12:00"}, "departure_time", "at most"),
        ({"departure_time": "2027-01-01T00:00:00"}, "departure_time", "offset from UTC"),
        ({"departure_time": "2027-01-01"}, "departure_time", "offset from UTC"),
        ({"departure_time": "2027-13-01T00:00:00Z"}, "departure_time", "month"),
        ({"departure_time": 1_893_456_000}, "departure_time", "offset from UTC"),
        ({"departure_time": "1893456000"}, "departure_time", "offset from UTC"),
        ({"departure_time": "tomorrow"}, "departure_time", 'got "tomorrow"'),
        ({"earliest_start": "2027-01-01T00:00:00"}, "earliest_start", "offset from UTC"),
        ({"earliest_start": 1_893_456_000}, "earliest_start", "offset from UTC"),
        ({"earliest_start": "9999-12-31T23:59:59-12:00"}, "earliest_start", "at most"),
        ({"reserve": 1}, "reserve", "got 1"),
        ({"reserve": "true"}, "reserve", 'got "true"'),
        ({"eligible_substations": "s1"}, "eligible_substations", 'got "s1"'),
        ({"eligible_substations": []}, "eligible_substations", "at least 1"),
        ({"eligible_substations": ["s1", "a.b"]}, "eligible_substations.1", 'got "a.b"'),
        ({"eligible_substations": ["s"] * 101}, "eligible_substations", "100"),
    ],
)
async def test_api_names_the_field_that_is_invalid(body: object, field: str, words: str) -> None:
    """422 with the field, what is wrong with it, and its value as the client wrote it."""
    async with Bench().serve() as bench:
        found = problem(await bench.post(body), 422)
        assert [each["field"] for each in found["errors"]] == [field]
        assert words in found["errors"][0]["problem"]
        assert words in found["detail"]
        assert bench.publisher.sent == []


async def test_all_invalid_fields_are_named_at_once_up_to_a_maximum() -> None:
    """A client sees every mistake; the answer to a body of many mistakes is bounded."""
    async with Bench().serve() as bench:
        found = problem(await bench.post({"priority": "x", "color": 1, "vehicle_id": ""}), 422)
        assert {each["field"] for each in found["errors"]} == {"priority", "color", "vehicle_id"}
        found = problem(await bench.post({f"x{n}" * 50: 1 for n in range(200)}), 422)
        assert len(found["errors"]) == 20
        assert found["detail"].endswith("and 180 more")
        assert len(json.dumps(found)) < 20_000


async def test_request_for_unknown_substations_only_is_rejected() -> None:
    """One known name is enough; before the first snapshot every name is accepted."""
    async with Bench().serve() as bench:
        wanted = {"eligible_substations": ["s8", "s9"]}
        assert (await bench.post(wanted)).status == 202
        told = [{"substation": name, "load": 0} for name in ("s1", "s9")]
        bench.hear(Event(SUBSTATIONS, AT, detail={"substations": told}))
        assert (await bench.post(wanted)).status == 202
        answer = await bench.post([{}, {"eligible_substations": ["s7"]}], "/charges")
        assert answer.status == 422
        assert answer.body["errors"][0]["field"] == "1.eligible_substations"
        assert "s7" in answer.body["errors"][0]["problem"]
