"""A request whose vehicle leaves while it waits ends as expired, and on record before all else."""

from __future__ import annotations

import pytest

from dispatcher.core import DEPARTED
from grid import topology
from grid.amqp import Outcome
from grid.events import State
from tests.dispatcher.harness import AT, SUBSTATIONS, Bench, body
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")

LEAVES = AT + 60


def full() -> Bench:
    """Make a bench whose one substation is full, and whose broker is answered for by hand."""
    bench = Bench(FakePublisher(charge_substations=Outcome.CONFIRMED), "s1", connectors=1)
    bench.read("s1", load=1)
    return bench


async def waiting() -> Bench:
    """Make a bench where one request waits that leaves."""
    bench = full()
    bench.queue.bring(body("j1", departure_time=LEAVES), "j1")
    await turns()
    return bench


async def leave(bench: Bench) -> None:
    """Let the departure come."""
    bench.at = LEAVES
    bench.shell.tick()
    await turns()


async def test_it_expires_at_its_departure_and_not_before() -> None:
    """The event names the job and the reason; the request is acknowledged once that is there."""
    bench = await waiting()
    bench.at = LEAVES - 0.1
    bench.shell.tick()
    await turns()
    assert bench.publisher.sent == []
    await leave(bench)
    (event,) = bench.publisher.events()
    assert (event.kind, event.job, event.at) == (State.EXPIRED, "j1", LEAVES)
    assert event.reason == DEPARTED
    assert bench.queue.acked == []
    assert bench.core.waiting == 0
    bench.publisher.answer(topology.EVENTS)
    await turns()
    assert bench.queue.acked == [1]
    assert bench.count("expired_total") == 1


async def test_it_is_never_sent() -> None:
    """Room that comes up afterwards is for others, also while its event is on its way."""
    bench = await waiting()
    await leave(bench)
    bench.read("s1", load=0)
    bench.queue.bring(body("j2"), "j2")
    await turns()
    assert bench.routed() == ["j2"]
    assert [each.job for each in bench.publisher.events(State.ASSIGNED)] == ["j2"]


async def test_an_event_that_is_refused_is_tried_again() -> None:
    """Without its end on record it must not be acknowledged, and not be sent either."""
    bench = await waiting()
    await leave(bench)
    bench.publisher.answer(topology.EVENTS, Outcome.REFUSED)
    assert bench.count("events_lost_total") == 1
    bench.read("s1", load=0)
    await turns()
    assert bench.publisher.routed() == []
    assert bench.queue.acked == []
    assert len(bench.publisher.events(State.EXPIRED)) == 2
    bench.publisher.answer(topology.EVENTS)
    await turns()
    assert bench.queue.acked == [1]
    assert bench.count("expired_total") == 1


async def test_one_that_has_departed_when_it_is_delivered_expires() -> None:
    """Also where a substation has room: nobody is there to be charged."""
    bench = Bench(FakePublisher(), "s1")
    bench.queue.bring(body("j1", departure_time=AT), "j1")
    await turns()
    assert [each.kind for each in bench.publisher.events()] == [State.EXPIRED]
    assert bench.publisher.to(SUBSTATIONS) == []


async def test_a_link_that_breaks_meanwhile_changes_nothing() -> None:
    """Delivered again before its end is on record, it is acknowledged by its new tag."""
    bench = await waiting()
    bench.queue.bring(b"?", "bad")
    await leave(bench)
    bench.queue.break_link()
    bench.queue.bring(body("j0", departure_time=LEAVES + 60), "j0")  # has the old tag
    bench.queue.bring(body("j1", departure_time=LEAVES), "j1", again=True)
    while bench.publisher.to(topology.EVENTS, bench.publisher.waiting):
        bench.publisher.answer(topology.EVENTS)
    await turns()
    assert bench.queue.acked == [2]
    assert len(bench.publisher.events(State.EXPIRED)) == 1


async def test_one_that_expired_is_known_when_it_comes_again() -> None:
    """Its acknowledgement was lost: it is acknowledged, and not put on record twice."""
    bench = await waiting()
    await leave(bench)
    bench.queue.break_link()
    bench.publisher.answer(topology.EVENTS)
    bench.queue.bring(body("j1", departure_time=LEAVES), "j1", again=True)
    await turns()
    assert bench.queue.acked == [1]
    assert len(bench.publisher.events(State.EXPIRED)) == 1


async def test_refused_after_the_link_broke_it_is_tried_again_all_the_same() -> None:
    """It is not with the dispatcher any more, and its next delivery takes its place."""
    bench = await waiting()
    await leave(bench)
    bench.queue.break_link()
    bench.publisher.answer(topology.EVENTS, Outcome.REFUSED)
    bench.queue.bring(body("j1", departure_time=LEAVES), "j1", again=True)
    bench.shell.tick()
    await turns()
    assert len(bench.publisher.events(State.EXPIRED)) == 2
    bench.publisher.answer(topology.EVENTS)
    await turns()
    assert bench.queue.acked == [1]


async def test_others_that_wait_are_left_alone() -> None:
    """Only those whose departure has come leave the line."""
    bench = full()
    for job, seconds in (("a", 10.0), ("b", 30.0), ("c", 20.0)):
        bench.queue.bring(body(job, "s1", departure_time=AT + seconds), job)
    await turns()
    bench.at = AT + 20
    bench.shell.tick()
    await turns()
    assert bench.routed() == ["a"], "sent ahead, since others wait"
    assert [each.job for each in bench.publisher.events(State.EXPIRED)] == ["c"]
    assert bench.core.waiting == 1
