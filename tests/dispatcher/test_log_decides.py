"""Where a published copy goes, the event log says: no header, nothing remembered, no late word."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher.jobs import COPY_HEADER, RECLAIMED_HEADER, JobsInHand
from dispatcher.open_jobs import OpenJobs
from dispatcher.queues import Whereabouts
from dispatcher.reconcile import MISSING_SECONDS
from dispatcher.requeue_overflow import MAX_HELD_SECONDS, RECLAIMED_SECONDS
from grid import kinds, provenance, topology
from grid.amqp import Outcome
from grid.events import REQUEUED, Event, State
from grid.messages import ChargeRequest
from tests.dispatcher.harness import AT, Bench, always, body, confirming
from tests.dispatcher.test_held import Log
from tests.dispatcher.test_reconcile import Bench as Reconciling
from tests.dispatcher.test_reconcile import accepted
from tests.fake_broker import turns

QUEUED = Event(State.QUEUED, AT, "j1", detail={"id": "j1"})
AT_S1 = Event(State.ASSIGNED, AT, "j1", "s1", 1)
CHARGING_S1 = Event(State.CHARGING, AT + 1, "j1", "s1", 1)
ENDED_S1 = Event(State.COMPLETED, AT + 5, "j1", "s1")
COPY = {COPY_HEADER: True}
FROM_S1 = {COPY_HEADER: True, RECLAIMED_HEADER: "s1"}


def requeued(read_to: int) -> Event:
    """Return the record that j1 was set back, though it had been sent to s1."""
    return kinds.requeued("j1", AT + 1, "s1", read_to)


def older(*told: Event) -> OpenJobs:
    """Return what the part of the log tells that a dispatcher reads last."""
    jobs = OpenJobs(complete=True)
    for offset, event in enumerate(told):
        jobs.take(event, offset)
    return jobs


async def test_copy_of_a_job_that_ended_in_the_older_part_of_the_log_is_dropped() -> None:
    bench = Bench(confirming(), "s1", "s2")
    bench.open_jobs.absorb(older(QUEUED, AT_S1, CHARGING_S1, ENDED_S1))
    tag = bench.queue.bring(body("j1"), "j1", headers=COPY)
    await turns()
    assert bench.publisher.routed() == []
    assert bench.queue.acked == [tag]


async def test_late_record_of_a_set_back_does_not_send_a_copy_elsewhere() -> None:
    """The job went on to another substation since its writer had read the log."""
    bench = Bench(confirming(), "s2", "s3")
    bench.tell(QUEUED, AT_S1, Event(State.ASSIGNED, AT + 1, "j1", "s2", 2))
    charging = Event(State.CHARGING, AT + 1, "j1", "s2", 1)
    bench.tell(charging, writer=provenance.substation_writer("s2"))
    bench.tell(requeued(read_to=2))
    bench.queue.bring(body("j1"), "j1", headers=FROM_S1)
    await turns()
    assert bench.publisher.routed() == [("j1", "s2")]


async def test_copy_of_a_set_back_goes_where_an_earlier_copy_of_it_went() -> None:
    """RabbitMQ may have two: the link broke over the first. That substation knows the second."""
    bench = Bench(confirming(), "s1", "s2")
    bench.tell(QUEUED, AT_S1, requeued(read_to=2))
    bench.read("s2", 3)  # s1, which is back, is the least loaded
    bench.queue.bring(body("j1"), "j1", headers=FROM_S1)
    await turns()
    bench.tell(*bench.publisher.events(State.ASSIGNED))
    bench.read("s1", 1)
    bench.read("s2", 0)
    bench.queue.bring(body("j1"), "j1", headers=FROM_S1)
    await turns()
    assert bench.publisher.routed() == [("j1", "s1"), ("j1", "s1")]


async def test_copy_is_not_dropped_for_what_this_dispatcher_remembers() -> None:
    """It had sent the job; another one took it back, and its queue was purged."""
    bench = Bench(confirming(), "s1", "s2")
    bench.queue.bring(body("j1", "s1", "s2"), "j1")
    await turns()
    [(_, first)] = bench.publisher.routed()
    bench.tell(QUEUED, *bench.publisher.events(State.ASSIGNED))
    bench.tell(kinds.requeued("j1", AT + 1, first, 9))
    bench.queue.bring(body("j1", "s1", "s2"), "j1", headers=COPY)
    await turns()
    assert len(bench.publisher.routed()) == 2


async def test_set_back_whose_delivery_went_with_the_link_is_not_on_record() -> None:
    """The job is where it was again: its copy goes there too, which knows it."""
    bench = Bench(confirming(), "s1", "s2", "s3")
    job = body("j1", "s1", "s3")
    bench.tell(QUEUED, AT_S1)
    bench.lose("s1")
    bench.lose("s3")  # it fits nowhere; s2 has room for others
    assert bench.reclaim.bring("s1", job, "j1")
    bench.now += RECLAIMED_SECONDS + 1
    bench.publisher.automatic.pop("charge.requests", None)
    bench.shell.tick()
    await turns()
    [copy] = bench.publisher.to(topology.REQUESTS)
    bench.reclaim.break_link()
    assert not copy.wanted()  # should its own link break as well
    bench.publisher.answer(topology.REQUESTS)
    await turns()
    assert bench.publisher.events(REQUEUED) == []
    bench.arrive("s1")
    bench.arrive("s3")
    bench.tell(CHARGING_S1, writer=provenance.substation_writer("s1"))
    bench.queue.bring(job, "j1", headers=copy.headers)
    await turns()
    assert bench.publisher.routed() == [("j1", "s1")]


async def test_reconciled_job_is_on_record_as_set_back() -> None:
    """Else the next dispatcher would send it where it was, while its copy waits."""
    bench = Reconciling(accepted("j1"), AT_S1)
    bench.where["s1"] = Whereabouts.GONE
    assert await bench.after(MISSING_SECONDS) == ["j1"]
    assert bench.requeued == [("j1", "s1", 2)]


async def test_copy_of_a_reconciled_job_goes_where_it_was_sent_once_more() -> None:
    """The record that it was set back came too late, or never."""
    bench = Bench(confirming(), "s1", "s2")
    bench.tell(QUEUED, AT_S1)
    bench.work.send_recorded(ChargeRequest("j1", AT - 1), "s1", 0)
    bench.route()
    await turns()
    bench.tell(CHARGING_S1, writer=provenance.substation_writer("s1"))
    bench.read("s1", 1)
    bench.queue.bring(body("j1"), "j1", headers=FROM_S1)
    await turns()
    assert bench.publisher.routed() == [("j1", "s1"), ("j1", "s1")]


async def test_nothing_is_sent_once_more_on_a_log_that_is_read_anew() -> None:
    """What was read of it so far is what was, not what is."""
    log = [accepted("j1"), AT_S1, requeued(2), Event(State.ASSIGNED, AT + 3, "j1", "s2", 2)]
    bench = Reconciling(*log, Event(State.CHARGING, AT + 3, "j1", "s2", 1))
    for offset in (0, 1):
        bench.jobs.take(log[offset], offset)
    bench.unread = [(offset, event) for offset, event in enumerate(bench.log) if offset > 1]
    bench.where["s1"] = Whereabouts.NOT_BROUGHT
    await bench.after(MISSING_SECONDS)
    assert bench.again == []


async def test_job_that_is_sent_while_its_record_is_read_is_not_published() -> None:
    """It was only slow; the record that it is set back would take back what was decided since."""
    bench = Reconciling(accepted("j1"))
    bench.meanwhile = lambda: bench.jobs.take(AT_S1, 1)
    assert await bench.after(MISSING_SECONDS) == []
    assert bench.requeued == []


async def test_job_that_is_delivered_while_its_record_is_read_is_not_published() -> None:
    bench = Reconciling(accepted("j1"))

    def deliver() -> None:
        bench.hands = JobsInHand(frozenset({"j1"}), 0)

    bench.meanwhile = deliver
    assert await bench.after(MISSING_SECONDS) == []


async def test_decision_written_late_sends_nothing_where_it_was_to_go() -> None:
    """The job went on, and waits there: the clocks tell, though the log's order does not."""
    newer = Event(State.ASSIGNED, AT + 3, "j1", "s2", 2)
    bench = Reconciling(accepted("j1"), newer, AT_S1)
    bench.where["s1"] = Whereabouts.NOT_BROUGHT
    await bench.after(MISSING_SECONDS)
    assert bench.again == []


async def test_copy_goes_where_the_job_charges_whatever_is_written_late() -> None:
    bench = Bench(confirming(), "s1", "s2")
    charging = Event(State.CHARGING, AT + 4, "j1", "s2", 1)
    bench.tell(QUEUED, Event(State.ASSIGNED, AT + 3, "j1", "s2", 2))
    bench.tell(charging, writer=provenance.substation_writer("s2"))
    bench.tell(AT_S1)
    assert bench.open_jobs.charging_at("j1") == "s2"
    bench.queue.bring(body("j1"), "j1", headers=COPY)
    await turns()
    assert bench.publisher.routed() == [("j1", "s2")]


@pytest.mark.parametrize("headers", [COPY, None], ids=["a copy", "delivered again"])
async def test_request_whose_delivery_went_with_its_link_waits_for_the_log(
    headers: dict[str, object] | None,
) -> None:
    bench = Bench(confirming(), "s1", "s2", reads_log=True)
    bench.publisher.automatic.pop("charge.substations")  # RabbitMQ does not answer for the job
    bench.queue.bring(body("j1", "s1"), "j1")
    await turns()
    bench.queue.break_link()
    bench.queue.bring(body("j1", "s1"), "j1", headers=headers, again=headers is None)
    await turns()
    assert [each.id for each in bench.core.held] == ["j1"]


async def test_request_that_another_dispatcher_sent_since_its_link_broke_goes_there() -> None:
    """What is still on its way from here is not sent again."""
    log = Log()
    bench = Bench(confirming(), "s1", "s2", reads_log=True)
    task = asyncio.create_task(bench.shell.run(log, log, always))
    bench.publisher.automatic.pop("charge.substations")
    bench.queue.bring(body("j1", "s1"), "j1")
    await turns()
    [on_its_way] = bench.publisher.to(topology.SUBSTATIONS_EXCHANGE)
    bench.queue.break_link()
    bench.tell(Event(State.ASSIGNED, AT + 5, "j1", "s2", 1))
    bench.queue.bring(body("j1", "s1"), "j1", again=True)
    log.read.set()
    await turns(20)
    assert not on_its_way.wanted()
    assert bench.publisher.routed() == [("j1", "s1"), ("j1", "s2")]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_request_asked_for_anew_is_not_dropped_as_parked_before() -> None:
    """Its sender has mended it: what fits nowhere now is set back, and comes again."""
    bench = Bench(confirming(), "s1")
    bench.tell(
        Event(State.QUEUED, AT - 50, "j1", detail={"id": "j1", "requested_at": AT - 50}),
        Event(State.PARKED, AT - 40, "j1", reason="needs too much"),
        Event(State.QUEUED, AT - 1, "j1", detail={"id": "j1", "requested_at": AT - 1}),
    )
    bench.lose("s1")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    bench.now += MAX_HELD_SECONDS + 1
    bench.shell.tick()
    await turns()
    [copy] = bench.publisher.to(topology.REQUESTS)
    bench.arrive("s1")
    bench.queue.bring(copy.body, "j1", headers=copy.headers)
    await turns()
    assert bench.publisher.routed() == [("j1", "s1")]


@pytest.mark.parametrize("headers", [COPY, None], ids=["a copy", "delivered again"])
async def test_one_page_that_could_not_be_read_sends_nothing_elsewhere(
    headers: dict[str, object] | None,
) -> None:
    bench = Bench(confirming(), "s1", "s2")
    bench.tell(QUEUED, AT_S1)
    bench.tell(CHARGING_S1, writer=provenance.substation_writer("s1"))
    bench.lose("s1", "no answer in 0.4 s")
    bench.queue.bring(body("j1"), "j1", headers=headers, again=headers is None)
    await turns()
    assert bench.publisher.routed() == [("j1", "s1")]


async def test_substation_that_leaves_ends_no_dispatcher_that_sends_there_again() -> None:
    """It may have the job: it is sent to the queue there was."""
    bench = Bench(confirming(), "s1", "s2")
    bench.tracker.keep({"s2": None})
    bench.work.send_recorded(ChargeRequest("j1", AT - 1), "s1", 0)
    bench.route()
    await turns()
    assert bench.publisher.routed() == [("j1", "s1")]


async def test_job_in_doubt_at_a_substation_that_leaves_is_sent_there_again() -> None:
    bench = Bench(confirming(), "s1", "s2")
    bench.publisher.automatic.pop("charge.substations")
    bench.queue.bring(body("j1", "s1"), "j1")
    await turns()
    bench.certain = False
    bench.publisher.answer(topology.SUBSTATIONS_EXCHANGE, Outcome.ABANDONED)
    await turns()
    bench.tracker.keep({"s2": None})
    bench.certain = True
    bench.shell.tick()
    await turns()
    assert bench.publisher.routed() == [("j1", "s1"), ("j1", "s1")]
