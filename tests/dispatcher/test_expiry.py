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


async def test_core_expires_request_at_its_departure_and_not_before() -> None:
    """The event has the job and the reason; the request is acknowledged once it is written."""
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


async def test_core_does_not_send_expiring_request() -> None:
    """Capacity that appears later goes to others, also while the event is not confirmed yet."""
    bench = await waiting()
    await leave(bench)
    bench.read("s1", load=0)
    bench.queue.bring(body("j2"), "j2")
    await turns()
    assert bench.routed() == ["j2"]
    assert [each.job for each in bench.publisher.events(State.ASSIGNED)] == ["j2"]


async def test_core_writes_refused_expiry_again() -> None:
    """While its end is not in the log, the request is neither acknowledged nor sent."""
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


async def test_core_expires_request_that_departed_before_its_delivery() -> None:
    """Also if a substation has capacity: the vehicle has left."""
    bench = Bench(FakePublisher(), "s1")
    bench.queue.bring(body("j1", departure_time=AT), "j1")
    await turns()
    assert [each.kind for each in bench.publisher.events()] == [State.EXPIRED]
    assert bench.publisher.to(SUBSTATIONS) == []


async def test_core_acknowledges_redelivery_of_expiring_request() -> None:
    """The link broke before the end was recorded: the new delivery is acknowledged."""
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


async def test_core_recognises_expired_request_when_redelivered() -> None:
    """Its acknowledgement was lost: it is acknowledged, and not recorded twice."""
    bench = await waiting()
    await leave(bench)
    bench.queue.break_link()
    bench.publisher.answer(topology.EVENTS)
    bench.queue.bring(body("j1", departure_time=LEAVES), "j1", again=True)
    await turns()
    assert bench.queue.acked == [1]
    assert len(bench.publisher.events(State.EXPIRED)) == 1


async def test_core_expires_redelivery_after_refused_event_of_lost_delivery() -> None:
    """The first delivery was lost with its link, and the redelivery takes its place."""
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


async def test_core_expires_only_requests_whose_departure_has_come() -> None:
    """The other requests stay in the wait queue."""
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
