"""Waiting for a job: why it waits, its place, and an answer that comes when something happens."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from math import inf
from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from api.jobs.projection import Projection
from api.jobs.waiting import WaitingOrder, rank_of
from api.last_heard import DISPATCHER_TIMEOUT, SNAPSHOT_TIMEOUT, LastHeard
from api.substations import Condition, Substations
from grid import kinds
from grid.controls import Availability
from grid.errors import STILL_READING
from grid.events import MARKER, SUBSTATIONS, Event, State
from grid.kinds import queued
from grid.messages import ChargeRequest
from scheduling import reasons
from scheduling.load_tracker import DRAINED, NO_CONSUMER
from scheduling.order import DeadlineOrder, requirements
from tests.api.harness import AT, Answer, Bench, assigned, problem
from tests.examples import examples


def row(name: str, reason: str | None = None, **more: object) -> dict[str, Any]:
    """Return a row of a snapshot, as the dispatcher writes it."""
    return {
        "substation": name,
        "load": 1.0,
        "connectors": 4.0,
        "utilisation": 0.25,
        "gauge": 1.0,
        "gauge_age_seconds": 0.1,
        "outstanding": 0.0,
        "power_kw": 10.0,
        "rated_power_kw": 100.0,
        "eligible": reason is None,
        "reason": reason,
        "state": Availability.DRAINING if reason == DRAINED else Availability.AVAILABLE,
        "limit": None,
    } | more


def snapshot(*rows: Mapping[str, Any], at: float = AT) -> Event:
    """Return the event of a snapshot."""
    return Event(SUBSTATIONS, at, detail={"dispatcher": "d", "substations": list(rows)})


MARK = Event(MARKER, AT, job="dispatcher")  # which a dispatcher writes if there is nothing else
LIMITED = "limited to 20 kW until 18:00 UTC by dso"
LIMITED_NOW: dict[str, object] = {
    "power_limit_kw": 20.0,
    "power_limit_until": AT + 60,
    "power_limit_source": "dso",
    "power_limit": LIMITED,
}
SOON = "limited to 30 kW from 19:00 UTC by dso"
LIMITED_SOON: dict[str, object] = {
    "next_power_limit_kw": 30.0,
    "next_power_limit_from": AT + 120,
    "next_power_limit": SOON,
}
FULL, SHORT, HELD = reasons.NO_CONNECTOR, reasons.NO_POWER, reasons.RESERVED


@pytest.mark.parametrize(
    ("rows", "request_", "reason"),
    [
        ([row("a", FULL), row("b", FULL), row("c", FULL)], {}, "all 3 substations are full"),
        (
            [row("a", FULL), row("b", FULL), row("c")],
            {"eligible_substations": ["a", "b"]},
            "all 2 allowed substations are full",
        ),
        ([row("a"), row("b", DRAINED)], {"eligible_substations": ["b"]}, "b is drained"),
        ([row("a", FULL)], {}, "a is full"),
        (
            [row("a", FULL), row("b", DRAINED), row("c", NO_CONSUMER)],
            {},
            "of 3 substations, 1 is full, 1 is drained, 1 is not eligible",
        ),
        ([row("a", NO_CONSUMER)], {}, f"a is not eligible: {NO_CONSUMER}"),
        ([row("a", HELD)], {}, "a is reserved for another job"),
        ([row("a", LIMITED) | LIMITED_NOW], {}, f"a is {LIMITED}"),
        (
            [row("a") | LIMITED_NOW, row("b", FULL)],
            {"requested_power_kw": 11},
            f"of 2 substations, 1 is {LIMITED}, 1 is full",
        ),
        ([row("a") | LIMITED_NOW], {"requested_power_kw": 10}, "a has capacity"),
        ([row("a") | LIMITED_SOON], {"requested_power_kw": 21}, f"a is {SOON}"),
        ([row("a") | LIMITED_SOON], {"requested_power_kw": 20}, "a has capacity"),
        (
            [row("a") | LIMITED_NOW | {"power_limit_kw": 200.0}],
            {"requested_power_kw": 95},
            "a is short of power for 95 kW",
        ),
        (
            [row("a"), row("b", SHORT)],
            {"requested_power_kw": 95},
            "all 2 substations are short of power for 95 kW",
        ),
        ([row("a", rated_power_kw=None)], {"requested_power_kw": 950}, "a has capacity"),
        ([row("a"), row("b", FULL)], {}, "a has capacity: it waits for its turn"),
        ([row("a"), row("b")], {}, "a, b have capacity: it waits for its turn"),
        ([row(each) for each in "abcde"], {}, "a, b, c and 2 more have capacity"),
        ([row("a")], {"eligible_substations": ["z"]}, "no such substation: z"),
        ([], {}, "there is no substation"),
        ([row("a", FULL)], {"eligible_substations": 7, "requested_power_kw": "x"}, "a is full"),
    ],
)
def test_reason_to_wait_is_read_from_the_snapshot(
    rows: list[dict[str, Any]], request_: dict[str, Any], reason: str
) -> None:
    """In words that say what would have to change."""
    found = Substations(snapshot(*rows), AT).reason_to_wait(request_, LastHeard(1))
    assert found.startswith(reason)


@pytest.mark.parametrize(
    ("rows", "request_", "reason"),
    [
        ([row("a")], {}, "the connectors that are free are kept for priority 7 and above"),
        ([row("a")], {"priority": 6}, "the connectors that are free are kept for priority 7"),
        ([row("a")], {"priority": 7}, "a has capacity"),
        ([row("a", FULL)], {}, "a is full"),
        ([row("a"), row("b", FULL)], {"eligible_substations": ["b"]}, "b is full"),
    ],
)
def test_reason_to_wait_is_what_is_kept_for_high_priorities(
    rows: list[dict[str, Any]], request_: dict[str, Any], reason: str
) -> None:
    """Where a connector is free that only those may take."""
    event = kinds.snapshot(AT, "d", rows, (), 0, kept_for=7)
    found = Substations(event, AT).reason_to_wait(request_, LastHeard(1))
    assert found.startswith(reason)


PROMISED: dict[str, Any] = {"promised": 2, "next_promised_start": AT + 60}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row("a", **PROMISED), row("b", FULL)], "what is free at a is kept for starts that are"),
        ([row(each, **PROMISED) for each in "ab"], "what is free at a, b is kept for starts that"),
        ([row(each, **PROMISED) for each in "abcde"], "what is free at a, b, c and 2 more is kept"),
        ([row("a", **PROMISED), row("b")], "b has capacity: it waits for its turn"),
        ([row("a", FULL, **PROMISED)], "a is full"),
    ],
)
def test_reason_to_wait_is_what_is_kept_for_promised_starts(
    rows: list[dict[str, Any]], reason: str
) -> None:
    """Where no other substation has capacity."""
    found = Substations(snapshot(*rows), AT)
    for _ in range(2):  # the second time as it was kept
        assert found.reason_to_wait({}, LastHeard(1)).startswith(reason)
        assert found.kept_for_promises({}) is reason.startswith("what is free")


async def test_job_that_waits_for_promised_starts_is_not_expected_to_start_now() -> None:
    """Though a connector is free: nobody can say when one is that it may take."""
    async with Bench().serve() as bench:
        bench.hear(
            Event(State.CHARGING, AT - 30, "before", "a", 1),
            Event(State.COMPLETED, AT - 10, "before", "a", 1),
        )
        for more, start in (({}, "2026-01-01T00:00:00Z"), (PROMISED, None)):
            bench.hear(snapshot(row("a", **more)))
            found = (await bench.post()).body
            assert found["expected_start"] == start
            assert (found["expected_start_basis"] is None) is (start is None)
            assert ("kept for starts" in found["reason"]) is (start is None)


def test_reason_to_wait_is_the_silent_dispatcher_first() -> None:
    """What the substations could do is not known then."""
    found = Substations(snapshot(row("a", FULL)), AT)
    assert found.reason_to_wait({}, LastHeard(DISPATCHER_TIMEOUT)) == "a is full"
    assert found.reason_to_wait({}, LastHeard(75)) == "dispatcher not heard for 75 s"
    assert Substations().reason_to_wait({}, LastHeard()) == "no dispatcher has been heard yet"


@pytest.mark.parametrize(
    ("reason", "status", "eligible"),
    [
        (None, Condition.AVAILABLE, True),
        (FULL, Condition.FULL, True),
        (SHORT, Condition.FULL, True),
        (HELD, Condition.RESERVED, True),
        (DRAINED, Condition.DRAINING, False),
        (NO_CONSUMER, Condition.INELIGIBLE, False),
    ],
)
async def test_substation_that_is_full_is_eligible(
    reason: str | None,
    status: Condition,
    eligible: bool,  # noqa: FBT001
) -> None:
    """Eligible means that jobs are sent there, as in the dispatcher's metric; full is a status."""
    async with Bench().serve() as bench:
        bench.hear(snapshot(row("a", reason)))
        (found,) = (await bench.get("/substations")).body["substations"]
        assert (found["status"], found["eligible"], found["reason"]) == (status, eligible, reason)


async def test_one_substation_is_as_in_the_list() -> None:
    """404 for one that the dispatcher has not described."""
    async with Bench().serve() as bench:
        bench.hear(snapshot(row("a"), row("b", FULL)))
        listed = (await bench.get("/substations")).body["substations"]
        assert [(await bench.get(f"/substations/{name}")).body for name in ("a", "b")] == listed
        answer = await bench.get("/substations/c")
        assert (answer.status, answer.body["code"]) == (404, "unknown-substation")
        assert answer.body["detail"] == "the dispatcher has described no substation c"


async def test_eligible_means_the_same_in_a_decision() -> None:
    """A candidate that was full was eligible; one that the request does not allow was not."""
    candidates = [
        {"substation": name, "load": 1, "eligible": reason is None, "reason": reason}
        for name, reason in (("a", None), ("b", FULL), ("c", reasons.NOT_ALLOWED), ("d", DRAINED))
    ]
    async with Bench().serve() as bench:
        detail = {"requested_at": AT, "reason": "x", "candidates": candidates}
        bench.hear(Event(State.ASSIGNED, AT, "j", "a", 1, detail=detail))
        decision = (await bench.get("/charge/j")).body["decision"]
        assert [each["eligible"] for each in decision["candidates"]] == [True, True, False, False]


async def test_substations_are_unknown_when_the_dispatcher_is_silent() -> None:
    """With the age and the reason; none is eligible, and /readyz says what follows."""
    async with Bench().serve() as bench:
        bench.hear(snapshot(row("a"), row("b", FULL)))
        bench.at = AT + 8
        bench.hear(MARK)
        bench.now += DISPATCHER_TIMEOUT
        fresh = (await bench.get("/substations")).body
        assert (fresh["age_seconds"], fresh["problem"]) == (8, None)
        assert [each["status"] for each in fresh["substations"]] == ["available", "full"]
        assert (await bench.get("/readyz")).body["degraded"] == []
        bench.now += 40 - DISPATCHER_TIMEOUT
        stale = (await bench.get("/substations")).body
        assert stale["problem"] == "dispatcher not heard for 40 s"
        for each in stale["substations"]:
            assert (each["status"], each["eligible"]) == ("unknown", False)
            assert each["reason"] == stale["problem"]
        ready = await bench.get("/readyz")
        assert (ready.status, ready.body["status"], ready.body["problems"]) == (200, "ready", [])
        (said,) = ready.body["degraded"]
        assert said == "dispatcher not heard for 40 s: requests are accepted and wait"


@pytest.mark.parametrize(("written_at", "is_silent"), [(AT - 600, True), (AT - 1, False)])
async def test_dispatcher_is_silent_that_wrote_nothing_lately_before_the_start(
    written_at: float,
    is_silent: bool,  # noqa: FBT001
) -> None:
    """What is read of the past counts by its own time, also while the wall clock is set later."""
    async with Bench().serve() as bench:
        bench.log.caught_up.clear()
        bench.hear(snapshot(row("a"), at=written_at - 1))
        bench.hear(replace(MARK, at=written_at))
        marking = asyncio.create_task(bench.log.mark())
        bench.log.caught_up.set()
        await marking
        bench.at += 3_600
        (found,) = (await bench.get("/substations")).body["substations"]
        assert (found["status"] == "unknown") is is_silent
        bench.hear(MARK)  # which says nothing of the substations
        (found,) = (await bench.get("/substations")).body["substations"]
        assert (found["status"] == "unknown") is is_silent
        bench.hear(snapshot(row("a"), at=bench.at))
        (found,) = (await bench.get("/substations")).body["substations"]
        assert found["status"] == "available"


@pytest.mark.parametrize("has_left", [True, False])
async def test_substations_stay_unknown_until_the_next_dispatcher_describes_them(
    *, has_left: bool
) -> None:
    """It writes marks as it starts, and one that fails again and again writes nothing else."""
    async with Bench().serve() as bench:
        rows, large = [row("a", rated_power_kw=10.0)], {"requested_power_kw": 20}
        detail = {"dispatcher": "d", "substations": rows, "leaves": has_left}
        bench.hear(Event(SUBSTATIONS, AT, detail=detail))
        bench.now += 3_600
        bench.hear(MARK)
        found = (await bench.get("/substations")).body
        (shown,) = found["substations"]
        assert (shown["status"], shown["eligible"]) == ("unknown", False)
        problem_ = "stopped 3600 s" if has_left else "has not described the substations for 3600 s"
        assert problem_ in found["problem"] == shown["reason"]
        status = (await bench.first_event("/events"))["status"]
        assert [each["name"] for each in status["alerts"]] == ["DispatcherSilent"]
        assert status["dispatcher"]["is_silent"]
        assert (await bench.post(large)).status == 202  # ratings may have changed
        bench.hear(snapshot(*rows, at=AT + 3_600))
        found = (await bench.get("/substations")).body
        assert (found["problem"], found["substations"][0]["status"]) == (None, "available")
        problem(await bench.post(large), 422)


async def test_substations_are_known_for_as_long_as_a_snapshot_may_last() -> None:
    """While nothing changes, the dispatcher writes one every ten seconds, and marks in between."""
    async with Bench().serve() as bench:
        bench.hear(snapshot(row("a")))
        for seconds, status in ((SNAPSHOT_TIMEOUT, "available"), (0.1, "unknown")):
            bench.now += seconds
            bench.hear(MARK)
            (found,) = (await bench.get("/substations")).body["substations"]
            assert found["status"] == status


async def test_snapshot_that_comes_too_late_does_not_say_that_the_dispatcher_has_left() -> None:
    """The last one of the former dispatcher, once the next one has described the substations."""
    async with Bench().serve() as bench:
        bench.at += 1
        bench.hear(snapshot(row("a"), at=AT + 1))
        leaving = {"dispatcher": "d", "substations": [row("a")], "leaves": True}
        bench.hear(Event(SUBSTATIONS, AT, detail=leaving))
        assert (await bench.get("/substations")).body["problem"] is None


async def test_substations_stay_unknown_when_a_link_is_up_again() -> None:
    """Nothing was heard by that: a full substation is not free, and ratings may have changed."""
    async with Bench().serve() as bench:
        bench.hear(snapshot(row("a", rated_power_kw=10.0)))
        await bench.post()
        bench.feed.on_link(is_up=False)
        bench.now += 60
        bench.feed.on_link(is_up=True)
        (found,) = (await bench.get("/substations")).body["substations"]
        assert found["status"] == "unknown"
        assert "not heard for 60 s" in (await bench.get("/charge/job1")).body["reason"]
        assert (await bench.post({"requested_power_kw": 20})).status == 202
        assert (await bench.first_event("/events"))["status"]["alerts"] == []


async def test_silent_means_the_same_in_every_answer() -> None:
    """The stream, the substations, /readyz and the reason of a job that waits."""
    async with Bench().serve() as bench:
        bench.hear(snapshot(row("a", FULL)))
        await bench.post()
        for seconds, is_silent in ((DISPATCHER_TIMEOUT, False), (DISPATCHER_TIMEOUT + 0.1, True)):
            bench.now = seconds
            bench.at = AT - 3_600 * seconds  # a wall clock that is set has no part in it
            status = (await bench.first_event("/events"))["status"]
            found = {
                "events": status["dispatcher"]["is_silent"],
                "alerts": any(each["name"] == "DispatcherSilent" for each in status["alerts"]),
                "substations": (await bench.get("/substations")).body["problem"] is not None,
                "readyz": bool((await bench.get("/readyz")).body["degraded"]),
                "reason": "not heard" in (await bench.get("/charge/job1")).body["reason"],
            }
            assert set(found.values()) == {is_silent}, found


async def test_substations_are_unknown_once_the_dispatcher_has_stopped() -> None:
    """At once: its last snapshot says so. Those of the next one count again."""
    async with Bench().serve() as bench:
        rows = [row("a")]
        leaving = {"dispatcher": "d", "substations": rows, "leaves": True}
        bench.hear(Event(SUBSTATIONS, AT, detail=leaving))
        bench.now += 2
        found = (await bench.get("/substations")).body
        assert found["problem"] == "dispatcher stopped 2 s ago"
        assert [each["status"] for each in found["substations"]] == ["unknown"]
        assert (await bench.post()).body["reason"] == "dispatcher stopped 2 s ago"
        bench.hear(snapshot(*rows, at=AT + 2))
        found = (await bench.get("/substations")).body
        assert (found["problem"], found["substations"][0]["status"]) == (None, "available")


async def test_answers_claim_nothing_of_the_grid_while_the_event_log_is_read() -> None:
    """What was read so far may be of yesterday: no reason, place, rating or substation by that."""
    async with Bench().serve() as bench:
        bench.log.caught_up.clear()
        bench.now += 20
        bench.hear(snapshot(row("a", rated_power_kw=10.0)))
        accepted = (await bench.post()).body
        assert (accepted["reason"], accepted["place"]) == (STILL_READING, None)
        shown = (await bench.get("/charge/job1")).body
        assert (shown["reason"], shown["place"]) == (STILL_READING, None)
        (degraded,) = (await bench.get("/readyz")).body["degraded"]
        assert degraded.startswith(STILL_READING)
        for body in ({"requested_power_kw": 20}, {"eligible_substations": ["b"]}):
            assert (await bench.post(body)).status == 202
        bench.hear(assigned("job1", "a"))
        shown = (await bench.get("/charge/job1")).body
        assert (shown["status"], shown["reason"]) == ("assigned", None)


async def test_readyz_is_degraded_while_no_substation_is_eligible() -> None:
    """Requests are accepted all the same, so it stays ready."""
    async with Bench().serve() as bench:
        bench.hear(snapshot(row("a", DRAINED), row("b", NO_CONSUMER)))
        bench.degraded.append("RabbitMQ link api-controls is down")
        answer = await bench.get("/readyz")
        assert answer.status == 200
        assert answer.body["degraded"][0] == bench.degraded[0]
        assert "no substation is eligible" in answer.body["degraded"][1]
        bench.hear(snapshot(row("a", FULL)))
        assert (await bench.get("/readyz")).body["degraded"] == bench.degraded


async def test_waiting_job_has_its_reason_and_place() -> None:
    """In the answer to the request, in the job and in the list; none once it was sent."""
    async with Bench().serve() as bench:
        bench.hear(snapshot(row("a", FULL), row("b", FULL)))
        first = (await bench.post()).body
        urgent = (await bench.post({"priority": 9})).body
        assert (first["reason"], first["place"]) == ("all 2 substations are full", 1)
        assert urgent["place"] == 1
        assert (await bench.get("/charge/job1")).body["place"] == 2
        listed = (await bench.get("/charges")).body["charges"]
        assert [each["place"] for each in listed] == [2, 1]
        bench.hear(assigned("job2", "a"))
        sent = (await bench.get("/charge/job2")).body
        assert (sent["reason"], sent["place"]) == (None, None)
        assert (await bench.get("/charge/job1")).body["place"] == 1


async def test_place_of_waiting_job_is_by_the_tenants_in_turn() -> None:
    """A request behind a flood of another tenant is among the next."""
    async with Bench().serve() as bench:
        bench.hear(snapshot(row("a", FULL)))
        for number in range(8):
            bench.at = AT + number
            await bench.post({"tenant": "flood"})
        places = []
        for number in range(2):
            bench.at = AT + 10 + number
            places.append((await bench.post({"tenant": "small"})).body["place"])
        assert places == [1, 3]
        assert (await bench.get("/charge/job8")).body["place"] == 10


async def test_new_job_has_no_reason_or_place_before_the_decision_is_waited_for() -> None:
    """It is not known yet whether it waits; of a job accepted before, it is."""
    async with Bench().serve() as bench:
        bench.hear(snapshot(row("a", FULL)))
        new = (await bench.post(Prefer="respond-async", Idempotency_Key="k")).body
        bench.at += 1
        (several,) = (await bench.post([{}], "/charges", Idempotency_Key="l")).body["jobs"]
        again = (await bench.post(Prefer="respond-async", Idempotency_Key="k")).body
        (several_again,) = (await bench.post([{}], "/charges", Idempotency_Key="l")).body["jobs"]
        assert [(each["reason"], each["place"]) for each in (new, several)] == [(None, None)] * 2
        for place, job in enumerate((again, several_again), 1):
            shown = (await bench.get(f"/charge/{job['id']}")).body
            assert (job["reason"], job["place"]) == (shown["reason"], shown["place"])
            assert (shown["reason"], shown["place"]) == ("a is full", place)


@pytest.mark.parametrize(
    ("power_kw", "allowed", "words"),
    [
        (101, None, "101 kW, the largest has 100 kW"),
        (51, ["b"], "51 kW, the largest has 50 kW"),
        (60, ["a", "b"], None),
        (101, ["c"], None),  # whose rating is not known
    ],
)
async def test_request_for_more_power_than_any_substation_has_is_422(
    power_kw: float, allowed: list[str] | None, words: str | None
) -> None:
    """The rule by which the dispatcher would park it; an unknown rating may be enough."""
    async with Bench().serve() as bench:
        rows = [row("a"), row("b", rated_power_kw=50.0)]
        bench.hear(snapshot(*rows, *([row("c", rated_power_kw=None)] if allowed == ["c"] else [])))
        body = {"requested_power_kw": power_kw, "eligible_substations": allowed}
        answer = await bench.post(body)
        if words is None:
            assert answer.status == 202
            return
        found = problem(answer, 422)
        assert found["code"] == "impossible-request"
        assert found["errors"][0]["field"] == "requested_power_kw"
        assert words in found["detail"]
        several = problem(await bench.post([{}, body], "/charges"), 422)
        assert several["errors"][0]["field"] == "1.requested_power_kw"
        bench.now += 60  # ratings may have changed since the dispatcher was heard
        assert (await bench.post(body)).status == 202


# --- places

REQUESTS = st.builds(
    lambda number, at, priority, leaves, energy: ChargeRequest(
        f"j{number}",
        at,
        priority=priority,
        departure_time=leaves,
        requested_energy_kwh=energy,
    ),
    st.integers(0, 99),
    st.integers(1, 50).map(float),
    st.integers(0, 2),
    st.none() | st.integers(100, 100_000).map(float),
    st.none() | st.integers(1, 90).map(float),
)


@examples()
@given(
    st.lists(
        REQUESTS, min_size=1, max_size=20, unique_by=(lambda r: r.id, lambda r: r.requested_at)
    ),
    st.data(),
)
def test_place_is_that_of_the_dispatchers_order(
    found: list[ChargeRequest], data: st.DataObject
) -> None:
    """Whatever requests wait and leave: as many as come before it by the dispatcher's turns.

    While no connector is free, so that all that are not late might still be done.
    """
    now = data.draw(st.sampled_from([0.0, 60.0, 5_000.0, 50_000.0]))
    projection = Projection(1_000)
    for each in found[:3]:
        projection.apply(queued(each))
    # from now on the order is kept
    assert projection.place(job_of(projection, found[0].id), now) is not None
    for each in found[3:]:
        projection.apply(queued(each))
    gone = data.draw(st.sets(st.sampled_from([each.id for each in found])))
    for name in gone:
        projection.apply(assigned(name))
    waiting = [each for each in found if each.id not in gone]
    order = DeadlineOrder(dict.fromkeys(range(10), inf))
    turns = order.turns([requirements(each) for each in waiting], [], now)
    names = [each.id for _, each in sorted(zip(turns, waiting, strict=True), key=lambda e: e[0])]
    for each in found:
        place = projection.place(job_of(projection, each.id), now)
        expected = None if each.id in gone else names.index(each.id) + 1
        # of those that leave at the same moment, the older one comes first for the dispatcher
        assert place == expected or each.departure_time is not None


def job_of(projection: Projection, name: str) -> Any:  # noqa: ANN401
    """Return a job that is there."""
    job = projection.get(name)
    assert job is not None
    return job


def test_waiting_order_forgets_what_was_removed() -> None:
    """Also when very many have left at the front, and some in between."""
    order = WaitingOrder()
    ranks = [rank_of({}, float(number)) for number in range(5_000)]
    for each in ranks:
        order.add(each)
    for each in (*ranks[:3_000], ranks[3_500]):
        order.remove(each)
    assert order.place(ranks[3_000], 0.0) == 1
    assert order.place(ranks[4_000], 0.0) == 1_000
    order.add(ranks[0])
    assert order.place(ranks[3_000], 0.0) == 2
    order.remove(ranks[1])  # it is gone already
    assert order.place(ranks[3_000], 0.0) == 2


# --- the answer that waits


async def start(bench: Bench, query: str) -> asyncio.Task[Answer]:
    """Ask for job1, and return once the api waits for it."""
    task = asyncio.create_task(bench.get(f"/charge/job1?{query}"))
    await bench.until(lambda: bool(bench.log._waiting))  # noqa: SLF001
    return task


@pytest.mark.parametrize(
    ("until", "events"),
    [
        ("assigned", [assigned("job1")]),
        ("charging", [assigned("job1"), Event(State.CHARGING, AT + 2, "job1", "s1", 1)]),
        ("charging", [Event(State.PARKED, AT + 2, "job1", reason="x")]),
        ("completed", [assigned("job1"), Event(State.COMPLETED, AT + 2, "job1", "s1", 1)]),
        ("completed", [Event(State.EXPIRED, AT + 2, "job1")]),
        ("parked", [Event(State.COMPLETED, AT + 2, "job1", "s1", 1)]),
    ],
)
async def test_job_is_answered_once_it_has_reached_the_state(
    until: str, events: list[Event]
) -> None:
    """Not before the last of these events; any end will do, since no other state follows."""
    async with Bench().serve() as bench:
        await bench.post()
        asking = await start(bench, f"wait=60&until={until}")
        for event in events:
            await asyncio.sleep(0.01)
            assert not asking.done()
            bench.hear(event)
        answer = await asyncio.wait_for(asking, 5)
        assert answer.body["status"] == events[-1].kind
        assert not bench.log._waiting  # noqa: SLF001


async def test_job_that_has_reached_the_state_is_answered_at_once() -> None:
    """Also an ended job, whatever state is waited for."""
    async with Bench().serve() as bench:
        await bench.post()
        begun = monotonic()
        assert (await bench.get("/charge/job1?wait=60&until=queued")).body["status"] == "queued"
        bench.hear(Event(State.COMPLETED, AT, "job1", "s1"))
        assert (await bench.get("/charge/job1?wait=60")).body["status"] == "completed"
        problem(await bench.get("/charge/nobody?wait=60"), 404)
        assert monotonic() - begun < 30


async def test_job_is_answered_as_it_is_when_the_service_stops() -> None:
    """At once, also to those who ask while it stops; answers to requests wait no longer either."""
    async with Bench(decision_wait=60).serve() as bench:
        requesting = asyncio.create_task(bench.post())
        await bench.until(lambda: bool(bench.log._waiting))  # noqa: SLF001
        waiting = await start(bench, "wait=60")
        await bench.until(lambda: len(bench.log._waiting["job1"]) == 2)  # noqa: SLF001
        bench.app.state.end_answers()
        for asking in (waiting, requesting, asyncio.create_task(bench.get("/charge/job1?wait=60"))):
            answer = await asyncio.wait_for(asking, 5)
            assert (answer.status // 100, answer.body["status"]) == (2, "queued")


async def test_job_is_answered_as_it_is_when_the_wait_is_over() -> None:
    """200 with the state it has then, and why it waits."""
    async with Bench().serve() as bench:
        await bench.post()
        answer = await bench.get("/charge/job1?wait=1&until=charging")
        assert (answer.status, answer.body["status"]) == (200, "queued")
        assert answer.body["reason"] == "no dispatcher has been heard yet"


@pytest.mark.parametrize("query", ["wait=61", "wait=-1", "wait=1.5", "wait=x", "until=done&wait=1"])
async def test_wait_is_bounded(query: str) -> None:
    """422 that names the parameter."""
    async with Bench().serve() as bench:
        await bench.post()
        found = problem(await bench.get(f"/charge/job1?{query}"), 422)
        assert found["errors"][0]["field"] == query.partition("=")[0]


async def test_wait_ends_when_the_client_leaves() -> None:
    """Nothing is kept for a client that is gone: it could ask again and again."""
    async with Bench().serve() as bench:
        await bench.post()
        asking = await start(bench, "wait=60&until=charging")
        asking.cancel()
        await bench.until(lambda: not bench.log._waiting)  # noqa: SLF001


async def test_waiting_job_says_when_it_will_probably_begin_and_how_that_was_estimated() -> None:
    """By the sessions in progress; in a list as well. A job that does not wait says nothing."""
    bench = Bench()
    async with bench.serve():
        for _ in range(3):
            await bench.post()
            bench.at += 0.1
        full = row("s1", FULL, connectors=1.0, load=1.0)
        bench.hear(
            snapshot(full),
            Event(State.CHARGING, AT - 30, "before", "s1", 1),
            Event(State.COMPLETED, AT - 10, "before", "s1", 1),
            assigned("job1", "s1", s1=0),
            Event(State.CHARGING, AT, "job1", "s1", 1, ends_at=AT + 7),
        )
        charging, waiting, last = [
            (await bench.get(f"/charge/job{number}")).body for number in (1, 2, 3)
        ]
        assert (charging["expected_start"], charging["expected_start_basis"]) == (None, None)
        assert waiting["expected_start"] == "2026-01-01T00:00:07Z"
        assert last["expected_start"] == "2026-01-01T00:00:20.500000Z"
        assert waiting["expected_start_basis"] == (
            "1 of 1 sessions say when they end; others take 13.5 s on average"
        )
        listed = (await bench.get("/charges?status=queued")).body["charges"]
        assert [each["expected_start"] for each in listed] == [
            waiting["expected_start"],
            last["expected_start"],
        ]


async def test_waiting_job_has_no_expected_start_while_the_dispatcher_is_silent() -> None:
    """Nobody can say."""
    bench = Bench()
    async with bench.serve():
        await bench.post()
        bench.hear(
            snapshot(row("s1", FULL)),
            Event(State.CHARGING, AT - 30, "before", "s1", 1),
            Event(State.COMPLETED, AT - 10, "before", "s1", 1),
        )
        bench.now += DISPATCHER_TIMEOUT + 1
        found = (await bench.get("/charge/job1")).body
        assert (found["place"], found["expected_start"]) == (1, None)


@pytest.mark.parametrize("lacks", [{"power_kw": 95.0}, {"reason": HELD, "eligible": False}])
async def test_forecast_counts_no_connector_that_has_no_power_or_is_reserved(
    lacks: dict[str, Any],
) -> None:
    """Three connectors are free, and it waits for the session to end all the same."""
    bench = Bench()
    async with bench.serve():
        for _ in range(2):
            await bench.post({"requested_power_kw": 11})
            bench.at += 0.1
        bench.hear(
            snapshot(row("s1", **{"reason": SHORT, **lacks})),
            assigned("job1", "s1", s1=0),
            Event(State.CHARGING, AT, "job1", "s1", 1, ends_at=AT + 7),
        )
        found = (await bench.get("/charge/job2")).body
        assert found["expected_start"] == "2026-01-01T00:00:07Z"


async def test_wait_with_a_large_body_is_refused_and_ends_nothing_else() -> None:
    """The error of reading it belongs to the request: unhandled, it would end the service."""
    bench = Bench()
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    async with bench.serve():
        await bench.post()
        answer = await bench.ask("GET", "/charge/job1?wait=30", b"x" * 100_000)
        problem(answer, 413)
        gc.collect()
        assert (await bench.get("/charge/job1")).status == 200
    assert unhandled == []


async def test_wait_and_cancel_are_503_while_the_log_is_being_read() -> None:
    """The job may have ended long ago."""
    bench = Bench()
    async with bench.serve():
        await bench.post()
        bench.log.caught_up.clear()
        problem(await bench.get("/charge/job1?wait=1"), 503)
        problem(await bench.ask("DELETE", "/charge/job1"), 503)
