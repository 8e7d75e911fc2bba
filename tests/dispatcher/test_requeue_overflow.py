"""Requests are requeued if they keep out others, or were held for too long."""

from __future__ import annotations

import pytest

from dispatcher.open_jobs import OpenJobs
from dispatcher.requeue_overflow import MAX_HELD_SECONDS, PAUSE_SECONDS
from grid import kinds, topology
from grid.amqp import Outcome
from grid.messages import ChargeRequest
from tests.dispatcher.harness import AT, PREFETCH, Harness, body, confirming
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")


def recording() -> FakePublisher:
    """Make a publisher whose broker takes every event, and leaves the rest to be answered."""
    return FakePublisher(charge_events=Outcome.CONFIRMED)


def requeue_overflow(harness: Harness) -> list[str]:
    """Name the jobs that were put back into the queue."""
    return [str(each.id) for each in harness.publisher.to(topology.REQUESTS)]


def without_s2(publisher: FakePublisher) -> Harness:
    """Return a harness where no job can be sent to one of two substations."""
    harness = Harness(publisher, "s1", "s2", connectors=100)
    harness.now = 10.0
    harness.fail_page("s2")
    return harness


async def test_core_requeues_pinned_requests_that_keep_out_others() -> None:
    """The prefetch is full of requests pinned to a full substation: some go behind the others."""
    harness = without_s2(confirming())
    for number in range(PREFETCH):
        harness.queue.bring(body(f"pinned{number:02}", "s2"), f"pinned{number:02}")
    await turns()
    last = [f"pinned{number}" for number in range(15, 20)]
    assert requeue_overflow(harness) == last
    assert [each.body for each in harness.publisher.to(topology.REQUESTS)] == [
        body(job, "s2") for job in last
    ]
    assert sorted(harness.queue.acked) == [16, 17, 18, 19, 20]
    harness.queue.bring(body("free"), "free")
    harness.queue.bring(body("pinned15", "s2"), "pinned15")
    await turns()
    assert harness.publisher.routed() == [("free", "s1")]
    harness.read("s2")
    await turns()
    expected = {"free", *(f"pinned{number:02}" for number in range(16))}
    assert set(harness.routed()) == expected


async def test_core_requeues_requests_that_would_be_served_last() -> None:
    """Urgent and old requests stay; a requeued request keeps its priority."""
    harness = without_s2(confirming())
    for number in range(PREFETCH):
        job = f"p{number:02}"
        harness.queue.bring(body(job, "s2", priority=number % 10), job)
    await turns()
    assert requeue_overflow(harness) == ["p12", "p01", "p11", "p00", "p10"]
    sent = harness.publisher.to(topology.REQUESTS)
    assert [each.priority for each in sent] == [2, 1, 1, 0, 0]


async def test_core_requeues_nothing_while_all_substations_are_full() -> None:
    """Requeuing would only turn the queue around."""
    harness = Harness(confirming(), "s1", "s2", connectors=1)
    harness.fail_page("s1")
    harness.fail_page("s2")
    for number in range(PREFETCH):
        harness.queue.bring(body(f"p{number}"), f"p{number}")
    await turns()
    assert requeue_overflow(harness) == []
    assert harness.core.waiting == PREFETCH


async def test_core_requeues_at_most_once_a_second() -> None:
    """A request that comes around again may still fit nowhere."""
    harness = without_s2(recording())
    for number in range(PREFETCH):
        harness.queue.bring(body(f"p{number:02}", "s2"), f"p{number:02}")
    await turns()
    for number in range(20, 25):
        harness.queue.bring(body(f"p{number}", "s2"), f"p{number}")
    await turns()
    assert len(requeue_overflow(harness)) == 5
    harness.now += PAUSE_SECONDS
    harness.shell.tick()
    assert len(requeue_overflow(harness)) == 10


@pytest.mark.parametrize("early", [True, False])
async def test_core_keeps_one_copy_of_requeued_request(early: bool) -> None:  # noqa: FBT001
    """Its copy may arrive before the confirm or after it: one of the two is kept, and sent once."""
    harness = without_s2(recording())
    for number in range(PREFETCH):
        harness.queue.bring(body(f"p{number:02}", "s2"), f"p{number:02}")
    await turns()
    if early:
        harness.queue.bring(body("p15", "s2"), "p15")
    harness.publisher.answer(topology.REQUESTS)
    await turns()
    assert harness.queue.acked == [16]
    if not early:
        harness.queue.bring(body("p15", "s2"), "p15")
    harness.publisher.answer(topology.REQUESTS, Outcome.REFUSED)  # p16 stays
    harness.read("s2")
    await turns()
    assert harness.routed().count("p15") == 1
    assert harness.routed().count("p16") == 1


async def test_core_requeues_request_that_was_held_for_long() -> None:
    """RabbitMQ closes the channel of a delivery held for half an hour, so it is requeued before."""
    harness = without_s2(recording())
    harness.queue.bring(body("old", "s2"), "old")
    harness.now += MAX_HELD_SECONDS - 1
    harness.queue.bring(body("young", "s2"), "young")
    harness.shell.tick()
    assert requeue_overflow(harness) == []
    harness.now += 1
    harness.shell.tick()
    assert requeue_overflow(harness) == ["old"]
    assert harness.queue.acked == []
    harness.publisher.answer(topology.REQUESTS)
    await turns()
    assert harness.queue.acked == [1]
    assert harness.core.waiting == 1


async def test_core_keeps_one_copy_of_requeued_request_after_link_broke() -> None:
    """Copy and original are both delivered then: one is kept, the other acknowledged."""
    harness = without_s2(recording())
    harness.queue.bring(body("j1", "s2"), "j1")
    harness.now += MAX_HELD_SECONDS
    harness.shell.tick()
    harness.queue.break_link()
    harness.queue.bring(body("j1", "s2"), "j1", again=True)
    await turns()
    harness.publisher.answer(topology.REQUESTS)
    harness.queue.bring(body("j1", "s2"), "j1")
    await turns()
    assert harness.queue.acked == [2]
    assert harness.core.waiting == 1


async def test_core_does_not_acknowledge_lost_delivery_of_requeued_request() -> None:
    """The confirm must not acknowledge the message of the same tag on the new link."""
    harness = without_s2(recording())
    harness.queue.bring(body("j1", "s2"), "j1")
    harness.now += MAX_HELD_SECONDS
    harness.shell.tick()
    harness.queue.bring(body("j1", "s2"), "j1")
    harness.queue.break_link()
    harness.queue.bring(body("other", "s2"), "other")
    harness.publisher.answer(topology.REQUESTS)
    await turns()
    assert harness.queue.acked == []
    assert harness.core.waiting == 1


async def test_core_forgets_request_whose_requeue_is_refused_after_link_broke() -> None:
    """RabbitMQ redelivers it."""
    harness = without_s2(recording())
    harness.queue.bring(body("j1", "s2"), "j1")
    harness.now += MAX_HELD_SECONDS
    harness.shell.tick()
    harness.queue.break_link()
    harness.publisher.answer(topology.REQUESTS, Outcome.REFUSED)
    assert harness.core.waiting == 0
    harness.queue.bring(body("j1", "s2"), "j1", again=True)
    await turns()
    assert harness.core.waiting == 1


async def test_core_keeps_request_waiting_when_its_requeue_is_refused() -> None:
    """A queue that refuses messages for a moment must not cost it its place in the wait queue."""
    harness = without_s2(recording())
    harness.queue.bring(body("j1", "s2"), "j1")
    harness.now += MAX_HELD_SECONDS
    harness.shell.tick()
    assert harness.core.waiting == 0
    harness.publisher.answer(topology.REQUESTS, Outcome.REFUSED)
    assert harness.core.waiting == 1
    harness.shell.tick()
    assert requeue_overflow(harness) == ["j1"], "tried again after a pause only"
    harness.read("s2")
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]


def flooded(publisher: FakePublisher, held: int = PREFETCH, *, knows_all: bool = True) -> Harness:
    """Return a harness whose only substation is full, and that has a flood of one tenant.

    ``knows_all`` says whether all of the event log is read.
    """
    harness = Harness(publisher, "s1", connectors=1)
    if knows_all:
        harness.open_jobs.absorb(OpenJobs(complete=True))
    harness.now = 10.0
    harness.read("s1", load=1)
    harness.fail_page("s1")
    for number in range(held):
        accept(harness, f"p{number:02}", "flood")
        harness.queue.bring(body(f"p{number:02}", tenant="flood"), f"p{number:02}")
    return harness


def accept(harness: Harness, job: str, tenant: str | None) -> None:
    """Have the event log say that a job was accepted."""
    request = ChargeRequest(job, AT - 1, tenant=tenant)
    harness.open_jobs.take(kinds.queued(request), harness.position)


@pytest.mark.parametrize("tenant", ["small", None])
async def test_core_requeues_a_flood_that_keeps_out_another_tenant(
    tenant: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The last of its jobs go behind, until that of the other is delivered, which is next."""
    harness = flooded(confirming())
    await turns()
    assert requeue_overflow(harness) == [], "all that wait are the flood's"
    accept(harness, "small", tenant)
    harness.now += PAUSE_SECONDS
    harness.shell.tick()
    await turns()
    assert requeue_overflow(harness) == ["p15", "p16", "p17", "p18", "p19"]
    assert harness.count("flood_requeued_total") == 5
    assert "requests of tenant flood go behind those of others" in caplog.text
    for job in ("p15", "p16", "p17", "small"):
        of = tenant if job == "small" else "flood"
        harness.queue.bring(body(job, tenant=of), job)
    harness.now += PAUSE_SECONDS
    harness.shell.tick()
    await turns()
    assert len(requeue_overflow(harness)) == 5, "it is delivered"
    harness.read("s1", load=0)
    await turns()
    assert harness.routed() == ["small"]


async def test_core_requeues_no_tenant_that_holds_its_part() -> None:
    """Two that flood hold as much as each other, however many are behind."""
    harness = flooded(confirming(), PREFETCH // 2)
    for number in range(PREFETCH // 2):
        accept(harness, f"q{number:02}", "other")
        harness.queue.bring(body(f"q{number:02}", tenant="other"), f"q{number:02}")
    for number in range(100):
        accept(harness, f"behind{number}", "flood" if number % 2 else "other")
    await turns()
    assert harness.core.waiting == PREFETCH
    assert requeue_overflow(harness) == []


async def test_core_requeues_no_flood_while_others_behind_are_unknown() -> None:
    """Without all of the event log, it is not known whether others wait."""
    harness = flooded(confirming(), knows_all=False)
    await turns()
    accept(harness, "small", "small")
    harness.now += PAUSE_SECONDS
    harness.shell.tick()
    assert requeue_overflow(harness) == []
