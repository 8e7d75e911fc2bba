"""A dispatcher decides nothing while its deliveries may be another dispatcher's."""

from __future__ import annotations

from grid.amqp import Outcome
from grid.topology import PARKED, SUBSTATIONS_EXCHANGE
from tests.dispatcher.harness import AT, Harness, body, confirming
from tests.fake_broker import FakePublisher, turns


async def test_core_decides_nothing_while_lease_has_lapsed() -> None:
    """It does not send, park or expire; afterwards each request ends as it would have."""
    harness = Harness(confirming(), "s1")
    harness.certain = False
    harness.queue.bring(body("j1"), "j1")
    harness.queue.bring(body("j2", "nowhere"), "j2")
    harness.queue.bring(body("j3", departure_time=AT + 1), "j3")
    harness.at += 2
    harness.read("s1")
    harness.shell.tick()
    await turns()
    assert harness.publisher.sent == []
    harness.certain = True
    harness.shell.tick()
    await turns()
    assert harness.routed() == ["j1"]
    assert len(harness.publisher.to(PARKED)) == 1
    assert sorted(harness.queue.acked) == [1, 2, 3]


async def test_core_drops_held_requests_when_link_turns_out_to_be_gone() -> None:
    """RabbitMQ has delivered them to another dispatcher, so none is sent from here."""
    harness = Harness(confirming(), "s1")
    harness.certain = False
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.queue.break_link()
    harness.certain = True
    harness.shell.tick()
    await turns()
    assert harness.routed() == []


async def test_core_does_not_republish_while_lease_has_lapsed() -> None:
    """The publishing link broke first; whether the delivery is still valid is not known yet."""
    harness = Harness(FakePublisher(), "s1", "s2")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    [sent] = harness.publisher.to(SUBSTATIONS_EXCHANGE)
    harness.certain = False
    assert not sent.wanted()
    harness.publisher.answer(SUBSTATIONS_EXCHANGE, Outcome.ABANDONED)
    await turns()
    assert harness.routed() == ["j1"]
    harness.certain = True
    harness.shell.tick()
    await turns()
    assert {each.key for each in harness.publisher.to(SUBSTATIONS_EXCHANGE)} == {sent.key}
    assert harness.routed() == ["j1", "j1"]


async def test_core_forgets_job_in_doubt_with_the_link_that_delivered_it() -> None:
    """RabbitMQ redelivers it, to this dispatcher or to another."""
    harness = Harness(FakePublisher(), "s1", "s2")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.certain = False
    harness.publisher.answer(SUBSTATIONS_EXCHANGE, Outcome.ABANDONED)
    harness.queue.break_link()
    harness.certain = True
    harness.shell.tick()
    await turns()
    assert harness.routed() == ["j1"]
    harness.queue.bring(body("j1"), "j1", again=True)
    await turns()
    assert harness.routed() == ["j1", "j1"]
