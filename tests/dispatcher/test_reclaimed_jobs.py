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


async def test_dispatcher_sends_a_job_where_another_one_moved_it() -> None:
    """That one ended before the copy in the dead substation's queue was acknowledged."""
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


async def test_it_goes_elsewhere_and_is_acknowledged_once_it_is_there() -> None:
    """Until RabbitMQ has it in another queue, it stays in the one it was taken from."""
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


async def test_one_that_was_sent_from_here_is_taken_back_all_the_same() -> None:
    """That its job is known here must not end it: it waits where nobody takes it."""
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


async def test_the_copy_of_one_that_was_sent_elsewhere_since_is_acknowledged() -> None:
    """It is with another substation: there is nothing left to do for this copy."""
    bench = Bench(confirming(), "s1", "s2")
    bench.queue.bring(body("j1", "s2"), "j1")
    await turns()
    assert bench.reclaim.bring("s1", body("j1", "s2"), "j1")
    await turns()
    assert bench.reclaim.acked == [1]
    assert len(bench.publisher.routed()) == 1


async def test_one_that_is_being_sent_there_stays_there() -> None:
    """It may be the very one whose confirm is on its way: acknowledged, it would be nowhere."""
    bench = Bench(recording(), "s1", "s2")
    bench.queue.bring(body("j1", "s1"), "j1")
    await turns()
    assert not bench.reclaim.bring("s1", body("j1", "s1"), "j1")
    bench.publisher.answer(SUBSTATIONS)
    await turns()
    assert bench.queue.acked == [1]
    assert bench.reclaim.acked == []


async def test_the_copy_of_one_that_waits_here_is_acknowledged() -> None:
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


async def test_nothing_is_taken_back_before_it_begins_or_once_it_is_to_stop() -> None:
    """What operators have set, and what is charged where, is not known, or not for long."""
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


async def test_it_waits_for_room_like_any_request() -> None:
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


async def test_the_scale_of_its_substation_is_set_anew() -> None:
    """Its counters cannot tell how many of the jobs sent there were taken out again."""
    bench = with_s1_dead(confirming(), "s2")
    assert bench.tracker.unsynced() == []
    bench.reclaim.bring("s1", body("j1"), "j1")
    assert bench.tracker.unsynced() == ["s1"]


async def test_what_cannot_be_processed_is_parked_and_acknowledged_at_its_source() -> None:
    """A message that is no job, and a job that nobody can take, end where somebody can look."""
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


async def test_one_that_has_departed_expires_and_is_acknowledged_then() -> None:
    """It waited in vain until its vehicle left."""
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


async def test_a_link_that_breaks_while_it_waits_lets_go_of_it() -> None:
    """RabbitMQ has it in the substation's queue, from which it is taken again."""
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


async def test_a_link_that_breaks_leaves_the_requests_alone() -> None:
    """What was delivered from the queue of requests waits on, and the other way round."""
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


async def test_a_link_that_breaks_while_it_is_published_sends_it_once() -> None:
    """Its copy at the dead substation is acknowledged when it is met again."""
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


async def test_taken_again_before_its_confirm_it_is_acknowledged_by_its_new_tag() -> None:
    """The job that is on its way is the same one: it is sent once, and leaves its queue then."""
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


async def test_one_refused_after_the_link_broke_is_taken_again() -> None:
    """Neither here nor there meanwhile, it is in the queue of the dead substation still."""
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


async def test_a_link_that_breaks_while_it_expires_ends_it_once() -> None:
    """Its end is put on record once, and its copy acknowledged afterwards."""
    bench = with_s1_dead(FakePublisher(), "s2")
    bench.reclaim.bring("s1", body("j1", departure_time=AT), "j1")
    await turns()
    bench.reclaim.break_link()
    bench.publisher.answer(topology.EVENTS)
    assert bench.reclaim.bring("s1", body("j1", departure_time=AT), "j1")
    await turns()
    assert bench.reclaim.acked == [2]
    assert len(bench.publisher.events(State.EXPIRED)) == 1


async def test_a_link_that_breaks_while_it_is_parked_parks_it_again() -> None:
    """An answer for a delivery that is void acknowledges nothing; twice parked is not lost."""
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


async def test_jobs_that_wait_are_given_back_and_forgotten() -> None:
    """Another dispatcher is at work: RabbitMQ has them in their queues, and it is sent nothing."""
    bench = with_s1_dead(recording(), "s2")
    bench.read("s2", load=2)
    bench.queue.bring(body("mine"), "mine")
    assert bench.reclaim.bring("s1", body("j1"), "j1")
    assert [each.id for each in bench.work.return_reclaimed()] == ["j1"]
    assert bench.work.in_hand().jobs == {"mine"}
    bench.read("s2", load=0)
    await turns()
    assert "j1" not in bench.routed()


async def test_one_that_is_set_back_is_a_request_again() -> None:
    """Held for long, it goes into the queue of requests, and only then leaves the substation's."""
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


async def test_the_only_copy_of_one_that_another_dispatcher_sent_there_is_taken_back() -> None:
    """What is remembered here may be old: acknowledged as a copy, the job would be nowhere."""
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


async def test_what_the_event_log_tells_late_does_not_send_a_copy_again() -> None:
    """That a job was here before it was sent on is no news of where it is."""
    bench = Bench(confirming(), "s1", "s2")
    bench.queue.bring(body("j1", "s2"), "j1")
    await turns()
    bench.tell(Event(State.ASSIGNED, AT - 5, job="j1", substation="s1", attempt=1))
    assert bench.reclaim.bring("s1", body("j1", "s2"), "j1")
    await turns()
    assert bench.reclaim.acked == [1]
    assert len(bench.publisher.routed()) == 1


async def test_the_copy_of_one_that_its_queue_refused_does_not_hold_up_those_behind_it() -> None:
    """It waits here for room elsewhere: given back each second, the copy would end parked."""
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


async def test_those_that_only_the_dead_one_may_charge_do_not_keep_out_others() -> None:
    """Only so many are in hand at once: they wait in the queue of requests, and serve as before."""
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


async def test_while_all_are_full_those_taken_back_keep_their_place() -> None:
    """Behind all others in the queue of requests, the oldest would be served last."""
    bench = with_s1_dead(recording(), "s2")
    bench.read("s2", load=2)
    bench.reclaim.bring("s1", body("j1"), "j1")
    await turns()
    bench.now += 2 * RECLAIMED_SECONDS
    bench.shell.tick()
    assert bench.publisher.to(topology.REQUESTS) == []


async def test_what_another_dispatcher_took_back_is_no_copy_of_what_was_sent_from_here() -> None:
    """It comes through the queue of requests under a known id; once sent on, it is a copy again."""
    bench = Bench(confirming(), "s1", "s2")
    bench.queue.bring(body("j1", "s1"), "j1")
    await turns()
    bench.lose("s1")
    for _ in range(2):
        bench.queue.bring(body("j1"), "j1", headers={RECLAIMED_HEADER: "s1"})
        await turns()
    assert bench.publisher.routed() == [("j1", "s1"), ("j1", "s2")]
    assert sorted(bench.queue.acked) == [1, 2, 3]
