"""A job that asks for a start is promised one, and sent there at that time, or refused."""

from __future__ import annotations

import pytest

from dispatcher.inputs import ControlChanged, JobCancelled, OlderEventsRead
from dispatcher.open_jobs import OpenJobs
from dispatcher.promises import LATE_SECONDS, WRITTEN_AGAIN_SECONDS
from grid import kinds
from grid.cancellations import Cancellation
from grid.controls import Availability, Control
from grid.events import BOOKED, Event, State
from grid.kinds import Promise
from grid.messages import ChargeRequest
from tests.dispatcher.harness import AT, PREFETCH, SUBSTATIONS, Harness, confirming
from tests.fake_broker import turns

pytestmark = pytest.mark.usefixtures("no_pauses")

HOUR = 3600.0
KWH = 7.4  # an hour at the usual power


def harness_of(*names: str, connectors: float = 1) -> Harness:
    """Return a dispatcher that knows the whole event log."""
    harness = Harness(confirming(), *names, connectors=connectors)
    harness.shell.feed(OlderEventsRead(OpenJobs(complete=True)))
    return harness


async def bring(harness: Harness, job: str, **fields: object) -> None:
    """Have a request for an hour delivered."""
    request = ChargeRequest(job, AT - 1, **{"requested_energy_kwh": KWH, **fields})  # type: ignore[arg-type]
    harness.queue.bring(request.encode(), job)
    await turns()


async def reserve(harness: Harness, job: str, at: float, **fields: object) -> None:
    """Have a request delivered that wants to begin so many seconds from ``AT``."""
    await bring(harness, job, earliest_start=AT + at, reserve=True, **fields)


async def pass_time(harness: Harness, to: float) -> None:
    """Let it be so many seconds after ``AT``."""
    harness.now += AT + to - harness.at
    harness.at = AT + to
    harness.shell.tick()
    await turns()


def promises(harness: Harness) -> list[tuple[str, Promise | None]]:
    """Return what jobs were told, in its order."""
    events = harness.publisher.events(BOOKED)
    return [(each.job, kinds.promise_in(each)) for each in events]


def granted(substation: str, start: float) -> Promise:
    """Return what a job is told that has a start."""
    return Promise(granted=True, substation=substation, start=start)


def refused(substation: str, start: float) -> Promise:
    """Return what a job is told that could begin there then."""
    return Promise(granted=False, substation=substation, start=start)


def drain(harness: Harness, substation: str) -> None:
    """Have an operator drain a substation."""
    harness.shell.feed(
        ControlChanged(substation, Control(substation, Availability.DRAINING, None, 1))
    )


async def test_core_promises_a_start_and_sends_the_job_then() -> None:
    """Not before; the decision says so, and the request is acknowledged once it is sent."""
    harness = harness_of("s1")
    await reserve(harness, "job", 100)
    assert promises(harness) == [("job", granted("s1", AT + 100))]
    await pass_time(harness, 99.9)
    assert (harness.routed(), harness.core.waiting, harness.queue.acked) == ([], 1, [])
    assert (harness.count("promised_starts"), harness.count("waiting_requests")) == (1, 0)
    await pass_time(harness, 100)
    assert (harness.routed(), harness.core.waiting, harness.queue.acked) == (["job"], 0, [1])
    (decision,) = harness.publisher.events(State.ASSIGNED)
    assert "its start there was promised" in decision.detail["reason"]
    assert harness.count("promises_total", outcome="granted") == 1


async def test_core_begins_no_session_that_would_break_a_promise() -> None:
    """A shorter one fits before it; of one that does not say how long, two mean ones count."""
    harness = harness_of("s1")
    await reserve(harness, "booked", HOUR)
    await bring(harness, "long", requested_energy_kwh=1.01 * KWH)
    assert harness.routed() == []
    await bring(harness, "short", requested_energy_kwh=0.9 * KWH)
    assert harness.routed() == ["short"]


async def test_core_leaves_other_connectors_to_others() -> None:
    """One of two is booked."""
    harness = harness_of("s1", connectors=2)
    await reserve(harness, "booked", HOUR)
    await bring(harness, "one", requested_energy_kwh=10 * KWH)
    await bring(harness, "two", requested_energy_kwh=10 * KWH)
    assert harness.routed() == ["one"]


async def test_core_leaves_a_booked_connector_in_one_pass_over_several_jobs() -> None:
    """The first that is sent counts for those behind it."""
    harness = harness_of("s1", connectors=2)
    await reserve(harness, "booked", HOUR)
    for job in ("one", "two"):
        request = ChargeRequest(job, AT - 1, requested_energy_kwh=10 * KWH)
        harness.queue.bring(request.encode(), job)
    await turns()
    assert harness.routed() == ["one"]


async def test_core_counts_a_job_on_its_way_for_as_long_as_it_charges() -> None:
    """Its substation's queue has not confirmed it, nor does the log tell of it."""
    harness = harness_of("s1", connectors=2)
    await reserve(harness, "booked", HOUR)
    del harness.publisher.automatic[SUBSTATIONS]
    await bring(harness, "one", requested_energy_kwh=10 * KWH)
    await bring(harness, "two", requested_energy_kwh=10 * KWH)
    assert harness.routed() == ["one"]


async def test_core_refuses_a_start_with_the_nearest_one() -> None:
    """It ends as expired, and its reason says where it could begin."""
    harness = harness_of("s1")
    await reserve(harness, "first", 100)
    await reserve(harness, "second", 100)
    assert promises(harness)[1] == ("second", refused("s1", AT + 100 + HOUR))
    (end,) = harness.publisher.events(State.EXPIRED)
    assert end.job == "second"
    assert "nearest one is 1970-01-01T01:18:20Z at s1" in end.reason
    assert (harness.core.waiting, harness.queue.acked) == (1, [2])


async def test_core_promises_any_start_by_which_a_job_is_done_at_its_departure() -> None:
    """Later than it asked for; one second too late is refused."""
    harness = harness_of("s1")
    await reserve(harness, "first", 100)
    await reserve(harness, "second", 100, departure_time=AT + 100 + 2 * HOUR)
    await reserve(harness, "third", 100, departure_time=AT + 99 + 3 * HOUR)
    assert [each and each.granted for _, each in promises(harness)] == [True, True, False]
    assert promises(harness)[1][1] == granted("s1", AT + 100 + HOUR)


async def test_core_promises_the_first_start_there_is_without_an_earliest_one() -> None:
    """That is now, where a connector is free."""
    harness = harness_of("s1")
    await bring(harness, "now", reserve=True)
    await pass_time(harness, 0)
    assert promises(harness) == [("now", granted("s1", AT))]
    assert harness.routed() == ["now"]
    await bring(harness, "next", reserve=True)
    assert promises(harness)[1:] == [("next", granted("s1", AT + HOUR))]


async def test_core_sends_a_booked_job_whose_request_it_does_not_hold() -> None:
    """It waits behind many others: the log has it. Once it comes, it is dropped."""
    harness = harness_of("s1")
    await reserve(harness, "job", 100)
    (event,) = harness.publisher.events(BOOKED)
    other = harness_of("s1")
    other.read_events(event)
    await pass_time(other, 100)
    assert other.routed() == ["job"]
    await reserve(other, "job", 100)
    assert (other.routed(), other.queue.acked, other.core.waiting) == (["job"], [1], 0)


async def test_core_keeps_the_promise_of_the_dispatcher_before() -> None:
    """Its request is redelivered; nothing else is promised to it."""
    harness = harness_of("s1")
    await reserve(harness, "job", 100)
    other = Harness(confirming(), "s1", connectors=1)
    earlier = OpenJobs(complete=True)
    for each in harness.publisher.events():
        earlier.take(each, 1)
    await reserve(other, "job", 100)
    assert promises(other) == [], "the log is not known yet"
    other.shell.feed(OlderEventsRead(earlier))
    await pass_time(other, 99)
    await bring(other, "walk-in")
    assert other.routed() == []
    await pass_time(other, 100)
    assert (promises(other), other.routed()) == ([], ["job"])


async def test_core_moves_a_promise_away_from_a_drained_substation() -> None:
    """The client is told where and when it begins now."""
    harness = harness_of("s1", "s2")
    await reserve(harness, "job", 100)
    ((_, first),) = promises(harness)
    assert first is not None
    drain(harness, first.substation)
    await pass_time(harness, 10)
    ((_, moved),) = promises(harness)[1:]
    other = {"s1": "s2", "s2": "s1"}[first.substation]
    assert moved == granted(other, AT + 100)
    await pass_time(harness, 100)
    assert [job for job, _ in harness.publisher.routed()] == ["job"]
    assert harness.count("promises_total", outcome="moved") == 1


async def test_core_moves_a_promise_that_is_late() -> None:
    """A session there takes longer than expected; the next connector anywhere is its own."""
    harness = harness_of("s1", "s2")
    await reserve(harness, "job", 100, eligible_substations=("s1",))
    harness.read("s1", load=1)  # a vehicle that nobody sent
    await pass_time(harness, 100 + LATE_SECONDS - 1)
    assert (harness.routed(), len(promises(harness))) == ([], 1)
    await pass_time(harness, 100 + LATE_SECONDS)
    ((_, moved),) = promises(harness)[1:]
    assert moved is not None
    assert (moved.granted, moved.substation) == (True, "s1")
    harness.read("s1", load=0)
    await pass_time(harness, moved.start - AT)
    assert harness.routed() == ["job"]


async def test_core_gives_back_what_a_cancelled_job_had_booked() -> None:
    """At once, and the job is not sent at its time."""
    harness = harness_of("s1")
    await reserve(harness, "job", HOUR)
    await bring(harness, "long", requested_energy_kwh=10 * KWH)
    assert harness.routed() == []
    harness.shell.feed(JobCancelled(Cancellation("job", AT)))
    await turns()
    await pass_time(harness, 1)
    assert harness.routed() == ["long"]
    harness.read_events(*harness.publisher.events())
    await pass_time(harness, HOUR)
    assert (harness.routed(), harness.core.waiting) == (["long"], 0)


async def test_core_ignores_a_booking_of_a_job_that_ended_since() -> None:
    """The log is read again at each start."""
    harness = harness_of("s1")
    await reserve(harness, "job", 100)
    (event,) = harness.publisher.events(BOOKED)
    other = harness_of("s1")
    other.read_events(event, Event(State.CANCELLED, AT + 1, "job"), event)
    await pass_time(other, 100)
    assert other.routed() == []


async def test_core_holds_a_job_until_its_earliest_start() -> None:
    """Others go first, though it is more urgent; then it has its turn."""
    harness = harness_of("s1")
    await bring(harness, "later", earliest_start=AT + 50, priority=9)
    await bring(harness, "other")
    assert harness.routed() == ["other"]
    harness.read("s1", load=0)
    await pass_time(harness, 49)
    assert harness.core.waiting == 1
    await pass_time(harness, 50)
    assert harness.routed() == ["other", "later"]
    assert promises(harness) == []


async def test_core_expires_a_job_whose_vehicle_leaves_before_its_start() -> None:
    """Nobody promised anything."""
    harness = harness_of("s1")
    await bring(harness, "later", earliest_start=AT + 50, departure_time=AT + 40)
    await pass_time(harness, 40)
    assert [each.job for each in harness.publisher.events(State.EXPIRED)] == ["later"]


async def test_core_promises_nothing_while_no_substation_may_be_sent_jobs() -> None:
    """Unknown is never idle, nor is it full: the job waits until one is known."""
    harness = Harness(confirming())
    harness.shell.feed(OlderEventsRead(OpenJobs(complete=True)))
    await reserve(harness, "job", 100)
    assert (promises(harness), harness.core.waiting) == ([], 1)
    harness.tracker.keep({"s1": None})
    harness.arrive("s1")
    await pass_time(harness, 1)
    assert promises(harness) == [("job", granted("s1", AT + 100))]


async def test_core_books_power_as_well() -> None:
    """Two connectors, and power for one."""
    harness = harness_of("s1", connectors=2)
    harness.arrive("s1", rated_power_kw=10.0)
    await reserve(harness, "first", 100)
    await reserve(harness, "second", 100)
    assert [each and each.granted for _, each in promises(harness)] == [True, False]
    await bring(harness, "long", requested_energy_kwh=KWH)
    assert harness.routed() == []


async def test_core_offers_whole_seconds() -> None:
    """Else a client that asks for what it read would ask for a moment too early."""
    harness = harness_of("s1")
    await reserve(harness, "first", 100, requested_energy_kwh=5.0)  # 2432.43… s
    await reserve(harness, "second", 100)
    offered = promises(harness)[1][1]
    assert offered == refused("s1", AT + 100 + 2433)
    await reserve(harness, "third", 100 + 2433)
    assert promises(harness)[2] == ("third", granted("s1", AT + 100 + 2433))


async def test_core_withdraws_a_promise_for_which_there_is_no_other_start() -> None:
    """The client is told; once there is one again, it is promised to the job."""
    harness = harness_of("s1")
    await reserve(harness, "job", 100)
    drain(harness, "s1")
    await pass_time(harness, 10)
    event = harness.publisher.events(BOOKED)[-1]
    assert kinds.promise_in(event) == refused("", 0.0)
    assert event.reason == "its start at s1 could not be kept: the substation is drained"
    assert harness.count("promises_total", outcome="withdrawn") == 1
    await pass_time(harness, 150)
    assert (harness.core.waiting, len(promises(harness))) == (1, 2)
    harness.shell.feed(ControlChanged("s1", Control("s1", Availability.AVAILABLE, None, 2)))
    await pass_time(harness, 200)
    assert promises(harness)[2:] == [("job", granted("s1", AT + 200))]
    await pass_time(harness, 200.5)
    assert harness.routed() == ["job"]


async def test_core_knows_that_a_promise_was_withdrawn_by_the_dispatcher_before() -> None:
    """So it does not refuse the job a start that has passed."""
    harness = harness_of("s1")
    await reserve(harness, "job", 100)
    drain(harness, "s1")
    await pass_time(harness, 10)
    other = harness_of("s1")
    other.read_events(*harness.publisher.events())
    await pass_time(other, 150)
    assert other.routed() == []
    await reserve(other, "job", 100)
    assert promises(other) == [("job", granted("s1", AT + 150))]


async def test_core_promises_so_many_starts_that_it_still_holds_others() -> None:
    """Half of the prefetch; the next one is refused, and names no other start."""
    harness = harness_of("s1", connectors=100)
    for number in range(PREFETCH // 2 + 1):
        await reserve(harness, f"job{number}", 100)
    told = promises(harness)
    assert [each and each.granted for _, each in told] == [True] * (PREFETCH // 2) + [False]
    assert told[-1][1] == refused("", 0.0)
    (end,) = harness.publisher.events(State.EXPIRED)
    assert end.reason == "no start is promised to it: 10 are promised already, half of PREFETCH"


async def test_core_writes_promises_again_before_the_log_loses_them() -> None:
    """As they were, so that nothing seems to change."""
    harness = harness_of("s1")
    await reserve(harness, "job", 10 * HOUR)
    (event,) = harness.publisher.events(BOOKED)
    await pass_time(harness, WRITTEN_AGAIN_SECONDS + 1)
    assert harness.publisher.events(BOOKED) == [event, event]
    await pass_time(harness, WRITTEN_AGAIN_SECONDS + 2)
    assert len(harness.publisher.events(BOOKED)) == 2
