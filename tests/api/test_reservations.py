"""Jobs that begin later, and jobs that are promised a start: what is asked, and what is shown."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from api.last_heard import DISPATCHER_TIMEOUT
from grid import kinds, messages
from grid.events import Event, State
from grid.kinds import Booking, Promise
from grid.messages import ChargeRequest
from tests.api.harness import AT, REQUESTS, Bench, assigned, problem
from tests.api.test_events import following, hear
from tests.api.test_wait import FULL, row, snapshot

HOUR = 3_600.0
AT_ONE = "2026-01-01T01:00:00Z"
AT_TWO = "2026-01-01T02:00:00Z"
AT_THREE = "2026-01-01T03:00:00Z"
READY_AT_THREE = {
    "reserve": True,
    "departure_time": AT_THREE,
    "requested_energy_kwh": 10,
    "requested_power_kw": 10,
}


def shown(at: float) -> str:
    """Return a time, in Unix seconds, as answers have it."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def booked(
    job: str, start: float, at: float = AT, substation: str = "a", reason: str = ""
) -> Event:
    """Return the event of a promised start."""
    return kinds.booked(Booking(request(job), substation, start, start + HOUR), at, reason)


def refused(job: str, nearest: float | None) -> list[Event]:
    """Return the events of a refused start, with the nearest one, if there is any."""
    found = None if nearest is None else Booking(request(job), "b", nearest, nearest + HOUR)
    return [
        kinds.refused(job, AT, found),
        Event(State.EXPIRED, AT, job, reason="no start is free at 01:00"),
    ]


def withdrawn(job: str, at: float, reason: str) -> Event:
    """Return the event of a promise that does not hold any more, without another start."""
    return kinds.told(job, at, Promise(granted=False, substation="", start=0.0), reason)


def request(job: str) -> ChargeRequest:
    """Return a request that reserves a start."""
    return ChargeRequest(job, AT, reserve=True)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (
            {"earliest_start": AT_TWO, "departure_time": AT_ONE},
            "earliest_start",
            "before the departure_time, 2026-01-01T01:00:00+00:00, got 2026-01-01T02:00:00+00:00",
        ),
        (
            {"earliest_start": "2026-01-01T02:00:00+01:00", "departure_time": AT_ONE},
            "earliest_start",
            "before the departure_time",
        ),
        (
            {"earliest_start": AT_TWO, "departure_time": "2025-01-01T00:00:00Z"},
            "departure_time",
            "in the future",
        ),
    ],
)
async def test_earliest_start_must_be_before_the_departure(
    body: dict[str, str], field: str, words: str
) -> None:
    """422 that names both; in a list, with the position of the request."""
    async with Bench().serve() as bench:
        for sent, path, where in ((body, "/charge", ""), ([{}, body], "/charges", "1.")):
            found = problem(await bench.post(sent, path), 422)
            assert [each["field"] for each in found["errors"]] == [where + field]
            assert words in found["errors"][0]["problem"]
        assert bench.publisher.sent == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2020-01-01T00:00:00Z", 1_577_836_800),
        ("0001-01-01T00:00:00+12:00", 1),
        ("1970-01-01T00:00:00Z", 1),
    ],
)
async def test_earliest_start_may_be_in_the_past(text: str, seconds: float) -> None:
    """Then it means now: the job waits since its request, and has a place."""
    async with Bench().serve() as bench:
        bench.hear(snapshot(row("a", FULL)))
        answer = await bench.post({"earliest_start": text}, Idempotency_Key="k")
        assert (answer.status, answer.body["place"], answer.body["reason"]) == (202, 1, "a is full")
        (sent,) = bench.publisher.to(REQUESTS)
        assert messages.decode(sent.body).earliest_start == seconds
        job = bench.projection.get(answer.body["id"])
        assert job is not None
        assert job.waits_since == AT
        bench.at += 60
        again = await bench.post({"earliest_start": text}, Idempotency_Key="k")
        assert again.headers["Idempotency-Replayed"] == "true"


async def test_job_that_begins_later_has_no_place_until_then() -> None:
    """It says until when it waits, and begins no earlier; nobody is behind it meanwhile."""
    async with Bench().serve() as bench:
        later = {"earliest_start": AT_ONE, "priority": 9}
        first = (await bench.post(later)).body
        assert (first["place"], first["reservation"]) == (None, None)
        assert first["reason"] == f"it is not to begin before {AT_ONE}"
        assert first["request"]["earliest_start"] == AT_ONE
        bench.hear(
            snapshot(row("a", FULL, connectors=1.0)),
            Event(State.CHARGING, AT - 30, "before", "a", 1),
            Event(State.COMPLETED, AT - 10, "before", "a", 1),
            Event(State.CHARGING, AT, "now", "a", 1, ends_at=AT + 20),
        )
        assert (await bench.post()).body["place"] == 1
        found = (await bench.get("/charge/job1")).body
        assert (found["place"], found["expected_start"]) == (None, AT_ONE)
        bench.at = AT + HOUR
        found = (await bench.get("/charge/job1")).body
        assert (found["place"], found["reason"]) == (1, "a is full")
        assert (await bench.get("/charge/job2")).body["place"] == 2
        bench.hear(assigned("job1", "a"))
        assert (await bench.get("/charge/job2")).body["place"] == 1


@pytest.mark.parametrize("body", [{"earliest_start": AT_ONE}, {"reserve": True}])
async def test_job_without_a_turn_that_ends_leaves_the_order_as_it_is(
    body: dict[str, object],
) -> None:
    """Also one that was known before anybody asked for a place."""
    async with Bench().serve() as bench:
        await bench.post(body, Prefer="respond-async")
        for _ in range(2):
            await bench.post(body)
            await bench.post()
            bench.at += 1
        bench.hear(Event(State.CANCELLED, AT, "job1"), Event(State.EXPIRED, AT, "job2"))
        places = [(await bench.get(f"/charge/job{n}")).body["place"] for n in (3, 4, 5)]
        assert places == [1, None, 2]
        bench.at = AT + HOUR
        bench.hear(Event(State.EXPIRED, AT + HOUR, "job4"))
        places = [(await bench.get(f"/charge/job{n}")).body["place"] for n in (3, 4, 5)]
        assert places == [1, None, 2]


async def test_booked_job_shows_its_start() -> None:
    """Where and when, as the start that is expected; also once it has begun and ended."""
    async with Bench().serve() as bench:
        body = {
            "reserve": True,
            "departure_time": AT_THREE,
            "requested_energy_kwh": 7.4,
            "requested_power_kw": 7.4,
        }
        bench.hear(snapshot(row("a")))
        asked = (await bench.post(body)).body
        assert (asked["reservation"], asked["place"], asked["expected_start"]) == (None,) * 3
        assert asked["reason"] == "it is not known yet whether it has the start that it asked for"
        bench.hear(booked("job1", AT + HOUR))
        told = {"granted": True, "substation": "a", "start": AT_ONE}
        for path in ("/charge/job1", "/charges"):
            found = (await bench.get(path)).body
            found = found["charges"][0] if path == "/charges" else found
            assert found["reservation"] == told
            assert (found["status"], found["substation"], found["place"]) == ("queued", None, None)
            assert found["reason"] == f"its start at a is promised for {AT_ONE}"
            assert (found["expected_start"], found["expected_start_basis"]) == (AT_ONE, "promised")
        bench.hear(booked("job1", AT + 2 * HOUR, AT + 1, "b", "a was drained"))
        found = (await bench.get("/charge/job1")).body
        told = {"granted": True, "substation": "b", "start": AT_TWO}
        assert found["reservation"] == told
        assert found["reason"] == f"its start at b is promised for {AT_TWO} (a was drained)"
        bench.hear(assigned("job1", "b"), Event(State.CHARGING, AT + 2 * HOUR, "job1", "b", 1))
        charging = (await bench.get("/charge/job1")).body
        assert (charging["reservation"], charging["expected_start"]) == (told, None)
        bench.hear(Event(State.COMPLETED, AT + 3 * HOUR, "job1", "b", 1))
        assert (await bench.get("/charge/job1")).body["reservation"] == told
        assert bench.count("request_to_charging_seconds_sum") == 0, "it began when it was to"


@pytest.mark.parametrize(("starts", "is_ready"), [(HOUR, True), (2.5 * HOUR, False)])
async def test_readiness_of_a_booked_job_follows_from_its_start(
    starts: float, *, is_ready: bool
) -> None:
    """Its session takes an hour, and its vehicle leaves at three."""
    async with Bench(charge_speed=1.0).serve() as bench:
        bench.hear(snapshot(row("a", FULL)))
        await bench.post(READY_AT_THREE)
        bench.hear(booked("job1", AT + starts))
        found = (await bench.get("/charge/job1")).body
        assert found["will_be_ready"] is is_ready
        assert found["expected_energy_kwh"] == (10 if is_ready else 5)


async def test_readiness_of_a_job_that_begins_later_counts_from_then() -> None:
    """Nobody can say when it begins, but it is not earlier than that."""
    async with Bench(charge_speed=1.0).serve() as bench:
        body = {
            "earliest_start": AT_TWO,
            "departure_time": AT_THREE,
            "requested_energy_kwh": 20,
            "requested_power_kw": 10,
        }
        found = (await bench.post(body)).body
        assert (found["expected_start"], found["will_be_ready"]) == (None, False)
        assert found["expected_energy_kwh"] == 10


async def test_booked_job_waits_for_the_dispatcher_once_its_start_has_come() -> None:
    """Until then it makes no difference that it is silent."""
    async with Bench().serve() as bench:
        bench.hear(snapshot(row("a")))
        await bench.post({"reserve": True})
        bench.hear(booked("job1", AT + HOUR))
        bench.now += DISPATCHER_TIMEOUT + 1
        found = (await bench.get("/charge/job1")).body
        assert found["reason"] == f"its start at a is promised for {AT_ONE}"
        bench.at = AT + HOUR
        assert "dispatcher" in (await bench.get("/charge/job1")).body["reason"]


@pytest.mark.parametrize(
    ("nearest", "told"),
    [
        (AT + 2 * HOUR, {"granted": False, "substation": "b", "start": AT_TWO}),
        (None, {"granted": False, "substation": None, "start": None}),
    ],
)
async def test_refused_job_names_the_nearest_start_that_was_free(
    nearest: float | None, told: dict[str, Any]
) -> None:
    """Its reason says in words why it has expired; the answer to the request has both."""
    async with Bench(decision_wait=20).serve() as bench:
        asking = asyncio.create_task(bench.post({"reserve": True, "earliest_start": AT_ONE}))
        await bench.until(lambda: bench.projection.get("job1") is not None)
        for event in refused("job1", nearest):
            assert not asking.done()
            bench.hear(event)
            await asyncio.sleep(0.01)
        found = (await asyncio.wait_for(asking, 5)).body
        assert (found["status"], found["reservation"]) == ("expired", told)
        assert found["reason"] == "no start is free at 01:00"


async def test_job_whose_promise_is_withdrawn_waits_for_another_start() -> None:
    """It stays queued, with the reason; its wait counts from then, until there is another start."""
    why = "its start at a could not be kept: a was drained"
    async with Bench(charge_speed=1.0).serve() as bench:
        bench.hear(snapshot(row("a")))
        await bench.post(READY_AT_THREE)
        bench.hear(booked("job1", AT + HOUR))
        bench.at += 60
        bench.hear(withdrawn("job1", bench.at, why))
        found = (await bench.get("/charge/job1")).body
        assert (found["status"], found["reason"]) == ("queued", why)
        none = ("place", "expected_start", "expected_start_basis", "will_be_ready")
        assert [found[name] for name in none] == [None] * len(none)
        assert found["reservation"] == {"granted": False, "substation": None, "start": None}
        bench.at += 10
        bench.feed.end_second([], "")
        assert bench.feed.oldest_wait(bench.at) == 10
        bench.hear(booked("job1", AT + 2 * HOUR, bench.at, "b", why))
        found = (await bench.get("/charge/job1")).body
        assert found["reason"] == f"its start at b is promised for {AT_TWO} ({why})"
        bench.feed.end_second([], "")
        assert bench.feed.oldest_wait(bench.at) == 0
        bench.hear(withdrawn("job1", bench.at + 1, ""))
        assert (await bench.get("/charge/job1")).body["reason"] == "no start is promised to it"
        bench.now += DISPATCHER_TIMEOUT + 1
        assert "dispatcher" in (await bench.get("/charge/job1")).body["reason"]


@pytest.mark.parametrize(("late", "is_ready"), [(5, True), (HOUR + 5, False)])
async def test_job_that_is_late_is_not_promised_a_start_in_the_past(
    late: float, *, is_ready: bool
) -> None:
    """It is expected now, so its readiness follows from what is left."""
    async with Bench(charge_speed=1.0).serve() as bench:
        bench.hear(snapshot(row("a")))
        await bench.post(READY_AT_THREE)
        bench.hear(booked("job1", AT + HOUR))
        bench.at = AT + HOUR + late
        found = (await bench.get("/charge/job1")).body
        assert found["reason"] == f"its start at a was promised for {AT_ONE}, and is late"
        assert found["expected_start"] == shown(bench.at)
        assert found["expected_start_basis"] == "late"
        assert found["will_be_ready"] is is_ready
        bench.now += DISPATCHER_TIMEOUT + 1
        assert (await bench.get("/charge/job1")).body["expected_start"] is None


async def test_list_has_the_jobs_that_wait_for_promised_starts() -> None:
    """Not those that ask, have begun, or lost their promise; also where jobs are packed."""
    for max_jobs in (1_000, 2):
        async with Bench(max_jobs=max_jobs).serve() as bench:
            await bench.post([{"reserve": True}] * 4 + [{}], "/charges")
            bench.hear(*[booked(f"job{number}", AT + HOUR) for number in (1, 2, 3)])
            bench.hear(assigned("job2", "a"), withdrawn("job3", AT + 1, "a was drained"))
            for query, wanted in (
                ("promised=true", ["job1"]),
                ("promised=true&status=queued,assigned", ["job1"]),
                ("promised=true&status=assigned", []),
                ("promised=true&substation=a", []),
                ("promised=false", ["job2", "job3", "job4", "job5"]),
                ("promised=false&status=queued", ["job3", "job4", "job5"]),
            ):
                found = (await bench.get(f"/charges?{query}")).body["charges"]
                assert [each["id"] for each in found] == wanted, query
            lines = (await bench.get("/charges.csv?promised=true")).body.splitlines()
            assert [line.split(",")[0] for line in lines] == ["id", "job1"]


@pytest.mark.parametrize(("days", "status"), [(365.9, 202), (366, 202), (366.1, 422), (3_000, 422)])
async def test_earliest_start_is_at_most_a_year_ahead(days: float, status: int) -> None:
    """A later one is a mistake, and its job would be kept for as long."""
    async with Bench().serve() as bench:
        text = shown(AT + 24 * HOUR * days).replace("Z", "+00:00")
        answer = await bench.post({"earliest_start": text})
        assert answer.status == status
        if status == 422:
            [error] = problem(answer, 422)["errors"]
            assert error["field"] == "earliest_start"
            assert error["problem"] == f"must be at most 366 days ahead, got {text}"


async def test_answer_waits_for_the_promised_start() -> None:
    """It is the decision that such a client waits for."""
    async with Bench(decision_wait=20).serve() as bench:
        asking = asyncio.create_task(bench.post({"reserve": True, "earliest_start": AT_ONE}))
        await bench.until(lambda: bool(bench.log._waiting))  # noqa: SLF001
        bench.hear(booked("job1", AT + HOUR))
        found = (await asyncio.wait_for(asking, 5)).body
        assert (found["status"], found["reservation"]["start"]) == ("queued", AT_ONE)
        assert not bench.log._waiting  # noqa: SLF001


async def test_answer_does_not_wait_for_a_job_that_begins_later() -> None:
    """No decision is made on it before."""
    async with Bench(decision_wait=20).serve() as bench:
        answer = await asyncio.wait_for(bench.post({"earliest_start": AT_ONE}), 5)
        assert (answer.status, answer.body["status"]) == (202, "queued")
        soon = asyncio.create_task(bench.post({"earliest_start": "2026-01-01T00:00:10Z"}))
        await bench.until(lambda: bool(bench.log._waiting))  # noqa: SLF001
        bench.hear(assigned("job2"))
        assert (await asyncio.wait_for(soon, 5)).body["status"] == "assigned"


async def test_events_tell_of_a_promised_start() -> None:
    """As a change of the job, whose state stays; the alert for long waits does not fire."""
    async with Bench().serve() as bench:
        async with following(bench) as stream:
            await stream.next()
            hear(
                bench, kinds.queued(request("j1")), booked("j1", AT + HOUR, reason="b was drained")
            )
            name, data, _ = await stream.next()
            assert name == "jobs"
            assert [each["event"] for each in data] == ["queued", "booked"]
            change = data[1]
            assert (change["status"], change["substation"]) == ("queued", None)
            assert change["reason"] == "b was drained"
            told = {"granted": True, "substation": "a", "start": AT_ONE}
            assert (data[0]["reservation"], change["reservation"]) == (None, told)
            assert change["earliest_start"] is None
            later = ChargeRequest("j2", AT, earliest_start=AT + HOUR)
            hear(bench, booked("j1", AT + 2 * HOUR, AT + 1, "b"), kinds.queued(later))
            _, (moved, other), _ = await stream.next()
            told = {"granted": True, "substation": "b", "start": AT_TWO}
            assert (moved["event"], moved["reservation"]) == ("booked", told)
            assert (other["reservation"], other["earliest_start"]) == (None, AT_ONE)
            hear(bench, withdrawn("j1", AT + 2, "b was drained"))
            _, (change,), _ = await stream.next()
            none = {"granted": False, "substation": None, "start": None}
            assert (change["reservation"], change["reason"]) == (none, "b was drained")
            hear(bench, booked("j1", AT + HOUR, AT + 3))
            await stream.next()
        bench.at = AT + HOUR / 2
        bench.feed.end_second([], "")
        assert bench.feed.oldest_wait(bench.at) == 0
        bench.at = AT + HOUR + 90
        bench.feed.end_second([], "")
        assert bench.feed.oldest_wait(bench.at) == 90


async def test_csv_has_the_fields_of_a_reservation() -> None:
    async with Bench().serve() as bench:
        bodies = [{"reserve": True, "earliest_start": AT_ONE}, {}, {"reserve": True}]
        await bench.post(bodies, "/charges")
        bench.hear(booked("job1", AT + 2 * HOUR), *refused("job3", AT + HOUR))
        rows = [line.split(",") for line in (await bench.get("/charges.csv")).body.splitlines()]
        names = ("earliest_start", "reserve", "promised_start", "promised_substation")
        columns = [rows[0].index(name) for name in names]
        found = [[row[column] for column in columns] for row in rows[1:]]
        assert found == [
            [AT_ONE, "true", AT_TWO, "a"],
            ["", "", "", ""],
            ["", "true", "", ""],
        ]
