"""A job reclaimed from a substation is handled like a request, and never lost."""

from __future__ import annotations

import pytest

from dispatcher.commands import Requeue
from dispatcher.inputs import ReclaimDue
from dispatcher.jobs import RECLAIMED_HEADER
from dispatcher.lifecycle import DEPARTED, MALFORMED
from dispatcher.requeue_overflow import MAX_HELD_SECONDS, RECLAIMED_SECONDS
from grid import topology
from grid.amqp import Outcome
from grid.events import Event, State
from scheduling.reasons import NO_SUCH_SUBSTATION
from tests.dispatcher.harness import AT, SUBSTATIONS, Harness, body, confirming
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")


def recording() -> FakePublisher:
    """Make a publisher whose broker takes every event, and leaves the rest to be answered."""
    return FakePublisher(charge_events=Outcome.CONFIRMED)


def with_s1_dead(publisher: FakePublisher, *others: str) -> Harness:
    """Return a harness where the jobs of s1 are to be reclaimed."""
    harness = Harness(publisher, "s1", *others, connectors=2)
    harness.read_older_events()
    harness.fail_page("s1")
    return harness


async def test_core_sends_reclaimed_job_where_another_dispatcher_moved_it() -> None:
    """That dispatcher ended before the copy in the dead substation's queue was acknowledged."""
    for _ in range(5):
        harness = Harness(confirming(), "s1", "s2", "s3")
        harness.read_events(
            Event(State.ASSIGNED, AT, job="j1", substation="s1", attempt=1),
            Event(State.ASSIGNED, AT + 1, job="j1", substation="s2", attempt=2),
        )
        harness.fail_page("s1")
        harness.read("s2", load=2)
        assert harness.reclaim.deliver("s1", body("j1"), "j1")
        await turns()
        assert harness.publisher.routed() == [("j1", "s2")]
        assert harness.reclaim.acked == [1]


async def test_core_acknowledges_reclaimed_job_once_it_is_elsewhere() -> None:
    """Until RabbitMQ has it in another queue, it stays in the one it was reclaimed from."""
    harness = with_s1_dead(recording(), "s2")
    assert harness.reclaim.deliver("s1", body("j1"), "j1")
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    assert harness.reclaim.acked == []
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert harness.reclaim.acked == [1]
    (event,) = harness.publisher.events()
    assert (event.kind, event.substation, event.attempt) == (State.ASSIGNED, "s2", 2)


async def test_core_sends_reclaimed_job_that_it_had_sent_itself() -> None:
    """That it is known as sent must not end it: nobody consumes it where it is."""
    harness = Harness(confirming(), "s1", "s2")
    harness.queue.bring(body("j1", "s1", "s2"), "j1")
    await turns()
    ((_, first),) = harness.publisher.routed()
    harness.fail_page(first)
    assert harness.reclaim.deliver(first, body("j1", "s1", "s2"), "j1")
    await turns()
    (_, (_, second)) = harness.publisher.routed()
    assert second != first
    assert harness.reclaim.acked == [1]


async def test_core_acknowledges_reclaimed_copy_of_job_sent_elsewhere_since() -> None:
    """Another substation has the job, so this copy is not needed."""
    harness = Harness(confirming(), "s1", "s2")
    harness.queue.bring(body("j1", "s2"), "j1")
    await turns()
    assert harness.reclaim.deliver("s1", body("j1", "s2"), "j1")
    await turns()
    assert harness.reclaim.acked == [1]
    assert len(harness.publisher.routed()) == 1


async def test_core_requeues_reclaimed_job_that_is_being_sent_there() -> None:
    """It may be the message whose confirm is still to come: acknowledged, it would be lost."""
    harness = Harness(recording(), "s1", "s2")
    harness.queue.bring(body("j1", "s1"), "j1")
    await turns()
    assert not harness.reclaim.deliver("s1", body("j1", "s1"), "j1")
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert harness.queue.acked == [1]
    assert harness.reclaim.acked == []


async def test_core_requeues_reclaimed_jobs_before_begin_and_after_stop() -> None:
    """Controls and sessions are not known before, and no longer matter after."""
    harness = Harness(confirming(), "s1", "s2", begun=False)
    harness.fail_page("s1")
    assert not harness.reclaim.deliver("s1", body("j1"), "j1")
    assert not harness.reclaim.deliver("s1", b"?", "bad")
    harness.begin()
    assert harness.reclaim.deliver("s1", body("j1"), "j1")
    await turns()
    await harness.shell.stop()
    assert not harness.reclaim.deliver("s1", body("j2"), "j2")
    assert harness.publisher.to(topology.PARKED) == []


async def test_core_holds_reclaimed_job_until_there_is_capacity() -> None:
    """It was reclaimed before another substation had capacity, and is sent when one has."""
    harness = with_s1_dead(confirming(), "s2")
    harness.read("s2", load=2)
    assert harness.reclaim.deliver("s1", body("j1"), "j1")
    await turns()
    assert harness.core.waiting == 1
    assert harness.reclaim.acked == []
    harness.read("s2", load=1)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    assert harness.reclaim.acked == [1]


async def test_core_invalidates_baseline_of_reclaimed_jobs_substation() -> None:
    """Its counters do not show how many of the jobs sent there were reclaimed."""
    harness = with_s1_dead(confirming(), "s2")
    assert harness.tracker.unsynced() == []
    harness.reclaim.deliver("s1", body("j1"), "j1")
    assert harness.tracker.unsynced() == ["s1"]


async def test_core_parks_reclaimed_message_that_it_cannot_process() -> None:
    """A malformed message, and a job that no substation can take, are parked."""
    harness = with_s1_dead(recording(), "s2")
    assert harness.reclaim.deliver("s1", b"?", "bad")
    assert harness.reclaim.deliver("s1", body("j1", "s9"), "j1")
    await turns()
    assert harness.reclaim.acked == []
    for _ in range(2):
        harness.publisher.answer(topology.PARKED)
    await turns()
    assert harness.reclaim.acked == [1, 2]
    assert harness.queue.acked == []
    assert harness.count("parked_total", reason=MALFORMED) == 1
    assert harness.count("parked_total", reason=NO_SUCH_SUBSTATION) == 1


async def test_core_expires_reclaimed_job_that_has_departed() -> None:
    """Its vehicle has left while the job waited at the dead substation."""
    harness = with_s1_dead(FakePublisher(), "s2")
    harness.reclaim.deliver("s1", body("j1", departure_time=AT), "j1")
    await turns()
    (event,) = harness.publisher.events()
    assert (event.kind, event.attempt, event.reason) == (State.EXPIRED, 1, DEPARTED)
    assert harness.reclaim.acked == []
    harness.publisher.answer(topology.EVENTS)
    await turns()
    assert harness.reclaim.acked == [1]
    assert harness.reclaim.deliver("s1", body("j1", departure_time=AT), "j1")
    await turns()
    assert harness.reclaim.acked == [1, 2], "a second copy has ended with it"


async def test_core_forgets_waiting_reclaimed_job_when_its_link_breaks() -> None:
    """RabbitMQ has it in the substation's queue, from which it is reclaimed again."""
    harness = with_s1_dead(confirming(), "s2")
    harness.read("s2", load=2)
    harness.reclaim.deliver("s1", body("j1"), "j1")
    assert [str(each.id) for _, each in harness.reclaim.break_link()] == ["j1"]
    assert harness.core.waiting == 0
    harness.read("s2", load=0)
    await turns()
    assert harness.publisher.routed() == []
    harness.reclaim.deliver("s1", body("j1"), "j1")
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    assert harness.reclaim.acked == [2]


async def test_core_keeps_jobs_of_the_link_that_did_not_break() -> None:
    """Requests wait on when the link of reclaimed jobs breaks, and the other way round."""
    harness = with_s1_dead(confirming(), "s2")
    harness.read("s2", load=2)
    harness.queue.bring(body("request", "s2"), "request")
    harness.reclaim.deliver("s1", body("rescued", "s2"), "rescued")
    await turns()
    harness.reclaim.break_link()
    assert harness.core.waiting == 1
    harness.reclaim.deliver("s1", body("rescued", "s2"), "rescued")
    harness.queue.break_link()
    assert harness.core.waiting == 1
    harness.read("s2", load=1)
    await turns()
    assert harness.publisher.routed() == [("rescued", "s2")]
    assert harness.reclaim.acked == [2]


async def test_core_sends_reclaimed_job_once_when_link_breaks_meanwhile() -> None:
    """Its copy at the dead substation is acknowledged when it is reclaimed again."""
    harness = with_s1_dead(recording(), "s2")
    harness.reclaim.deliver("s1", body("j1"), "j1")
    await turns()
    harness.reclaim.break_link()
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert harness.reclaim.acked == []
    assert harness.reclaim.deliver("s1", body("j1"), "j1")
    await turns()
    assert harness.reclaim.acked == [2]
    assert harness.publisher.routed() == [("j1", "s2")]


async def test_core_acknowledges_new_delivery_of_reclaimed_job_in_flight() -> None:
    """It is the same job: it is sent once, and leaves its queue after the confirm."""
    harness = with_s1_dead(recording(), "s2")
    harness.reclaim.deliver("s1", body("j1"), "j1")
    await turns()
    harness.reclaim.break_link()
    assert harness.reclaim.deliver("s1", body("j1"), "j1")
    await turns()
    assert harness.reclaim.acked == []
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    assert harness.reclaim.acked == [2]


async def test_core_forgets_reclaimed_job_refused_after_link_broke() -> None:
    """It is still in the queue of the dead substation, and is reclaimed again."""
    harness = with_s1_dead(recording(), "s2", "s3")
    harness.reclaim.deliver("s1", body("j1"), "j1")
    await turns()
    harness.reclaim.break_link()
    harness.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert harness.core.waiting == 0
    assert harness.reclaim.deliver("s1", body("j1"), "j1")
    await turns()
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert harness.reclaim.acked == [2]


async def test_core_expires_reclaimed_job_once_when_link_breaks() -> None:
    """Its end is recorded once, and its copy acknowledged afterwards."""
    harness = with_s1_dead(FakePublisher(), "s2")
    harness.reclaim.deliver("s1", body("j1", departure_time=AT), "j1")
    await turns()
    harness.reclaim.break_link()
    harness.publisher.answer(topology.EVENTS)
    assert harness.reclaim.deliver("s1", body("j1", departure_time=AT), "j1")
    await turns()
    assert harness.reclaim.acked == [2]
    assert len(harness.publisher.events(State.EXPIRED)) == 1


async def test_core_parks_reclaimed_job_again_when_link_breaks() -> None:
    """The confirm acknowledges no void delivery; parked twice is not lost."""
    harness = with_s1_dead(recording(), "s2")
    harness.reclaim.deliver("s1", b"?", "bad")
    harness.reclaim.break_link()
    harness.publisher.answer(topology.PARKED)
    await turns()
    assert harness.reclaim.acked == []
    assert harness.reclaim.deliver("s1", b"?", "bad")
    harness.publisher.answer(topology.PARKED)
    await turns()
    assert harness.reclaim.acked == [2]


async def test_core_requeues_waiting_reclaimed_jobs_for_active_dispatcher() -> None:
    """Another dispatcher is active: the jobs go back to their queues, and are forgotten here."""
    harness = with_s1_dead(recording(), "s2")
    harness.read("s2", load=2)
    harness.queue.bring(body("mine"), "mine")
    assert harness.reclaim.deliver("s1", body("j1"), "j1")
    commands = harness.shell.feed(ReclaimDue(is_fed=False))
    assert [each.delivery.id for each in commands if isinstance(each, Requeue)] == ["j1"]
    assert harness.in_hand().jobs == {"mine"}
    harness.read("s2", load=0)
    await turns()
    assert "j1" not in harness.routed()


async def test_core_requeues_reclaimed_job_as_request() -> None:
    """Held for long, it goes to charge.requests, and only then leaves the substation's queue."""
    harness = with_s1_dead(recording(), "s2")
    harness.read("s2", load=2)
    harness.reclaim.deliver("s1", body("j1"), "j1")
    harness.now += MAX_HELD_SECONDS
    harness.shell.tick()
    assert [each.body for each in harness.publisher.to(topology.REQUESTS)] == [body("j1")]
    assert harness.reclaim.acked == []
    harness.publisher.answer(topology.REQUESTS)
    await turns()
    assert harness.reclaim.acked == [1]
    harness.queue.bring(body("j1"), "j1")
    harness.read("s2", load=0)
    await turns()
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    assert harness.queue.acked == [1]


async def test_core_sends_reclaimed_only_copy_despite_its_own_memory() -> None:
    """What is remembered here may be old: acknowledged as a copy, the job would be lost."""
    harness = Harness(confirming(), "s1", "s2", "s3")
    harness.queue.bring(body("j1", "s1"), "j1")
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]
    for at, where in ((AT, "s1"), (AT + 5, "s2")):  # the second is what another one did
        harness.read_events(Event(State.ASSIGNED, at, job="j1", substation=where, attempt=2))
    harness.fail_page("s2")
    assert harness.reclaim.deliver("s2", body("j1", "s1", "s3"), "j1")
    assert harness.reclaim.acked == []
    await turns()
    assert len(harness.publisher.routed()) == 2
    assert harness.reclaim.acked == [1]


async def test_core_ignores_late_events_about_reclaimed_copy() -> None:
    """That the job was here before it was sent on does not mean that it is here."""
    harness = Harness(confirming(), "s1", "s2")
    harness.queue.bring(body("j1", "s2"), "j1")
    await turns()
    harness.read_events(Event(State.ASSIGNED, AT - 5, job="j1", substation="s1", attempt=1))
    assert harness.reclaim.deliver("s1", body("j1", "s2"), "j1")
    await turns()
    assert harness.reclaim.acked == [1]
    assert len(harness.publisher.routed()) == 1


async def test_core_requeues_reclaimed_jobs_that_allow_only_the_dead_substation() -> None:
    """Only so many are in hand at once, so these wait in charge.requests."""
    harness = with_s1_dead(recording(), "s2")
    harness.reclaim.deliver("s1", body("pinned", "s1"), "pinned")
    await turns()
    harness.now += RECLAIMED_SECONDS - 0.5
    harness.shell.tick()
    assert harness.publisher.to(topology.REQUESTS) == []
    harness.now += 1.5
    harness.shell.tick()
    harness.publisher.answer(topology.REQUESTS)
    await turns()
    assert harness.reclaim.acked == [1]
    headers = harness.publisher.headers["pinned"]
    assert headers[RECLAIMED_HEADER] == "s1"
    harness.queue.bring(body("pinned", "s1"), "pinned", headers=headers)
    harness.now += 10 * RECLAIMED_SECONDS
    harness.shell.tick()
    assert len(harness.publisher.to(topology.REQUESTS)) == 1, "it does not go round and round"
    harness.read("s1")
    harness.tracker.ask_depth("s1")
    harness.tracker.depth("s1", 0, harness.now)
    harness.read("s1")
    await turns()
    assert harness.publisher.routed() == [("pinned", "s1")]


async def test_core_keeps_reclaimed_jobs_in_hand_while_all_are_full() -> None:
    """Behind all others in charge.requests, the oldest would be served last."""
    harness = with_s1_dead(recording(), "s2")
    harness.read("s2", load=2)
    harness.reclaim.deliver("s1", body("j1"), "j1")
    await turns()
    harness.now += 2 * RECLAIMED_SECONDS
    harness.shell.tick()
    assert harness.publisher.to(topology.REQUESTS) == []


async def test_core_sends_request_that_another_dispatcher_reclaimed() -> None:
    """It arrives in charge.requests under a known id; once sent on, it is a copy again."""
    harness = Harness(confirming(), "s1", "s2")
    harness.queue.bring(body("j1", "s1"), "j1")
    await turns()
    harness.fail_page("s1")
    for _ in range(2):
        harness.queue.bring(body("j1"), "j1", headers={RECLAIMED_HEADER: "s1"})
        await turns()
    assert harness.publisher.routed() == [("j1", "s1"), ("j1", "s2")]
    assert sorted(harness.queue.acked) == [1, 2, 3]
