"""A promised start is kept or moved when things break; its job is not lost, nor sent twice."""

from __future__ import annotations

import pytest

from dispatcher import booked_jobs
from dispatcher.inputs import OlderEventsRead
from dispatcher.open_jobs import OpenJobs
from dispatcher.promises import LATE_SECONDS
from grid import kinds, topology
from grid.amqp import Outcome
from grid.events import BOOKED, Event, State
from grid.messages import MAX_UNIX_TIME, ChargeRequest
from tests.dispatcher.harness import AT, PREFETCH, SUBSTATIONS, Harness, confirming
from tests.dispatcher.test_core_promises import (
    HOUR,
    bring,
    drain,
    granted,
    harness_of,
    pass_time,
    promises,
    refused,
    reserve,
)
from tests.fake_broker import turns

pytestmark = pytest.mark.usefixtures("no_pauses")

OTHER = {"s1": "s2", "s2": "s1"}


def log_of(harness: Harness) -> tuple[Event, ...]:
    """Return the events that a dispatcher has written."""
    return tuple(harness.publisher.events())


async def promised(harness: Harness, job: str, at: float, **fields: object) -> str:
    """Have a start promised, and return where."""
    await reserve(harness, job, at, **fields)
    told = promises(harness)[-1][1]
    assert told is not None
    assert told.granted
    return told.substation


async def test_core_requeues_jobs_that_may_not_begin_yet_if_they_fill_the_prefetch() -> None:
    """Those behind them could begin now; a promise holds, wherever its message is."""
    harness = harness_of("s1", connectors=100)
    for number in range(PREFETCH - 2):
        await bring(harness, f"later{number}", earliest_start=AT + HOUR + number)
    await reserve(harness, "booked", 2 * HOUR)
    requeued = [str(each.id) for each in harness.publisher.to(topology.REQUESTS)]
    assert len(requeued) == PREFETCH // 4
    assert "booked" in requeued
    await pass_time(harness, 2 * HOUR)
    assert "booked" in harness.routed()


async def test_core_leaves_promises_to_the_active_dispatcher() -> None:
    """All follow the log, and would send the job, or promise another start, several times."""
    harness = harness_of("s1", "s2")
    where = await promised(harness, "job", 100)
    standby = harness_of("s1", "s2")
    standby.read_events(*log_of(harness))
    drain(standby, where)
    standby.standby.heard("other", standby.now + 100)
    await pass_time(standby, 10)
    await pass_time(standby, 100)
    assert (standby.routed(), promises(standby)) == ([], [])
    standby.now += 1e6  # nothing was heard of the other one since
    for later in (101, 102):
        await pass_time(standby, later)
    assert standby.publisher.routed() == [("job", OTHER[where])]


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "not read"])
async def test_core_moves_the_promise_of_a_job_that_its_queue_refused(*, is_read: bool) -> None:
    """The log has the job there, but it is not."""
    harness = harness_of("s1", "s2")
    where = await promised(harness, "job", 100)
    harness.publisher.automatic[SUBSTATIONS] = Outcome.UNROUTABLE
    await pass_time(harness, 100)
    harness.publisher.automatic[SUBSTATIONS] = Outcome.CONFIRMED
    if is_read:
        harness.read_events(*log_of(harness))
    for later in (1, 1 + LATE_SECONDS, 2 + LATE_SECONDS):
        await pass_time(harness, 100 + later)
    assert harness.publisher.routed() == [("job", where), ("job", OTHER[where])]
    assert harness.queue.acked == [1]
    assert promises(harness)[-1][1] == granted(OTHER[where], AT + 101 + (0 if is_read else 30))


async def test_core_moves_the_promise_of_a_reclaimed_job() -> None:
    """Its substation died after it was sent there."""
    harness = harness_of("s1", "s2")
    where = await promised(harness, "job", 100)
    await pass_time(harness, 100)
    harness.read_events(*log_of(harness))
    harness.fail_page(where)
    ((job, _),) = harness.publisher.routed()
    (publication,) = harness.publisher.to(SUBSTATIONS)
    assert harness.reclaim.deliver(where, publication.body, job)
    await turns()
    await pass_time(harness, 102)
    assert harness.publisher.routed() == [("job", where), ("job", OTHER[where])]
    assert (promises(harness)[-1][1], harness.reclaim.acked) == (
        granted(OTHER[where], AT + 100),
        [1],
    )


async def test_core_requeues_a_reclaimed_job_whose_next_start_is_far() -> None:
    """Its promise is kept from there, by the next dispatcher as well."""
    harness = harness_of("s1", "s2")
    where = await promised(harness, "job", 100)
    await pass_time(harness, 100)
    other = OTHER[where]
    await bring(harness, "walk-in")
    harness.fail_page(where)
    harness.read_events(*log_of(harness))
    harness.at += 1
    assert harness.reclaim.deliver(where, harness.publisher.to(SUBSTATIONS)[0].body, "job")
    await turns()
    await pass_time(harness, 102)
    await pass_time(harness, 110)
    start = AT + 100 + HOUR
    assert promises(harness)[-1] == ("job", granted(other, start))
    assert [str(each.id) for each in harness.publisher.to(topology.REQUESTS)] == ["job"]
    successor = harness_of("s1", "s2")
    successor.read_events(*log_of(harness))
    for each in (harness, successor):
        each.read(other, load=0)
        await pass_time(each, start - AT)
        assert each.publisher.routed()[-1] == ("job", other)


async def test_core_sends_a_booked_job_elsewhere_whose_queue_refused_it() -> None:
    """Its request is still behind others; once it comes, it belongs to the job in hand."""
    harness = harness_of("s1", "s2")
    where = await promised(harness, "job", 100)
    successor = harness_of("s1", "s2")
    successor.read_events(*log_of(harness))
    del successor.publisher.automatic[SUBSTATIONS]
    await pass_time(successor, 100)
    await reserve(successor, "job", 100)
    assert successor.queue.acked == [], "no substation has it yet"
    successor.publisher.answer(SUBSTATIONS, Outcome.UNROUTABLE)
    await turns()
    await pass_time(successor, 101 + LATE_SECONDS)
    await pass_time(successor, 102 + LATE_SECONDS)
    assert successor.publisher.routed() == [("job", where), ("job", OTHER[where])]
    successor.publisher.answer(SUBSTATIONS)
    await turns()
    assert successor.queue.acked == [1]


async def test_core_keeps_a_job_whose_queue_refused_it_before_its_request_came() -> None:
    """It is not taken to be at that substation."""
    harness = harness_of("s1", "s2")
    where = await promised(harness, "job", 100)
    successor = harness_of("s1", "s2")
    successor.read_events(*log_of(harness))
    successor.publisher.automatic[SUBSTATIONS] = Outcome.REFUSED
    await pass_time(successor, 100)
    successor.publisher.automatic[SUBSTATIONS] = Outcome.CONFIRMED
    await pass_time(successor, 101 + LATE_SECONDS)
    await pass_time(successor, 102 + LATE_SECONDS)
    assert successor.publisher.routed() == [("job", where), ("job", OTHER[where])]


async def test_core_forgets_a_job_without_a_request_when_its_link_is_lost() -> None:
    """Another dispatcher keeps its promise from now on."""
    harness = harness_of("s1", "s2")
    await promised(harness, "job", 100)
    other = harness_of("s1", "s2")
    other.read_events(*log_of(harness))
    other.publisher.automatic[SUBSTATIONS] = Outcome.REFUSED
    await pass_time(other, 100)
    other.publisher.automatic[SUBSTATIONS] = Outcome.CONFIRMED
    other.queue.break_link()
    other.standby.heard("other", other.now + 100)
    await pass_time(other, 102 + LATE_SECONDS)
    assert (len(other.routed()), other.core.waiting) == (1, 0)


async def test_core_counts_a_job_that_begins_once() -> None:
    """As a session, and not as a booking any more: another one finds the second connector."""
    harness = harness_of("s1", connectors=2)
    del harness.publisher.automatic[SUBSTATIONS]
    await promised(harness, "first", 100)
    await pass_time(harness, 100)
    assert harness.routed() == ["first"]
    await reserve(harness, "second", 100)
    assert promises(harness)[-1] == ("second", granted("s1", AT + 100))


async def test_core_counts_jobs_that_begin_in_the_same_pass_once() -> None:
    """Of one whose length nobody knows, as well."""
    harness = harness_of("s1", connectors=3)
    await promised(harness, "first", 100)
    await promised(harness, "second", 100, requested_energy_kwh=None)
    request = ChargeRequest("third", AT - 1, earliest_start=AT + 100, reserve=True)
    harness.now, harness.at = harness.now + 100, AT + 100
    harness.queue.bring(request.encode(), "third")
    await turns()
    assert promises(harness)[-1] == ("third", granted("s1", AT + 100))


async def test_core_begins_a_promised_job_that_has_little_patience() -> None:
    """The pass that sends it comes a moment after its start, and after its last wait."""
    harness = harness_of("s1")
    await promised(harness, "job", 100, max_wait_seconds=0.1)
    await pass_time(harness, 100.2)
    assert harness.routed() == ["job"]


async def test_core_moves_no_promise_behind_the_departure() -> None:
    """A start after that is none."""
    harness = harness_of("s1", "s2")
    where = await promised(harness, "job", 100, departure_time=AT + 100 + HOUR)
    await bring(harness, "long", eligible_substations=(OTHER[where],))
    assert harness.routed() == ["long"]
    drain(harness, where)
    await pass_time(harness, 10)
    assert promises(harness)[1:] == [("job", granted(OTHER[where], AT + HOUR))]
    await bring(harness, "next", eligible_substations=(OTHER[where],), reserve=True)
    drain(harness, OTHER[where])
    await pass_time(harness, 20)
    assert promises(harness)[3:] == [(job, refused("", 0.0)) for job in ("job", "next")]


async def test_core_writes_a_promise_again_that_rabbitmq_did_not_take() -> None:
    """Only the log tells the client, and the next dispatcher."""
    harness = harness_of("s1")
    harness.publisher.automatic[topology.EVENTS] = Outcome.REFUSED
    await reserve(harness, "job", 100)
    harness.publisher.automatic[topology.EVENTS] = Outcome.CONFIRMED
    await pass_time(harness, 1)
    await pass_time(harness, 2)
    first, second = harness.publisher.events(BOOKED)
    assert first == second


async def test_core_writes_a_withdrawal_again_that_rabbitmq_did_not_take() -> None:
    harness = harness_of("s1")
    await reserve(harness, "job", 100)
    drain(harness, "s1")
    harness.publisher.automatic[topology.EVENTS] = Outcome.REFUSED
    await pass_time(harness, 10)
    harness.publisher.automatic[topology.EVENTS] = Outcome.CONFIRMED
    await pass_time(harness, 12)
    await pass_time(harness, 14)
    _, first, second = harness.publisher.events(BOOKED)
    assert first == second
    assert kinds.promise_in(first) == refused("", 0.0)


async def test_core_promises_nothing_to_a_parked_job() -> None:
    """Its substation has left: the connector is for others, if it comes back."""
    harness = harness_of("s1", "s2")
    await promised(harness, "job", 100, eligible_substations=("s1",))
    harness.tracker.keep({"s2": None})
    await pass_time(harness, 1)
    assert len(harness.publisher.to(topology.PARKED)) == 1
    assert harness.open_jobs.booked == {}


async def test_core_promises_no_session_that_ends_after_all_times() -> None:
    """Such an event could not be read, nor could those in the same message."""
    harness = harness_of("s1")
    await bring(harness, "job", earliest_start=MAX_UNIX_TIME, reserve=True)
    assert promises(harness) == []


async def test_core_keeps_a_promise_that_is_newer_than_the_decision() -> None:
    """Decisions are read back late, or again; one that begins has no promise any more."""
    harness = harness_of("s1", "s2")
    await promised(harness, "job", 100)
    (event,) = harness.publisher.events(BOOKED)
    sent = Event(State.ASSIGNED, AT + 1, "job", "s1", 1)
    later = Event(BOOKED, AT + 2, "job", event.substation, ends_at=AT + HOUR, detail=event.detail)
    other = harness_of("s1", "s2")
    other.read_events(event, sent)
    assert other.open_jobs.booked == {}
    other.read_events(event)
    assert other.open_jobs.booked == {}
    other.read_events(later, sent)
    assert list(other.open_jobs.booked) == ["job"]
    other.read_events(Event(State.CHARGING, AT + 3, "job", "s1"), later)
    assert other.open_jobs.booked == {}


async def test_core_forgets_a_start_that_was_withdrawn_after_a_queue_refused_the_job() -> None:
    """The log has the job assigned, promised another start, and that one withdrawn."""
    harness = harness_of("s1", "s2")
    where = await promised(harness, "job", 100)
    harness.publisher.automatic[SUBSTATIONS] = Outcome.UNROUTABLE
    await pass_time(harness, 100)
    await pass_time(harness, 101 + LATE_SECONDS)
    assert promises(harness)[-1][1] == granted(OTHER[where], AT + 101 + LATE_SECONDS)
    drain(harness, "s1")
    drain(harness, "s2")
    await pass_time(harness, 103 + LATE_SECONDS)
    assert promises(harness)[-1][1] == refused("", 0.0)
    successor = harness_of("s1", "s2")
    successor.read_events(*log_of(harness))
    assert successor.open_jobs.booked == harness.open_jobs.booked == {}


async def test_core_begins_no_job_whose_vehicle_left_while_nobody_decided() -> None:
    """Nor one whose patience ended long ago."""
    harness = harness_of("s1", connectors=2)
    await promised(harness, "leaves", 100, departure_time=AT + 100 + HOUR)
    await promised(harness, "waits", 100, max_wait_seconds=10)
    successor = harness_of("s1")
    successor.read_events(*log_of(harness))
    await pass_time(successor, 101 + HOUR)
    assert (successor.routed(), successor.open_jobs.booked) == ([], {})


async def test_core_drops_the_request_of_a_promised_job_that_ended_long_ago() -> None:
    """It was behind others while its job was charged; then a dispatcher began anew."""
    harness = harness_of("s1")
    await promised(harness, "job", 100)
    await pass_time(harness, 100)
    earlier = OpenJobs(complete=True)
    for each in (*log_of(harness), Event(State.COMPLETED, AT + 200, "job", "s1")):
        earlier.take(each, 1)
    successor = Harness(confirming(), "s1")
    await reserve(successor, "job", 100)
    assert successor.queue.acked == []
    successor.shell.feed(OlderEventsRead(earlier))
    await pass_time(successor, 300)
    assert (successor.routed(), promises(successor)) == ([], [])
    assert (successor.queue.acked, successor.core.waiting) == ([1], 0)


async def test_core_answers_many_jobs_that_ask_for_a_start_in_several_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Meanwhile others are sent; one that cannot be answered yet keeps none from an answer."""
    harness = harness_of("s1", "s2", connectors=1000)
    drain(harness, "s2")
    count = 12
    monkeypatch.setattr(booked_jobs, "ANSWERS_PER_PASS", 5)
    for number in range(count):
        allowed = ("s2",) if number < 3 else ("s1",)
        request = ChargeRequest(
            f"j{number}", AT, earliest_start=AT + 9, reserve=True, eligible_substations=allowed
        )
        harness.queue.bring(request.encode(), request.id)
    harness.route()
    assert len(harness.open_jobs.booked) == 5
    await turns()
    assert len(harness.open_jobs.booked) == count - 3
    assert harness.open_jobs.is_booked(f"j{count - 1}")


async def test_core_says_when_a_start_was_refused_whose_time_has_passed() -> None:
    """Its request waited behind others: it is the present that is taken."""
    harness = harness_of("s1")
    await promised(harness, "first", 0)
    await pass_time(harness, 50)
    await reserve(harness, "second", 10)
    (end,) = harness.publisher.events(State.EXPIRED)
    assert "no connector with enough power is free at 1970-01-01T00:17:30Z" in end.reason
