"""A request whose vehicle leaves, or whose longest wait passes, expires; recorded first."""

from __future__ import annotations

import pytest

from dispatcher.lifecycle import DEPARTED
from grid import topology
from grid.amqp import Outcome
from grid.events import State
from tests.dispatcher.harness import AT, SUBSTATIONS, Harness, body
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")

LEAVES = AT + 60


def full() -> Harness:
    """Return a harness whose only substation is full, and whose broker a test answers for."""
    harness = Harness(FakePublisher(charge_substations=Outcome.CONFIRMED), "s1", connectors=1)
    harness.read("s1", load=1)
    return harness


@pytest.fixture(params=["departure_time", "max_wait_seconds"])
def expires(request: pytest.FixtureRequest) -> dict[str, float]:
    """Return the field by which a request may wait until it leaves: it is requested at AT - 1."""
    return {request.param: LEAVES if request.param == "departure_time" else LEAVES - AT + 1}


async def waiting(**expires: float) -> Harness:
    """Return a harness where a request waits that expires, by default at its departure."""
    harness = full()
    harness.queue.bring(body("j1", **(expires or {"departure_time": LEAVES})), "j1")
    await turns()
    return harness


async def leave(harness: Harness) -> None:
    """Let the departure come."""
    harness.at = LEAVES
    harness.shell.tick()
    await turns()


async def test_core_expires_request_when_it_is_due_and_not_before(
    expires: dict[str, float],
) -> None:
    """The event has the job and the reason; the request is acknowledged once it is written."""
    harness = await waiting(**expires)
    harness.at = LEAVES - 0.1
    harness.shell.tick()
    await turns()
    assert harness.publisher.sent == []
    await leave(harness)
    (event,) = harness.publisher.events()
    assert (event.kind, event.job, event.at) == (State.EXPIRED, "j1", LEAVES)
    waited = "it waited longer than its max_wait_seconds (61)"
    assert event.reason == (DEPARTED if "departure_time" in expires else waited)
    assert harness.queue.acked == []
    assert harness.core.waiting == 0
    harness.publisher.answer(topology.EVENTS)
    await turns()
    assert harness.queue.acked == [1]
    assert harness.count("expired_total") == 1


async def test_core_does_not_send_expiring_request(expires: dict[str, float]) -> None:
    """Capacity that appears later goes to others, also while the event is not confirmed yet."""
    harness = await waiting(**expires)
    await leave(harness)
    harness.read("s1", load=0)
    harness.queue.bring(body("j2"), "j2")
    await turns()
    assert harness.routed() == ["j2"]
    assert [each.job for each in harness.publisher.events(State.ASSIGNED)] == ["j2"]


async def test_core_writes_refused_expiry_again(expires: dict[str, float]) -> None:
    """While its end is not in the log, the request is neither acknowledged nor sent."""
    harness = await waiting(**expires)
    await leave(harness)
    harness.publisher.answer(topology.EVENTS, Outcome.REFUSED)
    assert harness.count("events_lost_total") == 1
    harness.read("s1", load=0)
    await turns()
    assert harness.publisher.routed() == []
    assert harness.queue.acked == []
    assert len(harness.publisher.events(State.EXPIRED)) == 2
    harness.publisher.answer(topology.EVENTS)
    await turns()
    assert harness.queue.acked == [1]
    assert harness.count("expired_total") == 1


async def test_core_expires_request_that_departed_before_its_delivery() -> None:
    """Also if a substation has capacity: the vehicle has left."""
    harness = Harness(FakePublisher(), "s1")
    harness.queue.bring(body("j1", departure_time=AT), "j1")
    await turns()
    assert [each.kind for each in harness.publisher.events()] == [State.EXPIRED]
    assert harness.publisher.to(SUBSTATIONS) == []


async def test_core_acknowledges_redelivery_of_expiring_request() -> None:
    """The link broke before the end was recorded: the new delivery is acknowledged."""
    harness = await waiting()
    harness.queue.bring(b"?", "bad")
    await leave(harness)
    harness.queue.break_link()
    harness.queue.bring(body("j0", departure_time=LEAVES + 60), "j0")  # has the old tag
    harness.queue.bring(body("j1", departure_time=LEAVES), "j1", again=True)
    while harness.publisher.to(topology.EVENTS, harness.publisher.waiting):
        harness.publisher.answer(topology.EVENTS)
    await turns()
    assert harness.queue.acked == [2]
    assert len(harness.publisher.events(State.EXPIRED)) == 1


async def test_core_recognises_expired_request_when_redelivered() -> None:
    """Its acknowledgement was lost: it is acknowledged, and not recorded twice."""
    harness = await waiting()
    await leave(harness)
    harness.queue.break_link()
    harness.publisher.answer(topology.EVENTS)
    harness.queue.bring(body("j1", departure_time=LEAVES), "j1", again=True)
    await turns()
    assert harness.queue.acked == [1]
    assert len(harness.publisher.events(State.EXPIRED)) == 1


async def test_core_counts_the_longest_wait_from_the_request_after_a_restart() -> None:
    """The next dispatcher expires it at once if that has passed, and at its time if not."""
    harness = full()
    harness.at = LEAVES
    harness.queue.bring(body("late", max_wait_seconds=61), "late", again=True)
    harness.queue.bring(body("early", "s1", max_wait_seconds=62), "early", again=True)
    await turns()
    assert [each.job for each in harness.publisher.events(State.EXPIRED)] == ["late"]
    assert harness.core.waiting == 1


async def test_core_does_not_expire_a_job_that_it_sends() -> None:
    """Its substation does, if it is due before a connector is free: the job has one end."""
    harness = Harness(FakePublisher(), "s1")
    harness.queue.bring(body("j1", max_wait_seconds=61), "j1")
    await turns()
    await leave(harness)
    assert [each.kind for each in harness.publisher.events()] == [State.ASSIGNED]


async def test_core_expires_redelivery_after_refused_event_of_lost_delivery() -> None:
    """The first delivery was lost with its link, and the redelivery takes its place."""
    harness = await waiting()
    await leave(harness)
    harness.queue.break_link()
    harness.publisher.answer(topology.EVENTS, Outcome.REFUSED)
    harness.queue.bring(body("j1", departure_time=LEAVES), "j1", again=True)
    harness.shell.tick()
    await turns()
    assert len(harness.publisher.events(State.EXPIRED)) == 2
    harness.publisher.answer(topology.EVENTS)
    await turns()
    assert harness.queue.acked == [1]


async def test_core_expires_only_requests_that_are_due() -> None:
    """The other requests stay in the wait queue."""
    harness = full()
    for job, seconds in (("a", 10.0), ("b", 30.0), ("c", 20.0)):
        harness.queue.bring(body(job, "s1", departure_time=AT + seconds), job)
    await turns()
    harness.at = AT + 20
    harness.shell.tick()
    await turns()
    assert harness.routed() == ["a"], "sent ahead, since others wait"
    assert [each.job for each in harness.publisher.events(State.EXPIRED)] == ["c"]
    assert harness.core.waiting == 1


async def test_core_acknowledges_expired_request_only_after_its_end_is_recorded() -> None:
    """An answer for its earlier decision, which a queue refused, says nothing of that."""
    harness = Harness(FakePublisher(), "s1")
    harness.queue.bring(body("j1", departure_time=LEAVES), "j1")
    await turns()
    harness.fail_page("s1")
    harness.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    await leave(harness)
    assert [each.kind for each in harness.publisher.events()] == [State.ASSIGNED, State.EXPIRED]
    harness.publisher.answer(topology.EVENTS)
    await turns()
    assert harness.queue.acked == []
    assert harness.count("expired_total") == 0
    harness.publisher.answer(topology.EVENTS)
    await turns()
    assert harness.queue.acked == [1]
    assert harness.count("expired_total") == 1
