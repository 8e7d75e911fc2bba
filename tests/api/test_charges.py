"""Reading jobs, one or page by page, and the substations."""

from __future__ import annotations

import asyncio

import pytest

from grid.events import SUBSTATIONS, Counts, Event, State
from tests.api.harness import AT, Bench, assigned, problem


async def test_get_job_shows_states_times_and_decision() -> None:
    """State, times, substation, attempt and the decision, as the event log has them."""
    async with Bench().serve() as bench:
        await bench.post()
        counts = Counts(1, 1, 0, 0, AT)
        bench.hear(
            assigned("job1", "s1", s1=0),
            Event(State.CHARGING, AT + 2, "job1", "s1", 1, counts=counts),
            Event(State.COMPLETED, AT + 5.5, "job1", "s1", 1, counts=counts, energy_kwh=7.5),
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
            "reservation": None,
            "reason": None,
            "power_kw": 7.4,
            "energy_kwh": 7.5,
            "place": None,
            "expected_start": None,
            "expected_start_basis": None,
            "will_be_ready": None,
            "expected_energy_kwh": None,
            "details": {"routed_to": "s1", "loads": {"s1": 0}, "reason": "lightest"},
        }
        assert bench.count("duplicate_completions_total") == 1
        assert bench.count("request_to_charging_seconds_sum") == 2
        assert bench.count("jobs", status="completed") == 1


async def test_job_has_the_power_of_its_session_once_it_begins() -> None:
    """That of the request, else the default; in the job, the list and as CSV, also after its end.

    None without a session, or if the request is not known.
    """
    async with Bench().serve() as bench:
        await bench.post([{"requested_power_kw": 22}, {}, {"requested_power_kw": 50}], "/charges")
        bench.hear(*(assigned(job) for job in ("job1", "job2", "job3")))
        bench.hear(*(Event(State.CHARGING, AT + 2, job, "s1", 1) for job in ("job1", "job2")))
        bench.hear(Event(State.COMPLETED, AT + 5, "job2", "s1", 1, energy_kwh=3.0))
        bench.hear(Event(State.COMPLETED, AT + 5, "unknown", "s1", 1))
        powers = [22, 7.4, None, None]
        jobs = ("job1", "job2", "job3", "unknown")
        shown = [(await bench.get(f"/charge/{job}")).body["power_kw"] for job in jobs]
        listed = (await bench.get("/charges")).body["charges"]
        rows = (await bench.get("/charges.csv")).body.splitlines()
        assert shown == powers
        assert [each["power_kw"] for each in listed] == powers
        column = rows[0].split(",").index("power_kw")
        assert [each.split(",")[column] for each in rows[1:]] == ["22.0", "7.4", "", ""]


async def test_parked_job_has_the_reason() -> None:
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
async def test_job_filter_selects_the_listed_jobs(query: str, expected: list[int]) -> None:
    """Oldest first, by state, by substation, after a job; without the decisions."""
    async with Bench().serve() as bench:
        await fill(bench, 7)
        answer = await bench.get(f"/charges{query}")
        assert answer.status == 200
        assert [each["id"] for each in answer.body["charges"]] == [f"job{n}" for n in expected]
        assert answer.body["next"] is None
        assert all("decision" not in each for each in answer.body["charges"])


@pytest.mark.parametrize(("size", "pages"), [(1, 7), (2, 4), (3, 3), (7, 1), (1_000, 1)])
async def test_following_next_lists_every_job_once(size: int, pages: int) -> None:
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
        ("promised=1", "promised"),
        ("promised=yes", "promised"),
        ("status=done", "status"),
        ("substation=a.b", "substation"),
        ("after=%20", "after"),
        ("state=completed", "state"),
    ],
)
async def test_job_filter_names_the_parameter_that_is_invalid(query: str, field: str) -> None:
    """422 with the parameter, also a misspelt one: ignored, it would leave too many jobs."""
    async with Bench().serve() as bench:
        found = problem(await bench.get(f"/charges?{query}"), 422)
        assert [each["field"] for each in found["errors"]] == [field]


async def test_list_after_an_unknown_job_is_404() -> None:
    """404 that names it: it may have been there, and be forgotten by now."""
    async with Bench().serve() as bench:
        found = problem(await bench.get("/charges?after=nobody"), 404)
        assert "after: there is no such job, got 'nobody'" in found["detail"]


async def test_substations_are_shown_as_the_dispatcher_last_saw_them() -> None:
    """Before its first snapshot there are none, and no time."""
    async with Bench().serve() as bench:
        assert (await bench.get("/substations")).body == {
            "as_of": None,
            "age_seconds": None,
            "problem": "no dispatcher has been heard yet",
            "substations": [],
        }
        one = {
            "id": "s1",
            "status": "available",
            "load": 2.0,
            "connectors": 50.0,
            "utilisation": 0.04,
            "gauge": 1.0,
            "gauge_age_seconds": 0.2,
            "outstanding": 1.0,
            "power_kw": 14.8,
            "rated_power_kw": 400.0,
            "background_power_kw": 12.5,
            "eligible": True,
            "reason": None,
            "state": "available",
            "limit": 7,
            "power_limit_kw": 20.0,
            "power_limit_until": "2026-01-01T00:01:00Z",
            "power_limit_source": "dso",
            "power_limit": "limited to 20 kW until 00:01 UTC by dso",
            "next_power_limit_kw": 10.0,
            "next_power_limit_from": "2026-01-01T00:02:00Z",
            "next_power_limit": "limited to 10 kW from 00:02 UTC by dso",
            "promised": 3,
            "next_promised_start": "2026-01-01T00:03:00Z",
        }
        never = one | {"id": "s2", "gauge_age_seconds": None, "eligible": False, "reason": "why"}
        never["status"] = "ineligible"
        told = [each | {"substation": each["id"]} for each in (one, never)]
        limited = [name for name in one if "power_limit" in name]
        told[0]["power_limit_until"] = AT + 60
        told[0]["next_power_limit_from"] = AT + 120
        told[0]["next_promised_start"] = AT + 180
        for newer in (
            "state",
            "limit",
            "power_kw",
            "background_power_kw",
            "rated_power_kw",
            "promised",
            "next_promised_start",
            *limited,
        ):
            del told[1][newer]  # by a dispatcher of an older version
        bench.hear(Event(SUBSTATIONS, AT, detail={"substations": [told[0] | {"new": 1}, told[1]]}))
        answer = await bench.get("/substations")
        assert answer.status == 200
        never |= {"state": "available", "limit": None, "power_kw": None, "rated_power_kw": None}
        never |= dict.fromkeys(["background_power_kw", *limited])
        never |= {"promised": 0, "next_promised_start": None}
        assert answer.body == {
            "as_of": "2026-01-01T00:00:00Z",
            "age_seconds": 0.0,
            "problem": None,
            "substations": [one, never],
        }


@pytest.mark.parametrize("path", ["/charge/nobody", "/charges", "/substations"])
async def test_unknown_job_is_503_while_the_event_log_is_read(path: str) -> None:
    """503 and not 404 or an empty list: the job may be in the part that was not read yet."""
    async with Bench().serve() as bench:
        bench.log.caught_up.clear()
        answer = await bench.get(path)
        assert "still being read" in problem(answer, 503)["detail"]
        assert answer.headers["Retry-After"]


async def test_known_job_is_shown_while_the_event_log_is_read() -> None:
    """A job that was read already is shown at once."""
    async with Bench().serve() as bench:
        bench.log.caught_up.clear()
        bench.hear(assigned("early"))
        assert (await bench.get("/charge/early")).status == 200


async def test_api_shows_every_waiting_job_beyond_max_jobs() -> None:
    """The oldest is there, in the list and in the counts; of what is sent, the decision may go."""
    async with Bench(max_jobs=3).serve() as bench:
        for _ in range(10):
            await bench.post({"vehicle_id": "v"})
        assert bench.projection.in_full == 3
        first = await bench.get("/charge/job1")
        assert (first.status, first.body["status"]) == (200, "queued")
        assert first.body["request"] == {"vehicle_id": "v", "priority": 0}
        listed = (await bench.get("/charges?status=queued&limit=4&after=job3")).body
        assert [each["id"] for each in listed["charges"]] == ["job4", "job5", "job6", "job7"]
        assert listed["next"] == "job7"
        assert bench.count("jobs", status="queued") == 10
        bench.hear(assigned("job1", "s1", s1=0))
        assert (await bench.get("/charge/job1")).body["decision"] is not None
        bench.hear(*(assigned(f"job{number}", "s1", s1=0) for number in range(2, 5)))
        sent = (await bench.get("/charge/job1")).body
        assert (sent["status"], sent["substation"], sent["decision"]) == ("assigned", "s1", None)


async def test_answer_has_the_decision_of_a_job_that_was_packed_meanwhile() -> None:
    """A client that waits for the decision gets it, whatever other jobs came since."""
    async with Bench(max_jobs=1, decision_wait=20).serve() as bench:
        asking = asyncio.create_task(bench.post())
        await bench.until(lambda: bench.projection.get("job1") is not None)
        bench.hear(Event(State.QUEUED, AT, "another", detail={"id": "another"}))
        bench.hear(assigned("job1", "s1", s1=0))
        answer = await asking
        assert (answer.body["status"], answer.body["details"]["routed_to"]) == ("assigned", "s1")
