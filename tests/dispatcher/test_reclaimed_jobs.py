"""A job taken back from a substation goes the way of a request, and is never nowhere."""

from __future__ import annotations

import pytest

from dispatcher.core import DEPARTED, MALFORMED
from dispatcher.jobs import RECLAIMED_HEADER
from dispatcher.requeue_overflow import MAX_HELD_SECONDS, RECLAIMED_SECONDS
from grid import topology
from grid.amqp import Outcome
from grid.events import Event, State
from scheduling.impossible import NO_SUCH_SUBSTATION
from tests.dispatcher.harness import AT, SUBSTATIONS, Bench, body, confirming
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")


def recording() -> FakePublisher:
    """Make a publisher whose broker takes every event, and leaves the rest to be answered."""
    return FakePublisher(charge_events=Outcome.CONFIRMED)


def with_s1_dead(publisher: FakePublisher, *others: str) -> Bench:
    """Make a bench where the jobs of one substation are to be taken back."""
    bench = Bench(publisher, "s1", *others, connectors=2)
    bench.lose("s1")
    return bench


async def test_core_sends_reclaimed_job_where_another_dispatcher_moved_it() -> None:
    """That dispatcher ended before the copy in the dead substation's queue was acknowledged."""
    for _ in range(5):
        bench = Bench(confirming(), "s1", "s2", "s3")
        bench.tell(
            Event(State.ASSIGNED, AT, job="j1", substation="s1", attempt=1),
            Event(State.ASSIGNED, AT + 1, job="j1", substation="s2", attempt=2),
        )
        bench.lose("s1")
        bench.read("s2", load=2)
        assert bench.reclaim.bring("s1", body("j1"), "j1")
        await turns()
        assert bench.publisher.routed() == [("j1", "s2")]
        assert bench.reclaim.acked == [1]


async def test_core_acknowledges_reclaimed_job_once_it_is_elsewhere() -> None:
    """Until RabbitMQ has it in another queue, it stays in the one it was reclaimed from."""
    bench = with_s1_dead(recording(), "s2")
    assert bench.reclaim.bring("s1", body("j1"), "j1")
    await turns()
    assert bench.publisher.routed() == [("j1", "s2")]
    assert bench.reclaim.acked == []
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert bench.reclaim.acked == [1]
    (event,) = bench.publisher.events()
    assert (event.kind, event.substation, event.attempt) == (State.ASSIGNED, "s2", 2)


async def test_core_sends_reclaimed_job_that_it_had_sent_itself() -> None:
    """That it is known as sent must not end it: nobody consumes it where it is."""
    bench = Bench(confirming(), "s1", "s2")
    bench.queue.bring(body("j1", "s1", "s2"), "j1")
    await turns()
    ((_, first),) = bench.publisher.routed()
    bench.lose(first)
    assert bench.reclaim.bring(first, body("j1", "s1", "s2"), "j1")
    await turns()
    (_, (_, second)) = bench.publisher.routed()
    assert second != first
    assert bench.reclaim.acked == [1]


async def test_core_acknowledges_reclaimed_copy_of_job_sent_elsewhere_since() -> None:
    """Another substation has the job, so this copy is not needed."""
    bench = Bench(confirming(), "s1", "s2")
    bench.queue.bring(body("j1", "s2"), "j1")
    await turns()
    assert bench.reclaim.bring("s1", body("j1", "s2"), "j1")
    await turns()
    assert bench.reclaim.acked == [1]
    assert len(bench.publisher.routed()) == 1


async def test_core_requeues_reclaimed_job_that_is_being_sent_there() -> None:
    """It may be the message whose confirm is still to come: acknowledged, it would be lost."""
    bench = Bench(recording(), "s1", "s2")
    bench.queue.bring(body("j1", "s1"), "j1")
    await turns()
    assert not bench.reclaim.bring("s1", body("j1", "s1"), "j1")
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert bench.queue.acked == [1]
    assert bench.reclaim.acked == []


async def test_core_acknowledges_reclaimed_copy_of_waiting_job() -> None:
    """It is in the queue of requests still; its copy must not keep those behind it stranded.

    Given back each time it is met, it would end in charge.parked.
    """
    bench = with_s1_dead(confirming(), "s2")
    bench.read("s2", load=2)
    bench.queue.bring(body("j1"), "j1", again=True)
    await turns()
    assert bench.reclaim.bring("s1", body("j1"), "j1")
    assert bench.reclaim.bring("s1", body("j2"), "j2")
    assert bench.reclaim.bring("s1", body("j2"), "j2"), "a second copy in the same queue"
    await turns()
    assert bench.reclaim.acked == [1, 3]
    bench.read("s2", load=0)
    await turns()
    assert bench.publisher.routed() == [("j1", "s2"), ("j2", "s2")]
    assert bench.queue.acked == [1]
    assert bench.reclaim.acked == [1, 3, 2]


async def test_core_requeues_reclaimed_jobs_before_begin_and_after_stop() -> None:
    """Controls and sessions are not known before, and no longer matter after."""
    bench = Bench(confirming(), "s1", "s2", begun=False)
    bench.lose("s1")
    assert not bench.reclaim.bring("s1", body("j1"), "j1")
    assert not bench.reclaim.bring("s1", b"?", "bad")
    bench.begin()
    assert bench.reclaim.bring("s1", body("j1"), "j1")
    await turns()
    await bench.shell.stop()
    assert not bench.reclaim.bring("s1", body("j2"), "j2")
    assert bench.publisher.to(topology.PARKED) == []


async def test_core_holds_reclaimed_job_until_there_is_capacity() -> None:
    """Taken back before another substation has room, it is held, and goes when there is some."""
    bench = with_s1_dead(confirming(), "s2")
    bench.read("s2", load=2)
    assert bench.reclaim.bring("s1", body("j1"), "j1")
    await turns()
    assert bench.core.waiting == 1
    assert bench.reclaim.acked == []
    bench.read("s2", load=1)
    await turns()
    assert bench.publisher.routed() == [("j1", "s2")]
    assert bench.reclaim.acked == [1]


async def test_core_invalidates_baseline_of_reclaimed_jobs_substation() -> None:
    """Its counters do not show how many of the jobs sent there were reclaimed."""
    bench = with_s1_dead(confirming(), "s2")
    assert bench.tracker.unsynced() == []
    bench.reclaim.bring("s1", body("j1"), "j1")
    assert bench.tracker.unsynced() == ["s1"]


async def test_core_parks_reclaimed_message_that_it_cannot_process() -> None:
    """A malformed message, and a job that no substation can take, are parked."""
    bench = with_s1_dead(recording(), "s2")
    assert bench.reclaim.bring("s1", b"?", "bad")
    assert bench.reclaim.bring("s1", body("j1", "s9"), "j1")
    await turns()
    assert bench.reclaim.acked == []
    for _ in range(2):
        bench.publisher.answer(topology.PARKED)
    await turns()
    assert bench.reclaim.acked == [1, 2]
    assert bench.queue.acked == []
    assert bench.count("parked_total", reason=MALFORMED) == 1
    assert bench.count("parked_total", reason=NO_SUCH_SUBSTATION) == 1


async def test_core_expires_reclaimed_job_that_has_departed() -> None:
    """Its vehicle has left while the job waited at the dead substation."""
    bench = with_s1_dead(FakePublisher(), "s2")
    bench.reclaim.bring("s1", body("j1", departure_time=AT), "j1")
    await turns()
    (event,) = bench.publisher.events()
    assert (event.kind, event.attempt, event.reason) == (State.EXPIRED, 1, DEPARTED)
    assert bench.reclaim.acked == []
    bench.publisher.answer(topology.EVENTS)
    await turns()
    assert bench.reclaim.acked == [1]
    assert bench.reclaim.bring("s1", body("j1", departure_time=AT), "j1")
    await turns()
    assert bench.reclaim.acked == [1, 2], "a second copy has ended with it"


async def test_core_forgets_waiting_reclaimed_job_when_its_link_breaks() -> None:
    """RabbitMQ has it in the substation's queue, from which it is reclaimed again."""
    bench = with_s1_dead(confirming(), "s2")
    bench.read("s2", load=2)
    bench.reclaim.bring("s1", body("j1"), "j1")
    assert [str(each.id) for _, each in bench.reclaim.break_link()] == ["j1"]
    assert bench.core.waiting == 0
    bench.read("s2", load=0)
    await turns()
    assert bench.publisher.routed() == []
    bench.reclaim.bring("s1", body("j1"), "j1")
    await turns()
    assert bench.publisher.routed() == [("j1", "s2")]
    assert bench.reclaim.acked == [2]


async def test_core_keeps_jobs_of_the_link_that_did_not_break() -> None:
    """Requests wait on when the link of reclaimed jobs breaks, and the other way round."""
    bench = with_s1_dead(confirming(), "s2")
    bench.read("s2", load=2)
    bench.queue.bring(body("request", "s2"), "request")
    bench.reclaim.bring("s1", body("rescued", "s2"), "rescued")
    await turns()
    bench.reclaim.break_link()
    assert bench.core.waiting == 1
    bench.reclaim.bring("s1", body("rescued", "s2"), "rescued")
    bench.queue.break_link()
    assert bench.core.waiting == 1
    bench.read("s2", load=1)
    await turns()
    assert bench.publisher.routed() == [("rescued", "s2")]
    assert bench.reclaim.acked == [2]


async def test_core_sends_reclaimed_job_once_when_link_breaks_meanwhile() -> None:
    """Its copy at the dead substation is acknowledged when it is reclaimed again."""
    bench = with_s1_dead(recording(), "s2")
    bench.reclaim.bring("s1", body("j1"), "j1")
    await turns()
    bench.reclaim.break_link()
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert bench.reclaim.acked == []
    assert bench.reclaim.bring("s1", body("j1"), "j1")
    await turns()
    assert bench.reclaim.acked == [2]
    assert bench.publisher.routed() == [("j1", "s2")]


async def test_core_acknowledges_new_delivery_of_reclaimed_job_in_flight() -> None:
    """It is the same job: it is sent once, and leaves its queue after the confirm."""
    bench = with_s1_dead(recording(), "s2")
    bench.reclaim.bring("s1", body("j1"), "j1")
    await turns()
    bench.reclaim.break_link()
    assert bench.reclaim.bring("s1", body("j1"), "j1")
    await turns()
    assert bench.reclaim.acked == []
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert bench.publisher.routed() == [("j1", "s2")]
    assert bench.reclaim.acked == [2]


async def test_core_forgets_reclaimed_job_refused_after_link_broke() -> None:
    """It is still in the queue of the dead substation, and is reclaimed again."""
    bench = with_s1_dead(recording(), "s2", "s3")
    bench.reclaim.bring("s1", body("j1"), "j1")
    await turns()
    bench.reclaim.break_link()
    bench.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert bench.core.waiting == 0
    assert bench.reclaim.bring("s1", body("j1"), "j1")
    await turns()
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert bench.reclaim.acked == [2]


async def test_core_expires_reclaimed_job_once_when_link_breaks() -> None:
    """Its end is recorded once, and its copy acknowledged afterwards."""
    bench = with_s1_dead(FakePublisher(), "s2")
    bench.reclaim.bring("s1", body("j1", departure_time=AT), "j1")
    await turns()
    bench.reclaim.break_link()
    bench.publisher.answer(topology.EVENTS)
    assert bench.reclaim.bring("s1", body("j1", departure_time=AT), "j1")
    await turns()
    assert bench.reclaim.acked == [2]
    assert len(bench.publisher.events(State.EXPIRED)) == 1


async def test_core_parks_reclaimed_job_again_when_link_breaks() -> None:
    """The confirm acknowledges no void delivery; parked twice is not lost."""
    bench = with_s1_dead(recording(), "s2")
    bench.reclaim.bring("s1", b"?", "bad")
    bench.reclaim.break_link()
    bench.publisher.answer(topology.PARKED)
    await turns()
    assert bench.reclaim.acked == []
    assert bench.reclaim.bring("s1", b"?", "bad")
    bench.publisher.answer(topology.PARKED)
    await turns()
    assert bench.reclaim.acked == [2]


async def test_core_requeues_waiting_reclaimed_jobs_for_active_dispatcher() -> None:
    """Another dispatcher is active: the jobs go back to their queues, and are forgotten here."""
    bench = with_s1_dead(recording(), "s2")
    bench.read("s2", load=2)
    bench.queue.bring(body("mine"), "mine")
    assert bench.reclaim.bring("s1", body("j1"), "j1")
    assert [each.id for each in bench.work.return_reclaimed()] == ["j1"]
    assert bench.work.in_hand().jobs == {"mine"}
    bench.read("s2", load=0)
    await turns()
    assert "j1" not in bench.routed()


async def test_core_requeues_reclaimed_job_as_request() -> None:
    """Held for long, it goes to charge.requests, and only then leaves the substation's queue."""
    bench = with_s1_dead(recording(), "s2")
    bench.read("s2", load=2)
    bench.reclaim.bring("s1", body("j1"), "j1")
    bench.now += MAX_HELD_SECONDS
    bench.shell.tick()
    assert [each.body for each in bench.publisher.to(topology.REQUESTS)] == [body("j1")]
    assert bench.reclaim.acked == []
    bench.publisher.answer(topology.REQUESTS)
    await turns()
    assert bench.reclaim.acked == [1]
    bench.queue.bring(body("j1"), "j1")
    bench.read("s2", load=0)
    await turns()
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert bench.publisher.routed() == [("j1", "s2")]
    assert bench.queue.acked == [1]


async def test_core_sends_reclaimed_only_copy_despite_its_own_memory() -> None:
    """What is remembered here may be old: acknowledged as a copy, the job would be lost."""
    bench = Bench(confirming(), "s1", "s2", "s3")
    bench.queue.bring(body("j1", "s1"), "j1")
    await turns()
    assert bench.publisher.routed() == [("j1", "s1")]
    for at, where in ((AT, "s1"), (AT + 5, "s2")):  # the second is what another one did
        bench.tell(Event(State.ASSIGNED, at, job="j1", substation=where, attempt=2))
    bench.lose("s2")
    assert bench.reclaim.bring("s2", body("j1", "s1", "s3"), "j1")
    assert bench.reclaim.acked == []
    await turns()
    assert len(bench.publisher.routed()) == 2
    assert bench.reclaim.acked == [1]


async def test_core_ignores_late_events_about_reclaimed_copy() -> None:
    """That the job was here before it was sent on does not mean that it is here."""
    bench = Bench(confirming(), "s1", "s2")
    bench.queue.bring(body("j1", "s2"), "j1")
    await turns()
    bench.tell(Event(State.ASSIGNED, AT - 5, job="j1", substation="s1", attempt=1))
    assert bench.reclaim.bring("s1", body("j1", "s2"), "j1")
    await turns()
    assert bench.reclaim.acked == [1]
    assert len(bench.publisher.routed()) == 1


async def test_core_acknowledges_reclaimed_copy_of_refused_job() -> None:
    """The job waits here for capacity; its copy, requeued each second, would end up parked."""
    bench = Bench(recording(), "s1", "s2")
    bench.read("s2", load=10)
    bench.queue.bring(body("j1"), "j1", again=True)
    await turns()
    assert bench.publisher.routed() == [("j1", "s1")]
    bench.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert bench.core.waiting == 1
    assert bench.reclaim.bring("s1", body("j1"), "j1")
    await turns()
    assert bench.reclaim.acked == [1]


async def test_core_requeues_reclaimed_jobs_that_allow_only_the_dead_substation() -> None:
    """Only so many are in hand at once, so these wait in charge.requests."""
    bench = with_s1_dead(recording(), "s2")
    bench.reclaim.bring("s1", body("pinned", "s1"), "pinned")
    await turns()
    bench.now += RECLAIMED_SECONDS - 0.5
    bench.shell.tick()
    assert bench.publisher.to(topology.REQUESTS) == []
    bench.now += 1.5
    bench.shell.tick()
    bench.publisher.answer(topology.REQUESTS)
    await turns()
    assert bench.reclaim.acked == [1]
    headers = bench.publisher.headers["pinned"]
    assert headers[RECLAIMED_HEADER] == "s1"
    bench.queue.bring(body("pinned", "s1"), "pinned", headers=headers)
    bench.now += 10 * RECLAIMED_SECONDS
    bench.shell.tick()
    assert len(bench.publisher.to(topology.REQUESTS)) == 1, "it does not go round and round"
    bench.read("s1")
    bench.tracker.ask_depth("s1")
    bench.tracker.depth("s1", 0, bench.now)
    bench.read("s1")
    await turns()
    assert bench.publisher.routed() == [("pinned", "s1")]


async def test_core_keeps_reclaimed_jobs_in_hand_while_all_are_full() -> None:
    """Behind all others in charge.requests, the oldest would be served last."""
    bench = with_s1_dead(recording(), "s2")
    bench.read("s2", load=2)
    bench.reclaim.bring("s1", body("j1"), "j1")
    await turns()
    bench.now += 2 * RECLAIMED_SECONDS
    bench.shell.tick()
    assert bench.publisher.to(topology.REQUESTS) == []


async def test_core_sends_request_that_another_dispatcher_reclaimed() -> None:
    """It arrives in charge.requests under a known id; once sent on, it is a copy again."""
    bench = Bench(confirming(), "s1", "s2")
    bench.queue.bring(body("j1", "s1"), "j1")
    await turns()
    bench.lose("s1")
    for _ in range(2):
        bench.queue.bring(body("j1"), "j1", headers={RECLAIMED_HEADER: "s1"})
        await turns()
    assert bench.publisher.routed() == [("j1", "s1"), ("j1", "s2")]
    assert sorted(bench.queue.acked) == [1, 2, 3]
