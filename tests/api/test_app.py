from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from api import intake, limits
from grid import messages, topology
from grid.amqp import Outcome
from grid.events import SUBSTATIONS, Counts, Event, State
from tests.api.bench import AT, JSON, PROBLEM, Answer, Bench
from tests.fake_broker import turns

REQUESTS = topology.REQUESTS
FULL = {
    "vehicle_id": "bus-7",
    "requested_energy_kwh": 40.5,
    "requested_power_kw": 22,
    "departure_time": "2026-06-01T08:00:00+02:00",
    "priority": 9,
    "eligible_substations": ["s1", "s2"],
}


def problem(answer: Answer, status: int) -> dict[str, Any]:
    """Check that an answer is a problem document of this status; gives it."""
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.body["status"] == status
    assert answer.body["title"]
    assert answer.body["detail"]
    found: dict[str, Any] = answer.body
    return found


def assigned(job: str, substation: str = "s1", **loads: float) -> Event:
    """A decision, as the dispatcher writes it."""
    candidates = [{"substation": name, "load": load} for name, load in loads.items()]
    detail = {"requested_at": AT, "reason": "lightest", "candidates": candidates}
    return Event(State.ASSIGNED, AT + 1, job, substation, 1, detail=detail)


async def test_a_request_without_a_body_is_accepted() -> None:
    """202 once RabbitMQ has confirmed, with the job's address; and it is on charge.requests."""
    async with Bench().serve() as bench:
        answer = await bench.post()
        assert answer.status == 202
        assert answer.headers["Location"] == "/charge/job1"
        assert answer.body == {
            "id": "job1",
            "status": "queued",
            "details": {"routed_to": None, "loads": {}, "reason": None},
        }
        (sent,) = bench.publisher.to(REQUESTS)
        assert (sent.exchange, sent.key, sent.properties.message_id) == (REQUESTS, REQUESTS, "job1")
        assert messages.decode(sent.body) == messages.ChargeRequest("job1", AT)
        await turns()
        (event,) = bench.publisher.events()
        assert (event.kind, event.job, event.at) == (State.QUEUED, "job1", AT)


async def test_every_field_goes_to_the_queue_and_comes_back() -> None:
    """What the client sends is what is published, and what the job shows."""
    async with Bench().serve() as bench:
        answer = await bench.post(FULL)
        assert answer.status == 202
        (sent,) = bench.publisher.to(REQUESTS)
        request = messages.decode(sent.body)
        assert request.eligible_substations == ("s1", "s2")
        assert request.departure_time == AT + 151 * 86_400 + 6 * 3_600
        shown = (await bench.get(answer.headers["Location"])).body["request"]
        assert shown == FULL | {"departure_time": "2026-06-01T06:00:00Z"}


@pytest.mark.parametrize("data", [b"", b"{}", b"null"])
async def test_an_empty_body_is_a_request(data: bytes) -> None:
    """Nothing, an empty object and null are all a request without wishes."""
    async with Bench().serve() as bench:
        assert (await bench.ask("POST", "/charge", data, [JSON])).status == 202


async def test_the_answer_waits_for_the_decision() -> None:
    """It names the substation, the loads that were seen, and the reason."""
    async with Bench(decision_wait=20).serve() as bench:
        asking = asyncio.create_task(bench.post())
        await bench.until(lambda: bench.projection.get("job1") is not None)
        assert not asking.done()
        bench.hear(assigned("job1", "s2", s1=3, s2=1))
        answer = await asyncio.wait_for(asking, 5)
        assert answer.status == 202
        details = {"routed_to": "s2", "loads": {"s1": 3, "s2": 1}, "reason": "lightest"}
        assert answer.body == {"id": "job1", "status": "assigned", "details": details}
        assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize(
    "prefer",
    [["respond-async"], ["Respond-Async; x=1, wait=5"], ["wait=5", "respond-async"]],
)
async def test_who_prefers_so_is_answered_at_once(prefer: list[str]) -> None:
    """RFC 7240: respond-async does not wait for the decision, and the answer says so."""
    async with Bench(decision_wait=3_600).serve() as bench:
        headers = [("Prefer", each) for each in prefer]
        answer = await asyncio.wait_for(bench.ask("POST", "/charge", None, headers), 5)
        assert answer.status == 202
        assert answer.headers["Preference-Applied"] == "respond-async"


@pytest.mark.parametrize("prefer", ["", "wait=5", "respond-asynchronously", "return=minimal"])
async def test_other_preferences_change_nothing(prefer: str) -> None:
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
        ({"eligible_substations": "s1"}, "eligible_substations", 'got "s1"'),
        ({"eligible_substations": []}, "eligible_substations", "at least 1"),
        ({"eligible_substations": ["s1", "a.b"]}, "eligible_substations.1", 'got "a.b"'),
        ({"eligible_substations": ["s"] * 101}, "eligible_substations", "100"),
    ],
)
async def test_a_field_that_is_wrong_is_named(body: object, field: str, words: str) -> None:
    """422 with the field, what is wrong with it, and its value as the client wrote it."""
    async with Bench().serve() as bench:
        found = problem(await bench.post(body), 422)
        assert [each["field"] for each in found["errors"]] == [field]
        assert words in found["errors"][0]["problem"]
        assert words in found["detail"]
        assert bench.publisher.sent == []


async def test_all_fields_that_are_wrong_are_named_at_once_but_not_thousands() -> None:
    """A client sees every mistake; a body made of mistakes gets no answer many times its size."""
    async with Bench().serve() as bench:
        found = problem(await bench.post({"priority": "x", "color": 1, "vehicle_id": ""}), 422)
        assert {each["field"] for each in found["errors"]} == {"priority", "color", "vehicle_id"}
        found = problem(await bench.post({f"x{n}" * 50: 1 for n in range(200)}), 422)
        assert len(found["errors"]) == 20
        assert found["detail"].endswith("and 180 more")
        assert len(json.dumps(found)) < 20_000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "not JSON"),
        (b"{'priority': 3}", "not JSON"),
        (b'{"vehicle_id": "\xe9"}', "utf-8"),
        (b"[" * 30_000, "recursion"),
        (b'{"requested_energy_kwh": ' + b"9" * 5_000 + b"}", "digits"),
    ],
)
async def test_a_body_that_is_no_json_is_told_so(data: bytes, words: str) -> None:
    """422 for the body as a whole, with what the reader stumbled on."""
    async with Bench().serve() as bench:
        found = problem(await bench.ask("POST", "/charge", data, [JSON]), 422)
        assert [each["field"] for each in found["errors"]] == ["body"]
        assert "not JSON" in found["detail"]
        assert words in found["detail"]


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "json", None]
)
@pytest.mark.parametrize("path", ["/charge", "/charges"])
async def test_a_body_that_is_not_declared_as_json_is_told_the_header(
    kind: str | None, path: str
) -> None:
    """415 that says which header to send: curl declares a form unless told otherwise."""
    async with Bench().serve() as bench:
        headers = [("Content-Type", kind)] if kind else []
        found = problem(await bench.ask("POST", path, b'{"priority": 3}', headers), 415)
        assert "Content-Type: application/json" in found["detail"]
        assert (kind or "got none") in found["detail"]
        assert bench.publisher.sent == []


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"]
)
async def test_json_may_be_declared_in_other_ways(kind: str) -> None:
    """Letters, parameters and derived types do not matter."""
    async with Bench().serve() as bench:
        answer = await bench.ask("POST", "/charge", b"{}", [("Content-Type", kind)])
        assert answer.status == 202


async def test_no_body_needs_no_declaration() -> None:
    """curl -X POST -d '' declares a form that is empty: a request without wishes."""
    async with Bench().serve() as bench:
        form = [("Content-Type", "application/x-www-form-urlencoded")]
        assert (await bench.ask("POST", "/charge", b"", form)).status == 202


async def chunks(size: int) -> AsyncIterator[bytes]:
    """Give so many bytes without saying how many there will be."""
    for _ in range(size // 1_000):
        yield b" " * 1_000


@pytest.mark.parametrize(
    ("path", "limit"), [("/charge", 64 * 1024), ("/charges", 1024 * 1024), ("/nowhere", 0)]
)
@pytest.mark.parametrize("counted", [True, False])
async def test_a_body_that_is_too_long_is_refused(path: str, limit: int, counted: bool) -> None:  # noqa: FBT001
    """413 naming the limit, whether the length is declared or not; and the answer arrives."""
    async with Bench().serve() as bench:
        for size in (limit + 1_000, limit + 3_000_000):
            data = b" " * size if counted else chunks(size)
            answer = await bench.ask("POST", path, data, [JSON])
            if path == "/nowhere":
                problem(answer, 404)
            else:
                assert f"{limit} bytes" in problem(answer, 413)["detail"]
        assert bench.publisher.sent == []


async def test_a_body_at_the_limit_is_read() -> None:
    """64 KiB exactly is not too long."""
    async with Bench().serve() as bench:
        data = b"{" + b" " * (64 * 1024 - 2) + b"}"
        assert (await bench.ask("POST", "/charge", data, [JSON])).status == 202


async def test_a_length_that_is_a_lie_fools_nobody() -> None:
    """What follows a body of the declared length is no part of it, and the server goes on."""
    async with Bench().serve() as bench:
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        head = b"POST /charge HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        writer.write(head + b"Content-Length: 2\r\n\r\n{}" + b"x" * 200_000)
        first = await reader.readuntil(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 202 ")
        writer.close()
        assert len(bench.publisher.to(REQUESTS)) == 1
        assert (await bench.get("/healthz")).status == 200


async def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends on after the limit is read for a while, and then answered all the same."""
    monkeypatch.setattr(limits, "DRAIN_SECONDS", 0.05)

    async def endless() -> AsyncIterator[bytes]:
        yield b" " * 70_000
        await asyncio.Event().wait()

    async with Bench().serve() as bench:
        sending = bench.ask("POST", "/charge", endless(), [JSON])
        problem(await asyncio.wait_for(sending, 5), 413)


def away(bench: Bench) -> None:
    """RabbitMQ cannot be reached."""
    bench.publisher.up.clear()


def blocked(bench: Bench) -> None:
    """RabbitMQ is short of memory."""
    bench.publisher.blocked = True


def full(bench: Bench) -> None:
    """charge.requests is at its limit."""
    bench.publisher.automatic[REQUESTS] = Outcome.REFUSED


def silent(bench: Bench) -> None:
    """RabbitMQ does not answer."""
    del bench.publisher.automatic[REQUESTS]


def behind(bench: Bench) -> None:
    """Very many requests wait for RabbitMQ's answer."""
    for number in range(intake.BACKLOG_MOST):
        bench.publisher.publish("x", "x", b"", lambda _: None, id=str(number))


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (away, "RabbitMQ is away"),
        (blocked, "short of memory or disk"),
        (full, "refused"),
        (silent, "has not confirmed"),
        (behind, "10000 requests wait"),
    ],
)
@pytest.mark.parametrize("path", ["/charge", "/charges"])
async def test_what_cannot_be_kept_is_not_accepted(
    trouble: Callable[[Bench], None], words: str, path: str
) -> None:
    """503 with Retry-After and the reason, while RabbitMQ does not confirm."""
    async with Bench(confirm_timeout=0.05).serve() as bench:
        trouble(bench)
        answer = await bench.post([{}] if path == "/charges" else {}, path)
        assert words in problem(answer, 503)["detail"]
        assert int(answer.headers["Retry-After"]) >= 1
        assert "accepted" not in answer.body
        assert (await bench.get("/charges")).body["charges"] == []


async def test_a_list_is_accepted_in_its_order() -> None:
    """One 202 for all, each with its own id and state."""
    async with Bench().serve() as bench:
        wanted = [{"vehicle_id": f"v{number}"} for number in range(1_000)]
        answer = await bench.post(wanted, "/charges")
        assert answer.status == 202
        assert [job["id"] for job in answer.body["jobs"]] == [f"job{n}" for n in range(1, 1_001)]
        sent = [messages.decode(each.body).vehicle_id for each in bench.publisher.to(REQUESTS)]
        assert sent == [each["vehicle_id"] for each in wanted]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (None, "body"),
        ({}, "body"),
        ([], "body"),
        ([{}] * 1_001, "body"),
        ([{}, 7], "1"),
        ([{}, {"priority": 11}], "1.priority"),
        ([{}, {"color": "red"}], "1.color"),
        ([{}, {}, {"vehicle_id": "\n"}], "2.vehicle_id"),
        ([{}, {"departure_time": "2020-01-01T00:00:00Z"}], "1.departure_time"),
    ],
)
async def test_of_a_list_the_item_that_is_wrong_is_named(body: object, field: str) -> None:
    """422 with the item's number and field; none of the list is accepted."""
    async with Bench().serve() as bench:
        found = problem(await bench.post(body, "/charges"), 422)
        assert [each["field"] for each in found["errors"]] == [field]
        assert bench.publisher.sent == []


async def test_a_list_that_is_accepted_in_part_says_which() -> None:
    """503 naming the ids that RabbitMQ has, so that the client can send the others again."""
    async with Bench().serve() as bench:
        silent(bench)
        asking = asyncio.create_task(bench.post([{}, {}, {}], "/charges"))
        await bench.until(lambda: len(bench.publisher.waiting) == 3)
        for outcome in (Outcome.CONFIRMED, Outcome.REFUSED, Outcome.CONFIRMED):
            bench.publisher.answer(REQUESTS, outcome)
        answer = await asking
        found = problem(answer, 503)
        assert found["accepted"] == ["job1", "job3"]
        assert "2 of the list were accepted" in found["detail"]
        assert answer.headers["Retry-After"]
        listed = (await bench.get("/charges")).body["charges"]
        assert [each["id"] for each in listed] == ["job1", "job3"]


async def test_a_job_tells_its_whole_life() -> None:
    """State, times, substation, attempt and the decision, as the event log has them."""
    async with Bench().serve() as bench:
        await bench.post()
        counts = Counts(1, 1, 0, 0, AT)
        bench.hear(
            assigned("job1", "s1", s1=0),
            Event(State.CHARGING, AT + 2, "job1", "s1", 1, counts=counts),
            Event(State.COMPLETED, AT + 5.5, "job1", "s1", 1, counts=counts),
            Event(State.COMPLETED, AT + 6, "job1", "s2", 2, counts=counts),
        )
        answer = await bench.get("/charge/job1")
        assert answer.status == 200
        decision = answer.body.pop("decision")
        assert decision["candidates"] == [{"substation": "s1", "load": 0}]
        assert answer.body == {
            "id": "job1",
            "status": "completed",
            "substation": "s1",
            "attempt": 2,
            "times": {
                "queued": "2026-01-01T00:00:00Z",
                "assigned": "2026-01-01T00:00:01Z",
                "charging": "2026-01-01T00:00:02Z",
                "completed": "2026-01-01T00:00:05.500000Z",
            },
            "duplicates": 1,
            "request": {"priority": 0},
            "reason": None,
        }
        assert bench.count("duplicate_completions_total") == 1
        assert bench.count("request_to_charging_seconds_sum") == 2
        assert bench.count("jobs", status="completed") == 1


async def test_a_parked_job_tells_why() -> None:
    """The reason is in the answer to the request, and in the job."""
    async with Bench(decision_wait=20).serve() as bench:
        asking = asyncio.create_task(bench.post({"eligible_substations": ["s9"]}))
        await bench.until(lambda: bench.projection.get("job1") is not None)
        bench.hear(Event(State.PARKED, AT + 1, "job1", reason="no such substation: s9"))
        answer = await asking
        assert answer.body["status"] == "parked"
        assert answer.body["details"]["reason"] == "no such substation: s9"
        shown = (await bench.get("/charge/job1")).body
        assert (shown["status"], shown["reason"]) == ("parked", "no such substation: s9")


async def fill(bench: Bench, count: int) -> None:
    """Accept jobs, of which every second is assigned to s2 and the others to s1."""
    await bench.post([{}] * count, "/charges")
    bench.hear(*(assigned(f"job{n}", f"s{1 + (n % 2 == 0)}") for n in range(1, count + 1)))
    bench.hear(*(Event(State.COMPLETED, AT + 9, f"job{n}", "s1") for n in (1, 3)))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [1, 2, 3, 4, 5, 6, 7]),
        ("?status=completed", [1, 3]),
        ("?status=expired", []),
        ("?substation=s2", [2, 4, 6]),
        ("?substation=s1&status=assigned", [5, 7]),
        ("?substation=nobody", []),
        ("?after=job5", [6, 7]),
        ("?after=job7", []),
        ("?after=job3&substation=s1", [5, 7]),
    ],
)
async def test_jobs_are_listed_as_wanted(query: str, expected: list[int]) -> None:
    """Oldest first, by state, by substation, after a job; without the decisions."""
    async with Bench().serve() as bench:
        await fill(bench, 7)
        answer = await bench.get(f"/charges{query}")
        assert answer.status == 200
        assert [each["id"] for each in answer.body["charges"]] == [f"job{n}" for n in expected]
        assert answer.body["next"] is None
        assert all("decision" not in each for each in answer.body["charges"])


@pytest.mark.parametrize(("size", "pages"), [(1, 7), (2, 4), (3, 3), (7, 1), (1_000, 1)])
async def test_pages_follow_each_other(size: int, pages: int) -> None:
    """Following ``next`` shows every job exactly once, and ends."""
    async with Bench().serve() as bench:
        await fill(bench, 7)
        found, after, count = [], "", 0
        while True:
            page = (await bench.get(f"/charges?limit={size}{after}")).body
            found += [each["id"] for each in page["charges"]]
            count += 1
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert (found, count) == ([f"job{n}" for n in range(1, 8)], pages)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=many", "limit"),
        ("status=done", "status"),
        ("substation=a.b", "substation"),
        ("after=nobody", "after"),
        ("after=%20", "after"),
        ("state=completed", "state"),
    ],
)
async def test_a_wish_for_a_list_that_is_wrong_is_named(query: str, field: str) -> None:
    """422 with the name in the query, misspelt ones too: what is ignored would show too much."""
    async with Bench().serve() as bench:
        found = problem(await bench.get(f"/charges?{query}"), 422)
        assert [each["field"] for each in found["errors"]] == [field]


async def test_substations_are_shown_as_the_dispatcher_last_saw_them() -> None:
    """Before its first word there are none, and no time."""
    async with Bench().serve() as bench:
        assert (await bench.get("/substations")).body == {"as_of": None, "substations": []}
        one = {
            "id": "s1",
            "load": 2.0,
            "connectors": 50.0,
            "utilisation": 0.04,
            "gauge": 1.0,
            "gauge_age_seconds": 0.2,
            "outstanding": 1.0,
            "power_kw": 14.8,
            "rated_power_kw": 400.0,
            "eligible": True,
            "reason": None,
            "state": "draining",
            "limit": 7,
        }
        never = one | {"id": "s2", "gauge_age_seconds": None, "eligible": False, "reason": "why"}
        told = [each | {"substation": each["id"]} for each in (one, never)]
        for newer in ("state", "limit", "power_kw", "rated_power_kw"):
            del told[1][newer]  # by a dispatcher of an older version
        bench.hear(Event(SUBSTATIONS, AT, detail={"substations": [told[0] | {"new": 1}, told[1]]}))
        answer = await bench.get("/substations")
        assert answer.status == 200
        never |= {"state": "available", "limit": None, "power_kw": None, "rated_power_kw": None}
        assert answer.body == {"as_of": "2026-01-01T00:00:00Z", "substations": [one, never]}


@pytest.mark.parametrize("path", ["/charge/nobody", "/charges", "/substations"])
async def test_while_the_event_log_is_read_nothing_is_denied(path: str) -> None:
    """503 and not 404 or an empty list: what is not known yet may well be there."""
    async with Bench().serve() as bench:
        bench.log.caught_up.clear()
        answer = await bench.get(path)
        assert "still being read" in problem(answer, 503)["detail"]
        assert answer.headers["Retry-After"]


async def test_a_job_that_is_known_is_shown_while_the_event_log_is_read() -> None:
    """What the log has told already needs no waiting."""
    async with Bench().serve() as bench:
        bench.log.caught_up.clear()
        bench.hear(assigned("early"))
        assert (await bench.get("/charge/early")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/charge/nobody", 404, "no job nobody"),
        ("GET", "/charge/%20", 422, "id"),
        ("GET", "/nowhere", 404, "/nowhere"),
        ("GET", "/charge", 405, "GET"),
        ("DELETE", "/substations", 405, "DELETE"),
        ("FLY", "/charge", 405, "FLY"),
    ],
)
async def test_every_error_is_a_problem_document(
    method: str, path: str, status: int, words: str
) -> None:
    """Whatever is asked for, the answer has one form, and says what is wrong."""
    async with Bench().serve() as bench:
        answer = await bench.ask(method, path)
        assert words in problem(answer, status)["detail"]
        assert (status == 405) == ("Allow" in answer.headers)


async def test_a_failure_of_the_server_tells_nothing_of_its_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """500 as a problem document; the log has the details."""

    def fails(_: str) -> None:
        raise RuntimeError("the inside")

    async with Bench().serve() as bench:
        monkeypatch.setattr(bench.projection, "get", fails)
        answer = await bench.get("/charge/job1")
        assert "inside" not in json.dumps(problem(answer, 500))


async def test_readiness_says_what_is_missing() -> None:
    """/healthz answers as long as the process does; /readyz names each problem."""
    async with Bench().serve() as bench:
        assert (await bench.get("/readyz")).status == 200
        bench.problems.append("RabbitMQ link api-requests is down")
        answer = await bench.get("/readyz")
        assert (answer.status, answer.body["problems"]) == (503, bench.problems)
        assert (await bench.get("/healthz")).status == 200


async def test_requests_are_counted_by_route_and_never_by_address() -> None:
    """No id, no unknown path and no invented method becomes a label."""
    async with Bench().serve() as bench:
        await bench.post()
        for path in ("/charge/job1", "/charge/nobody", "/charges?limit=0", "/nowhere"):
            await bench.get(path)
        await bench.ask("FLY", "/charge")
        page = (await bench.get("/metrics")).body
        assert "nobody" not in page
        assert "nowhere" not in page
        assert "FLY" not in page
        for method, route, status in (
            ("POST", "/charge", "202"),
            ("GET", "/charge/{id}", "200"),
            ("GET", "/charge/{id}", "404"),
            ("GET", "/charges", "422"),
            ("GET", "unmatched", "404"),
        ):
            labels = {"method": method, "route": route, "status": status}
            assert bench.count("requests_total", **labels) == 1, labels


async def test_the_openapi_document_lists_every_route_and_every_error() -> None:
    """It loads, and what it says of errors is what they are."""
    async with Bench().serve() as bench:
        document = (await bench.get("/openapi.json")).body
        assert (await bench.get("/docs")).status == 200
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert operations.keys() == {
        "POST /charge",
        "POST /charges",
        "GET /charge/{id}",
        "GET /charges",
        "GET /substations",
        "PUT /substations/{id}",
        "GET /metrics",
        "GET /healthz",
        "GET /readyz",
    }
    assert all(each.get("summary") for each in operations.values())
    taking = operations["POST /charge"]["responses"]
    assert taking.keys() == {"202", "413", "415", "422", "503"}
    assert operations["GET /charge/{id}"]["responses"].keys() == {"200", "404", "422", "503"}
    for status, answer in taking.items():
        assert list(answer["content"]) == [PROBLEM if int(status) >= 400 else "application/json"]
    fields = document["components"]["schemas"]["ChargeIn"]["properties"]
    assert fields.keys() == FULL.keys()
    names = {each["name"] for each in operations["GET /charges"]["parameters"]}
    assert names == {"status", "substation", "limit", "after"}


async def test_substations_that_nobody_knows_are_refused() -> None:
    """A typing error is told at once; one known name is enough, and so is not knowing any yet."""
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
