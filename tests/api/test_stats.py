"""Statistics: counts, rates and waits, by hour and by substation."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from api.jobs.projection import Projection
from api.jobs.stats import Cell
from api.routes.stats import answer
from api.schemas import StatsFilter
from grid.events import Event, State
from grid.kinds import Booking, booked, queued
from grid.messages import ChargeRequest
from tests.api.harness import AT, Bench, assigned, problem
from tests.examples import examples

HOUR = 3600.0


def session(job: str, at: float, substation: str = "s1") -> Event:
    """Return the event of a session that starts."""
    return Event(State.CHARGING, at, job, substation, 1)


async def test_stats_count_requests_sessions_and_ends_by_hour_and_substation() -> None:
    """In all, in each hour, and at each substation; jobs by the state they have now."""
    async with Bench().serve() as bench:
        for number in range(3):
            bench.at = AT + number
            await bench.post()
        bench.hear(
            session("job1", AT + 4),
            Event(State.COMPLETED, AT + 8, "job1", "s1", energy_kwh=7.5),
            session("job2", AT + HOUR + 5, "s2"),
            Event(State.PARKED, AT + 9, "job3"),
        )
        bench.at = AT + HOUR + 10
        bench.hear(session("job2", AT + HOUR + 5, "s2"))
        found = (await bench.get("/stats")).body
        assert found["as_of"] == "2026-01-01T01:00:10Z"
        assert found["jobs"] == {
            **{str(state): 0 for state in State},
            "completed": 1,
            "charging": 1,
            "parked": 1,
        }
        total = found["total"]
        assert (total["requests"], total["sessions"], total["completed"]) == (3, 2, 1)
        assert (total["parked"], total["expired"], total["cancelled"]) == (1, 0, 0)
        hours = [(each["hour"], each["requests"], each["sessions"]) for each in found["hours"]]
        assert hours == [("2026-01-01T00:00:00Z", 3, 1), ("2026-01-01T01:00:00Z", 0, 1)]
        rows = {each["substation"]: each for each in found["substations"]}
        assert rows.keys() == {"s1", "s2"}
        assert (rows["s1"]["sessions"], rows["s1"]["completed"]) == (1, 1)
        assert rows["s1"]["waits"]["mean"] == 4
        assert (rows["s1"]["energy_kwh"], rows["s2"]["energy_kwh"]) == (7.5, 0)
        assert total["energy_kwh"] == 7.5
        assert 3.8 < rows["s1"]["waits"]["p50"] < 4.2
        assert rows["s2"]["waits"]["mean"] == HOUR + 4


async def test_stats_are_of_the_hours_and_the_substation_that_are_asked_for() -> None:
    """Hours that overlap the time; sessions and ends at that substation."""
    async with Bench().serve() as bench:
        await bench.post()
        await bench.post()
        bench.at = AT + 3 * HOUR
        bench.hear(session("job1", AT + 1), session("job2", AT + 2 * HOUR, "s2"))
        late = (await bench.get("/stats?since=2026-01-01T01:00:00Z")).body
        assert [each["hour"] for each in late["hours"]] == ["2026-01-01T02:00:00Z"]
        early = (await bench.get("/stats?until=2026-01-01T01:00:00Z")).body
        assert [each["hour"] for each in early["hours"]] == ["2026-01-01T00:00:00Z"]
        one = (await bench.get("/stats?substation=s2")).body
        assert [each["substation"] for each in one["substations"]] == ["s2"]
        assert (one["total"]["requests"], one["total"]["sessions"]) == (2, 1)


async def test_stats_count_by_substation_and_hour_together_if_asked() -> None:
    """In the hours and at the substation that are asked for; the rows add up to the totals."""
    async with Bench().serve() as bench:
        await bench.post([{}] * 4, "/charges")
        bench.at = AT + 3 * HOUR
        bench.hear(
            session("job1", AT + 1),
            Event(State.COMPLETED, AT + HOUR + 1, "job1", "s1", energy_kwh=7.5),
            session("job2", AT + 2 * HOUR, "s2"),
            session("job3", AT + 2 * HOUR + 5, "s2"),
            Event(State.PARKED, AT + 2, "job4"),
        )
        assert "substation_hours" not in (await bench.get("/stats")).body
        found = (await bench.get("/stats?by=substation,hour")).body
        rows = [
            (each["hour"][11:13], each["substation"], each["sessions"], each["energy_kwh"])
            for each in found["substation_hours"]
        ]
        assert rows == [("00", "s1", 1, 0), ("01", "s1", 0, 7.5), ("02", "s2", 2, 0)]
        assert found["substation_hours"][0]["waits"]["mean"] == 1
        assert found["total"]["sessions"] == sum(each[2] for each in rows)
        some = (
            await bench.get("/stats?by=hour,substation&substation=s1&since=2026-01-01T01:00:00Z")
        ).body
        assert [each["completed"] for each in some["substation_hours"]] == [1]
        wrong = problem(await bench.get("/stats?by=day"), 422)
        assert wrong["errors"][0]["field"] == "by"


async def test_stats_of_a_substation_leave_out_what_ended_at_none() -> None:
    """What expired while it waited is an end of no substation; all requests are shown."""
    async with Bench().serve() as bench:
        await bench.post([{}] * 3, "/charges")
        bench.hear(
            Event(State.EXPIRED, AT + 1, "job1"),
            Event(State.PARKED, AT + 1, "job2"),
            Event(State.EXPIRED, AT + 2, "job3", "s1"),
        )
        found = (await bench.get("/stats?substation=s1")).body
        for each in (found["total"], *found["hours"], *found["substations"]):
            assert (each["expired"], each["parked"]) == (1, 0)
        assert found["total"]["requests"] == 3
        assert (await bench.get("/stats")).body["total"]["expired"] == 2


async def test_stats_add_up_though_others_are_answered_meanwhile() -> None:
    """All parts of an answer are of the same moment."""
    projection, wanted = Projection(1_000), StatsFilter(by="substation,hour")
    for number in range(350):
        projection.apply(session(f"j{number}", AT, f"s{number}"), AT)
    asking = asyncio.create_task(answer(projection.stats, wanted, AT))
    turns = 0
    while not asking.done():
        await asyncio.sleep(0)
        turns += 1
        for number in (0, 349):
            projection.apply(session(f"later{turns}-{number}", AT, f"s{number}"), AT)
    found = await asking
    assert turns > 3
    for rows in (found["substation_hours"], found["substations"], found["hours"]):
        assert sum(each["sessions"] for each in rows) == found["total"]["sessions"] == 350


async def test_stats_rates_are_of_the_last_full_minute() -> None:
    """120 requests in a minute are 2 a second, in the minute that follows."""
    async with Bench().serve() as bench:
        await bench.post([{}] * 120, "/charges")
        bench.hear(session("job1", AT + 30), Event(State.COMPLETED, AT + 40, "job1", "s1"))
        bench.at = AT + 60
        rates = (await bench.get("/stats")).body["rates"]
        assert rates == {"requests": 2.0, "sessions": 1 / 60, "completed": 1 / 60}
        bench.at = AT + 120
        rates = (await bench.get("/stats")).body["rates"]
        assert rates == {"requests": 0.0, "sessions": 0.0, "completed": 0.0}


EVENTS = st.lists(
    st.sampled_from(
        [
            queued(ChargeRequest("j", AT)),
            queued(ChargeRequest("j", AT + 1)),
            queued(ChargeRequest("k", AT + HOUR)),
            assigned("j"),
            session("j", AT + 2),
            session("j", AT + HOUR, "s2"),
            session("k", AT + HOUR + 2),
            Event(State.PARKED, AT + 5, "j", reason="x"),
            Event(State.QUEUED, AT + 6, "j", detail={"replays": 1}),
            Event(State.COMPLETED, AT + 7, "j", "s1", energy_kwh=2.0),
            Event(State.COMPLETED, AT + 8, "j", "s2"),
            Event(State.EXPIRED, AT + 9, "k"),
            Event(State.CANCELLED, AT + 9, "k", "s1", energy_kwh=1.0),
        ]
    ),
    max_size=12,
)


@examples()
@given(EVENTS, st.randoms(use_true_random=False))
def test_stats_are_independent_of_event_order_and_repetition(
    events: list[Event], random: st.DataObject
) -> None:
    """What a job counted before is taken back first."""
    others = [*events, *events[:4]]
    random.shuffle(others)  # type: ignore[attr-defined]  # a Random
    found = []
    for each in (events, others):
        projection = Projection(10)
        for event in each:
            projection.apply(event, AT + 2 * HOUR)
        found.append(_rounded(projection))
    assert found[0] == found[1]


def _rounded(projection: Projection) -> object:
    shown = asyncio.run(answer(projection.stats, StatsFilter(), AT + 2 * HOUR))
    shown["hours"] = [each for each in shown["hours"] if any(_numbers(each))]
    shown["substations"] = [each for each in shown["substations"] if any(_numbers(each))]
    return shown


def _numbers(row: object) -> list[int]:
    assert isinstance(row, dict)
    return [value for value in row.values() if isinstance(value, int)]


def test_stats_keep_two_days_and_ignore_times_of_wrong_clocks() -> None:
    """The memory is bounded, whatever times a substation writes."""
    projection = Projection(10_000)
    now = AT + 100 * HOUR
    for number in range(101):
        at = AT + number * HOUR
        projection.apply(Event(State.CHARGING, at, f"j{number}", "s1", 1), at)
    for at in (0.0, now + 25 * HOUR, 2e11):
        projection.apply(Event(State.CHARGING, at, f"x{at}", "s1", 1), now)
    hours = asyncio.run(answer(projection.stats, StatsFilter(), now))["hours"]
    assert 48 <= len(hours) <= 50
    assert sum(each["sessions"] for each in hours) == len(hours)


def test_quantiles_of_waits_are_exact_to_five_percent() -> None:
    """They are kept in steps."""
    cell = Cell()
    for wait in range(1, 1_001):
        cell.add_wait(wait / 10, 1)
    for share, expected in ((0.5, 50.0), (0.95, 95.0), (0.99, 99.0)):
        found = cell.wait(share)
        assert found is not None
        assert abs(found - expected) <= 0.05 * expected
    assert (Cell().wait(0.5), Cell().mean_wait) == (None, None)


@examples()
@given(st.permutations(["request", "told", "told again", "session", "session"]))
def test_stats_count_the_wait_from_when_a_job_may_begin(order: list[str]) -> None:
    """In any order of the events: what it was promised last holds."""
    request = ChargeRequest("j1", AT, earliest_start=AT + 100, reserve=True)
    known = {
        "request": queued(request),
        "told": booked(Booking(request, "s2", AT + 200, AT + 300), AT + 1),
        "told again": booked(Booking(request, "s1", AT + 400, AT + 500), AT + 2),
        "session": session("j1", AT + 410),
    }
    projection = Projection(10)
    for name in order:
        projection.apply(known[name], AT + 1_000)
    ((_, _, requests), (_, _, sessions)) = projection.stats.cells(AT, AT + HOUR)
    assert (requests.counts["requests"], sessions.counts["sessions"]) == (1, 1)
    assert sessions.mean_wait == 10
    early = Projection(10)
    for event in (queued(ChargeRequest("j1", AT, earliest_start=AT + 100)), session("j1", AT + 99)):
        early.apply(event, AT + 1_000)
    *_, (_, _, cell) = early.stats.cells(AT, AT + HOUR)
    assert cell.mean_wait == 0
