"""A dispatcher decides nothing while another may have what it was delivered."""

from __future__ import annotations

from grid.amqp import Outcome
from grid.topology import PARKED, SUBSTATIONS_EXCHANGE
from tests.dispatcher.harness import AT, Bench, body, confirming
from tests.fake_broker import FakePublisher, turns


async def test_core_decides_nothing_while_lease_has_lapsed() -> None:
    """It does not send, park or expire; afterwards each request ends as it would have."""
    bench = Bench(confirming(), "s1")
    bench.certain = False
    bench.queue.bring(body("j1"), "j1")
    bench.queue.bring(body("j2", "nowhere"), "j2")
    bench.queue.bring(body("j3", departure_time=AT + 1), "j3")
    bench.at += 2
    bench.read("s1")
    bench.shell.tick()
    await turns()
    assert bench.publisher.sent == []
    bench.certain = True
    bench.shell.tick()
    await turns()
    assert bench.routed() == ["j1"]
    assert len(bench.publisher.to(PARKED)) == 1
    assert sorted(bench.queue.acked) == [1, 2, 3]


async def test_core_drops_held_requests_when_link_turns_out_to_be_gone() -> None:
    """RabbitMQ has delivered them to another dispatcher, so none is sent from here."""
    bench = Bench(confirming(), "s1")
    bench.certain = False
    bench.queue.bring(body("j1"), "j1")
    await turns()
    bench.queue.break_link()
    bench.certain = True
    bench.shell.tick()
    await turns()
    assert bench.routed() == []


async def test_core_does_not_republish_while_lease_has_lapsed() -> None:
    """The publishing link broke first; whether the delivery is still valid is not known yet."""
    bench = Bench(FakePublisher(), "s1", "s2")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    [sent] = bench.publisher.to(SUBSTATIONS_EXCHANGE)
    bench.certain = False
    assert not sent.wanted()
    bench.publisher.answer(SUBSTATIONS_EXCHANGE, Outcome.ABANDONED)
    await turns()
    assert bench.routed() == ["j1"]
    bench.certain = True
    bench.shell.tick()
    await turns()
    assert {each.key for each in bench.publisher.to(SUBSTATIONS_EXCHANGE)} == {sent.key}
    assert bench.routed() == ["j1", "j1"]


async def test_core_forgets_job_in_doubt_with_the_link_that_delivered_it() -> None:
    """RabbitMQ redelivers it, to this dispatcher or to another."""
    bench = Bench(FakePublisher(), "s1", "s2")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    bench.certain = False
    bench.publisher.answer(SUBSTATIONS_EXCHANGE, Outcome.ABANDONED)
    bench.queue.break_link()
    bench.certain = True
    bench.shell.tick()
    await turns()
    assert bench.routed() == ["j1"]
    bench.queue.bring(body("j1"), "j1", again=True)
    await turns()
    assert bench.routed() == ["j1", "j1"]
