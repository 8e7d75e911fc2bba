"""Requests go back into the queue where they would keep out others, or were held for too long."""

from __future__ import annotations

import pytest

from dispatcher.requeue_overflow import MAX_HELD_SECONDS, PAUSE_SECONDS
from grid import topology
from grid.amqp import Outcome
from tests.dispatcher.harness import PREFETCH, Bench, body, confirming
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")


def recording() -> FakePublisher:
    """Make a publisher whose broker takes every event, and leaves the rest to be answered."""
    return FakePublisher(charge_events=Outcome.CONFIRMED)


def requeue_overflow(bench: Bench) -> list[str]:
    """Name the jobs that were put back into the queue."""
    return [str(each.id) for each in bench.publisher.to(topology.REQUESTS)]


def without_s2(publisher: FakePublisher) -> Bench:
    """Make a bench where nothing can go to one of two substations."""
    bench = Bench(publisher, "s1", "s2", connectors=100)
    bench.now = 10.0
    bench.lose("s2")
    return bench


async def test_core_requeues_pinned_requests_that_keep_out_others() -> None:
    """The prefetch is full of requests pinned to a full substation: some go behind the others."""
    bench = without_s2(confirming())
    for number in range(PREFETCH):
        bench.queue.bring(body(f"pinned{number:02}", "s2"), f"pinned{number:02}")
    await turns()
    last = [f"pinned{number}" for number in range(15, 20)]
    assert requeue_overflow(bench) == last
    assert [each.body for each in bench.publisher.to(topology.REQUESTS)] == [
        body(job, "s2") for job in last
    ]
    assert sorted(bench.queue.acked) == [16, 17, 18, 19, 20]
    bench.queue.bring(body("free"), "free")
    bench.queue.bring(body("pinned15", "s2"), "pinned15")
    await turns()
    assert bench.publisher.routed() == [("free", "s1")]
    bench.read("s2")
    await turns()
    expected = {"free", *(f"pinned{number:02}" for number in range(16))}
    assert set(bench.routed()) == expected


async def test_core_requeues_requests_that_would_be_served_last() -> None:
    """Urgent and old requests stay; a requeued request keeps its priority."""
    bench = without_s2(confirming())
    for number in range(PREFETCH):
        job = f"p{number:02}"
        bench.queue.bring(body(job, "s2", priority=number % 10), job)
    await turns()
    assert requeue_overflow(bench) == ["p12", "p01", "p11", "p00", "p10"]
    sent = bench.publisher.to(topology.REQUESTS)
    assert [each.priority for each in sent] == [2, 1, 1, 0, 0]


async def test_core_requeues_nothing_while_all_substations_are_full() -> None:
    """Requeuing would only turn the queue around."""
    bench = Bench(confirming(), "s1", "s2", connectors=1)
    bench.lose("s1")
    bench.lose("s2")
    for number in range(PREFETCH):
        bench.queue.bring(body(f"p{number}"), f"p{number}")
    await turns()
    assert requeue_overflow(bench) == []
    assert bench.core.waiting == PREFETCH


async def test_core_requeues_at_most_once_a_second() -> None:
    """A request that comes around again may still fit nowhere."""
    bench = without_s2(recording())
    for number in range(PREFETCH):
        bench.queue.bring(body(f"p{number:02}", "s2"), f"p{number:02}")
    await turns()
    for number in range(20, 25):
        bench.queue.bring(body(f"p{number}", "s2"), f"p{number}")
    await turns()
    assert len(requeue_overflow(bench)) == 5
    bench.now += PAUSE_SECONDS
    bench.shell.tick()
    assert len(requeue_overflow(bench)) == 10


@pytest.mark.parametrize("early", [True, False])
async def test_core_keeps_one_copy_of_requeued_request(early: bool) -> None:  # noqa: FBT001
    """Its copy may arrive before the confirm or after it: one of the two is kept, and sent once."""
    bench = without_s2(recording())
    for number in range(PREFETCH):
        bench.queue.bring(body(f"p{number:02}", "s2"), f"p{number:02}")
    await turns()
    if early:
        bench.queue.bring(body("p15", "s2"), "p15")
    bench.publisher.answer(topology.REQUESTS)
    await turns()
    assert bench.queue.acked == [16]
    if not early:
        bench.queue.bring(body("p15", "s2"), "p15")
    bench.publisher.answer(topology.REQUESTS, Outcome.REFUSED)  # p16 stays
    bench.read("s2")
    await turns()
    assert bench.routed().count("p15") == 1
    assert bench.routed().count("p16") == 1


async def test_core_requeues_request_that_was_held_for_long() -> None:
    """RabbitMQ closes the channel of a delivery held for half an hour, so it is requeued before."""
    bench = without_s2(recording())
    bench.queue.bring(body("old", "s2"), "old")
    bench.now += MAX_HELD_SECONDS - 1
    bench.queue.bring(body("young", "s2"), "young")
    bench.shell.tick()
    assert requeue_overflow(bench) == []
    bench.now += 1
    bench.shell.tick()
    assert requeue_overflow(bench) == ["old"]
    assert bench.queue.acked == []
    bench.publisher.answer(topology.REQUESTS)
    await turns()
    assert bench.queue.acked == [1]
    assert bench.core.waiting == 1


async def test_core_keeps_one_copy_of_requeued_request_after_link_broke() -> None:
    """Copy and original are both delivered then: one is kept, the other acknowledged."""
    bench = without_s2(recording())
    bench.queue.bring(body("j1", "s2"), "j1")
    bench.now += MAX_HELD_SECONDS
    bench.shell.tick()
    bench.queue.break_link()
    bench.queue.bring(body("j1", "s2"), "j1", again=True)
    await turns()
    bench.publisher.answer(topology.REQUESTS)
    bench.queue.bring(body("j1", "s2"), "j1")
    await turns()
    assert bench.queue.acked == [2]
    assert bench.core.waiting == 1


async def test_core_does_not_acknowledge_lost_delivery_of_requeued_request() -> None:
    """The confirm must not acknowledge the message of the same tag on the new link."""
    bench = without_s2(recording())
    bench.queue.bring(body("j1", "s2"), "j1")
    bench.now += MAX_HELD_SECONDS
    bench.shell.tick()
    bench.queue.bring(body("j1", "s2"), "j1")
    bench.queue.break_link()
    bench.queue.bring(body("other", "s2"), "other")
    bench.publisher.answer(topology.REQUESTS)
    await turns()
    assert bench.queue.acked == []
    assert bench.core.waiting == 1


async def test_core_forgets_request_whose_requeue_is_refused_after_link_broke() -> None:
    """RabbitMQ redelivers it."""
    bench = without_s2(recording())
    bench.queue.bring(body("j1", "s2"), "j1")
    bench.now += MAX_HELD_SECONDS
    bench.shell.tick()
    bench.queue.break_link()
    bench.publisher.answer(topology.REQUESTS, Outcome.REFUSED)
    assert bench.core.waiting == 0
    bench.queue.bring(body("j1", "s2"), "j1", again=True)
    await turns()
    assert bench.core.waiting == 1


async def test_core_keeps_request_waiting_when_its_requeue_is_refused() -> None:
    """A queue that refuses messages for a moment must not cost it its place in the wait queue."""
    bench = without_s2(recording())
    bench.queue.bring(body("j1", "s2"), "j1")
    bench.now += MAX_HELD_SECONDS
    bench.shell.tick()
    assert bench.core.waiting == 0
    bench.publisher.answer(topology.REQUESTS, Outcome.REFUSED)
    assert bench.core.waiting == 1
    bench.shell.tick()
    assert requeue_overflow(bench) == ["j1"], "tried again after a pause only"
    bench.read("s2")
    await turns()
    assert bench.publisher.routed() == [("j1", "s2")]
