"""The event log decides where a copy goes, not a header, memory or a late event."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher.inputs import RecordedJobMissing
from dispatcher.jobs import COPY_HEADER, RECLAIMED_HEADER, JobsInHand
from dispatcher.open_jobs import OpenJobs
from dispatcher.queues import Whereabouts
from dispatcher.reconcile import MISSING_SECONDS
from dispatcher.requeue_overflow import MAX_HELD_SECONDS, RECLAIMED_SECONDS
from grid import kinds, provenance, topology
from grid.amqp import Outcome
from grid.events import REQUEUED, Event, State
from grid.messages import ChargeRequest
from tests.dispatcher.harness import AT, Harness, always, body, confirming
from tests.dispatcher.test_held import ScriptedLog
from tests.dispatcher.test_reconcile import ReconcilerHarness, accepted
from tests.fake_broker import turns

QUEUED = Event(State.QUEUED, AT, "j1", detail={"id": "j1"})
AT_S1 = Event(State.ASSIGNED, AT, "j1", "s1", 1)
CHARGING_S1 = Event(State.CHARGING, AT + 1, "j1", "s1", 1)
ENDED_S1 = Event(State.COMPLETED, AT + 5, "j1", "s1")
COPY = {COPY_HEADER: True}
FROM_S1 = {COPY_HEADER: True, RECLAIMED_HEADER: "s1"}


def requeued(read_to: int) -> Event:
    """Return the event that j1, which had been sent to s1, was requeued."""
    return kinds.requeued("j1", AT + 1, "s1", read_to)


def older_jobs(*told: Event) -> OpenJobs:
    """Return what the part of the log tells that a dispatcher reads last."""
    jobs = OpenJobs(complete=True)
    for offset, event in enumerate(told):
        jobs.take(event, offset)
    return jobs


async def test_core_drops_copy_of_job_that_ended_in_older_part_of_log() -> None:
    harness = Harness(confirming(), "s1", "s2")
    harness.open_jobs.absorb(older_jobs(QUEUED, AT_S1, CHARGING_S1, ENDED_S1))
    tag = harness.queue.bring(body("j1"), "j1", headers=COPY)
    await turns()
    assert harness.publisher.routed() == []
    assert harness.queue.acked == [tag]


async def test_core_ignores_late_requeued_event_for_copy() -> None:
    """The job went on to another substation since the writer of the event had read the log."""
    harness = Harness(confirming(), "s2", "s3")
    harness.read_events(QUEUED, AT_S1, Event(State.ASSIGNED, AT + 1, "j1", "s2", 2))
    charging = Event(State.CHARGING, AT + 1, "j1", "s2", 1)
    harness.read_events(charging, writer=provenance.substation_writer("s2"))
    harness.read_events(requeued(read_to=2))
    harness.queue.bring(body("j1"), "j1", headers=FROM_S1)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]


async def test_core_sends_second_copy_where_the_first_copy_went() -> None:
    """RabbitMQ may have two after a broken link; that substation recognises the second."""
    harness = Harness(confirming(), "s1", "s2")
    harness.read_events(QUEUED, AT_S1, requeued(read_to=2))
    harness.read("s2", 3)  # s1, which is back, is the least loaded
    harness.queue.bring(body("j1"), "j1", headers=FROM_S1)
    await turns()
    harness.read_events(*harness.publisher.events(State.ASSIGNED))
    harness.read("s1", 1)
    harness.read("s2", 0)
    harness.queue.bring(body("j1"), "j1", headers=FROM_S1)
    await turns()
    assert harness.publisher.routed() == [("j1", "s1"), ("j1", "s1")]


async def test_core_does_not_drop_copy_for_its_own_memory() -> None:
    """It had sent the job, but another dispatcher reclaimed it, and its queue was purged."""
    harness = Harness(confirming(), "s1", "s2")
    harness.queue.bring(body("j1", "s1", "s2"), "j1")
    await turns()
    [(_, first)] = harness.publisher.routed()
    harness.read_events(QUEUED, *harness.publisher.events(State.ASSIGNED))
    harness.read_events(kinds.requeued("j1", AT + 1, first, 9))
    harness.queue.bring(body("j1", "s1", "s2"), "j1", headers=COPY)
    await turns()
    assert len(harness.publisher.routed()) == 2


async def test_core_does_not_record_requeue_whose_delivery_was_lost() -> None:
    """The job is still at its substation: the copy goes there, and is recognised."""
    harness = Harness(confirming(), "s1", "s2", "s3")
    job = body("j1", "s1", "s3")
    harness.read_events(QUEUED, AT_S1)
    harness.fail_page("s1")
    harness.fail_page("s3")  # it fits nowhere; s2 has room for others
    assert harness.reclaim.deliver("s1", job, "j1")
    harness.now += RECLAIMED_SECONDS + 1
    harness.publisher.automatic.pop("charge.requests", None)
    harness.shell.tick()
    await turns()
    [copy] = harness.publisher.to(topology.REQUESTS)
    harness.reclaim.break_link()
    assert not copy.wanted()  # should its own link break as well
    harness.publisher.answer(topology.REQUESTS)
    await turns()
    assert harness.publisher.events(REQUEUED) == []
    harness.arrive("s1")
    harness.arrive("s3")
    harness.read_events(CHARGING_S1, writer=provenance.substation_writer("s1"))
    harness.queue.bring(job, "j1", headers=copy.headers)
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]


async def test_reconciled_job_is_recorded_as_requeued() -> None:
    """Without the record, the next dispatcher would send the job where it was."""
    harness = ReconcilerHarness(accepted("j1"), AT_S1)
    harness.where["s1"] = Whereabouts.GONE
    assert await harness.published_after(MISSING_SECONDS) == ["j1"]
    assert harness.requeued == [("j1", "s1", 2)]


async def test_core_sends_copy_of_reconciled_job_where_it_was_sent_again() -> None:
    """The requeued event came too late, or never."""
    harness = Harness(confirming(), "s1", "s2")
    harness.read_events(QUEUED, AT_S1)
    harness.shell.feed(RecordedJobMissing(ChargeRequest("j1", AT - 1), "s1", 0))
    harness.route()
    await turns()
    harness.read_events(CHARGING_S1, writer=provenance.substation_writer("s1"))
    harness.read("s1", 1)
    harness.queue.bring(body("j1"), "j1", headers=FROM_S1)
    await turns()
    assert harness.publisher.routed() == [("j1", "s1"), ("j1", "s1")]


async def test_reconciler_resends_nothing_while_log_is_read_anew() -> None:
    """What has been read so far is out of date."""
    log = [accepted("j1"), AT_S1, requeued(2), Event(State.ASSIGNED, AT + 3, "j1", "s2", 2)]
    harness = ReconcilerHarness(*log, Event(State.CHARGING, AT + 3, "j1", "s2", 1))
    for offset in (0, 1):
        harness.jobs.take(log[offset], offset)
    harness.unread = [(offset, event) for offset, event in enumerate(harness.log) if offset > 1]
    harness.where["s1"] = Whereabouts.QUEUE_EMPTY
    await harness.published_after(MISSING_SECONDS)
    assert harness.again == []


async def test_reconciler_does_not_publish_job_that_is_sent_meanwhile() -> None:
    """The job was only slow; a requeued event would cancel the decision made since."""
    harness = ReconcilerHarness(accepted("j1"))
    harness.meanwhile = lambda: harness.jobs.take(AT_S1, 1)
    assert await harness.published_after(MISSING_SECONDS) == []
    assert harness.requeued == []


async def test_reconciler_does_not_publish_job_that_is_delivered_meanwhile() -> None:
    harness = ReconcilerHarness(accepted("j1"))

    def deliver() -> None:
        harness.hands = JobsInHand(frozenset({"j1"}), 0)

    harness.meanwhile = deliver
    assert await harness.published_after(MISSING_SECONDS) == []


async def test_core_does_not_follow_decision_that_was_written_late() -> None:
    """The job has gone on since: the clocks show it, though the order in the log does not."""
    newer = Event(State.ASSIGNED, AT + 3, "j1", "s2", 2)
    harness = ReconcilerHarness(accepted("j1"), newer, AT_S1)
    harness.where["s1"] = Whereabouts.QUEUE_EMPTY
    await harness.published_after(MISSING_SECONDS)
    assert harness.again == []


async def test_core_sends_copy_where_job_charges_despite_late_decision() -> None:
    harness = Harness(confirming(), "s1", "s2")
    charging = Event(State.CHARGING, AT + 4, "j1", "s2", 1)
    harness.read_events(QUEUED, Event(State.ASSIGNED, AT + 3, "j1", "s2", 2))
    harness.read_events(charging, writer=provenance.substation_writer("s2"))
    harness.read_events(AT_S1)
    assert harness.open_jobs.charging_at("j1") == "s2"
    harness.queue.bring(body("j1"), "j1", headers=COPY)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]


@pytest.mark.parametrize("headers", [COPY, None], ids=["a copy", "delivered again"])
async def test_core_holds_redelivery_of_lost_request_until_log_is_read(
    headers: dict[str, object] | None,
) -> None:
    harness = Harness(confirming(), "s1", "s2", reads_log=True)
    harness.publisher.automatic.pop("charge.substations")  # RabbitMQ does not answer for the job
    harness.queue.bring(body("j1", "s1"), "j1")
    await turns()
    harness.queue.break_link()
    harness.queue.bring(body("j1", "s1"), "j1", headers=headers, again=headers is None)
    await turns()
    assert [each.id for each in harness.core.held] == ["j1"]


async def test_core_resends_where_another_dispatcher_sent_since_link_broke() -> None:
    """A job that is still in flight from here is not sent again."""
    log = ScriptedLog()
    harness = Harness(confirming(), "s1", "s2", reads_log=True)
    task = asyncio.create_task(harness.shell.run(log, log, always))
    harness.publisher.automatic.pop("charge.substations")
    harness.queue.bring(body("j1", "s1"), "j1")
    await turns()
    [on_its_way] = harness.publisher.to(topology.SUBSTATIONS_EXCHANGE)
    harness.queue.break_link()
    harness.read_events(Event(State.ASSIGNED, AT + 5, "j1", "s2", 1))
    harness.queue.bring(body("j1", "s1"), "j1", again=True)
    log.read.set()
    await turns(20)
    assert not on_its_way.wanted()
    assert harness.publisher.routed() == [("j1", "s1"), ("j1", "s2")]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_core_does_not_drop_new_request_as_parked_before() -> None:
    """Its sender has corrected it: it fits nowhere now, is requeued, and is delivered again."""
    harness = Harness(confirming(), "s1")
    harness.read_events(
        Event(State.QUEUED, AT - 50, "j1", detail={"id": "j1", "requested_at": AT - 50}),
        Event(State.PARKED, AT - 40, "j1", reason="needs too much"),
        Event(State.QUEUED, AT - 1, "j1", detail={"id": "j1", "requested_at": AT - 1}),
    )
    harness.fail_page("s1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.now += MAX_HELD_SECONDS + 1
    harness.shell.tick()
    await turns()
    [copy] = harness.publisher.to(topology.REQUESTS)
    harness.arrive("s1")
    harness.queue.bring(copy.body, "j1", headers=copy.headers)
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]


@pytest.mark.parametrize("headers", [COPY, None], ids=["a copy", "delivered again"])
async def test_core_sends_nothing_elsewhere_for_one_unreadable_page(
    headers: dict[str, object] | None,
) -> None:
    harness = Harness(confirming(), "s1", "s2")
    harness.read_events(QUEUED, AT_S1)
    harness.read_events(CHARGING_S1, writer=provenance.substation_writer("s1"))
    harness.fail_page("s1", "no answer in 0.4 s")
    harness.queue.bring(body("j1"), "j1", headers=headers, again=headers is None)
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]


async def test_core_resends_to_substation_that_has_left() -> None:
    """It may have the job, so the job is sent to its old queue."""
    harness = Harness(confirming(), "s1", "s2")
    harness.tracker.keep({"s2": None})
    harness.shell.feed(RecordedJobMissing(ChargeRequest("j1", AT - 1), "s1", 0))
    harness.route()
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]


async def test_core_resends_job_in_doubt_to_substation_that_leaves() -> None:
    harness = Harness(confirming(), "s1", "s2")
    harness.publisher.automatic.pop("charge.substations")
    harness.queue.bring(body("j1", "s1"), "j1")
    await turns()
    harness.certain = False
    harness.publisher.answer(topology.SUBSTATIONS_EXCHANGE, Outcome.ABANDONED)
    await turns()
    harness.tracker.keep({"s2": None})
    harness.certain = True
    harness.shell.tick()
    await turns()
    assert harness.publisher.routed() == [("j1", "s1"), ("j1", "s1")]
