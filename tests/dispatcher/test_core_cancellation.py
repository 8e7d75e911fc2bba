"""A request that its client has cancelled ends, which is recorded first."""

from __future__ import annotations

import pytest

from dispatcher.core import FRESH_SECONDS
from dispatcher.inputs import ControlChanged, JobCancelled, OlderEventsRead
from dispatcher.open_jobs import OpenJobs
from grid import kinds, topology
from grid.amqp import Outcome
from grid.cancellations import Cancellation
from grid.controls import Availability, Control
from grid.events import Event, State
from grid.messages import ChargeRequest
from tests.dispatcher.harness import AT, SUBSTATIONS, Harness, body, confirming
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")


def cancel(harness: Harness, job: str, at: float = AT) -> None:
    """Have a dispatcher read a client's cancellation."""
    harness.shell.feed(JobCancelled(Cancellation(job, at)))


async def waiting(publisher: FakePublisher, *jobs: str) -> Harness:
    """Return a dispatcher with requests that find no capacity."""
    harness = Harness(publisher)
    for job in jobs:
        harness.queue.bring(body(job), job)
    await turns()
    return harness


async def test_core_cancels_request_that_waits() -> None:
    """It is acknowledged once the end is written, and never sent; the others still wait."""
    harness = await waiting(FakePublisher(), "j1", "j2")
    cancel(harness, "j1")
    await turns()
    (event,) = harness.publisher.events()
    assert (event.kind, event.job, event.at) == (State.CANCELLED, "j1", AT)
    assert event.reason == kinds.CANCELLED_BY_CLIENT
    assert (harness.core.waiting, harness.queue.acked) == (1, [])
    harness.publisher.answer(topology.EVENTS)
    await turns()
    assert harness.queue.acked == [1]
    assert harness.count("cancelled_total") == 1


async def test_core_cancels_request_that_is_delivered_after_its_cancellation() -> None:
    """The stream may be read before the request is."""
    harness = Harness(confirming(), "s1")
    cancel(harness, "j1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert [each.kind for each in harness.publisher.events()] == [State.CANCELLED]
    assert harness.publisher.to(SUBSTATIONS) == []
    assert harness.queue.acked == [1]


async def test_core_cancels_request_that_no_substation_can_take() -> None:
    """It is not parked as well: one end is enough, and its client knows this one."""
    harness = Harness(confirming(), "s1")
    cancel(harness, "j1")
    harness.queue.bring(body("j1", "nowhere"), "j1")
    await turns()
    assert [each.kind for each in harness.publisher.events()] == [State.CANCELLED]
    assert harness.queue.acked == [1]


async def test_core_cancels_waiting_request_whose_substation_has_left() -> None:
    """The cancellation is read before the next pass."""
    harness = Harness(confirming(), "s1")
    harness.shell.feed(ControlChanged("s1", Control("s1", Availability.DRAINING, None, 1)))
    harness.queue.bring(body("j1", "s1"), "j1")
    await turns()
    harness.tracker.keep({"s2": None})
    cancel(harness, "j1")
    harness.shell.tick()
    await turns()
    assert [each.kind for each in harness.publisher.events()] == [State.CANCELLED]
    assert harness.queue.acked == [1]


async def test_core_sends_request_that_was_made_after_a_cancellation_of_its_id() -> None:
    """Whoever requests it anew wants it."""
    harness = Harness(confirming(), "s1")
    cancel(harness, "j1", at=AT - 2)  # it is requested a second later
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert len(harness.publisher.to(SUBSTATIONS)) == 1


async def test_core_leaves_cancelled_job_that_is_sent_to_its_substation() -> None:
    """That has it, or will have it, and ends it."""
    harness = Harness(FakePublisher(), "s1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    cancel(harness, "j1")
    await turns()
    assert [each.kind for each in harness.publisher.events()] == [State.ASSIGNED]
    harness.publisher.answer(topology.EVENTS)
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert harness.queue.acked == [1]
    assert harness.publisher.events(State.CANCELLED) == []


async def test_core_cancels_job_that_its_substation_refuses() -> None:
    """It was being sent when its client cancelled it, and is not sent elsewhere."""
    harness = Harness(FakePublisher(), "s1", "s2")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    cancel(harness, "j1")
    harness.publisher.answer(topology.EVENTS)
    harness.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert [each.kind for each in harness.publisher.events()] == [
        State.ASSIGNED,
        State.CANCELLED,
    ]
    assert len(harness.publisher.to(SUBSTATIONS)) == 1


async def test_core_cancels_again_after_its_record_was_refused() -> None:
    """It waits meanwhile, and is not sent."""
    harness = await waiting(FakePublisher(), "j1")
    cancel(harness, "j1")
    await turns()
    harness.publisher.answer(topology.EVENTS, Outcome.REFUSED)
    await turns()
    harness.publisher.answer(topology.EVENTS)
    await turns()
    assert harness.queue.acked == [1]


async def test_core_records_cancellation_of_request_that_is_not_delivered_yet() -> None:
    """It may wait behind a hundred thousand others; it is dropped when its turn comes."""
    harness = Harness(confirming(), "s1")
    harness.shell.feed(OlderEventsRead(OpenJobs(complete=True)))
    harness.read_events(Event(State.QUEUED, AT - 1, job="j1"))
    cancel(harness, "j1")
    await turns()
    assert [each.job for each in harness.publisher.events(State.CANCELLED)] == ["j1"]
    harness.read_events(*harness.publisher.events())
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert harness.queue.acked == [1]
    assert harness.publisher.to(SUBSTATIONS) == []


@pytest.mark.parametrize("why", ["not begun", "uncertain", "sent", "unknown", "inherited"])
async def test_core_records_no_cancellation_of_job_that_may_be_elsewhere(why: str) -> None:
    """Only the active dispatcher, if it knows all decisions, knows that a job waits."""
    harness = Harness(confirming(), "s1", begun=why != "not begun")
    harness.shell.feed(OlderEventsRead(OpenJobs(complete=True)))
    if why != "unknown":
        harness.read_events(Event(State.QUEUED, AT - 1, job="j1"))
    if why == "sent":
        harness.read_events(Event(State.ASSIGNED, AT, job="j1", substation="s1"))
    if why == "inherited":
        harness.read_events(kinds.snapshot(AT, "other", [], [], 0))
    harness.certain = why != "uncertain"
    cancel(harness, "j1")
    await turns()
    assert harness.publisher.events() == []


async def test_core_cancels_nothing_while_its_lease_has_lapsed() -> None:
    """Another dispatcher may have the request; afterwards it ends as it would have."""
    harness = await waiting(confirming(), "j1")
    harness.certain = False
    cancel(harness, "j1")
    await turns()
    assert harness.publisher.events() == []
    harness.certain = True
    harness.shell.tick()
    await turns()
    assert [each.kind for each in harness.publisher.events()] == [State.CANCELLED]
    assert harness.queue.acked == [1]


async def test_core_drops_undelivered_cancelled_request_as_cancelled_not_as_copy() -> None:
    """Each counts once, as what it is; until then it is no request that is missing."""
    harness = Harness(confirming(), "s1")
    harness.shell.feed(OlderEventsRead(OpenJobs(complete=True)))
    harness.read_events(Event(State.QUEUED, AT - 1, job="j1"))
    cancel(harness, "j1")
    cancel(harness, "j1")
    await turns()
    harness.read_events(*harness.publisher.events())
    assert list(harness.open_jobs.undelivered) == ["j1"]
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert not harness.open_jobs.undelivered
    assert harness.count("cancelled_total") == 1
    assert harness.count("duplicate_requests_total") == 0


async def test_core_forgets_undelivered_request_whose_record_was_lost_at_its_end() -> None:
    """It is cancelled once it is delivered, and does not look missing afterwards."""
    harness = Harness(confirming(), "s1")
    harness.shell.feed(OlderEventsRead(OpenJobs(complete=True)))
    harness.read_events(Event(State.QUEUED, AT - 1, job="j1"))
    cancel(harness, "j1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert harness.queue.acked == [1]
    assert not harness.open_jobs.undelivered


async def test_core_counts_no_undelivered_request_after_its_link_broke() -> None:
    """Another dispatcher may have had it: counted on, others would be taken for missing."""
    harness = Harness(confirming(), "s1")
    harness.shell.feed(OlderEventsRead(OpenJobs(complete=True)))
    harness.read_events(Event(State.QUEUED, AT - 1, job="j1"))
    cancel(harness, "j1")
    assert list(harness.open_jobs.undelivered) == ["j1"]
    harness.queue.break_link()
    assert not harness.open_jobs.undelivered


async def test_core_leaves_old_cancellation_of_undelivered_request_to_its_delivery() -> None:
    """Read at a start, it may be older than a request that was made anew under the same id."""
    harness = Harness(confirming(), "s1")
    harness.shell.feed(OlderEventsRead(OpenJobs(complete=True)))
    harness.read_events(Event(State.QUEUED, AT - 1, job="j1"))
    cancel(harness, "j1", at=AT - FRESH_SECONDS)
    await turns()
    assert harness.publisher.events() == []
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert len(harness.publisher.to(SUBSTATIONS)) == 1


async def test_core_recognises_by_the_whole_log_that_a_job_has_ended() -> None:
    """Its first delivery may come long after its end, and after a failover."""
    harness = Harness(confirming(), "s1")
    earlier = OpenJobs(complete=True)
    earlier.take(kinds.cancelled("j1", AT), 1)
    harness.shell.feed(OlderEventsRead(earlier))
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert harness.publisher.to(SUBSTATIONS) == []
    assert harness.queue.acked == [1]


async def test_core_does_not_reclaim_cancelled_job() -> None:
    """Its substation died before it could end it: it ends here."""
    harness = Harness(confirming(), "s2")
    cancel(harness, "j1")
    harness.reclaim.deliver("s1", body("j1"), "j1")
    await turns()
    assert [each.kind for each in harness.publisher.events()] == [State.CANCELLED]
    assert harness.reclaim.acked == [1]


async def test_core_does_not_resend_job_that_its_substation_has_cancelled() -> None:
    """By the event of the substation, also if an operator had replayed the job."""
    harness = Harness(confirming(), "s1")
    replayed = {"x-replays": 2}
    harness.queue.bring(body("j1"), "j1", headers=replayed)
    await turns()
    harness.read_events(Event(State.CANCELLED, AT, job="j1", substation="s1"))
    assert harness.index.ended("j1", 2)
    assert harness.open_jobs.has_ended("j1", 2, ChargeRequest("j1", AT - 1).requested_at)
    harness.queue.bring(body("j1"), "j1", again=True, headers=replayed)
    await turns()
    assert len(harness.publisher.to(SUBSTATIONS)) == 1
    assert harness.queue.acked == [1, 2]
    [told] = harness.publisher.events(State.CANCELLED)
    assert kinds.replays(told) == kinds.ANY_REPLAYS
