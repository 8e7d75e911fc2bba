"""A dispatcher decides nothing while another may have what it was delivered."""

from __future__ import annotations

from grid.amqp import Outcome
from grid.topology import PARKED, SUBSTATIONS_EXCHANGE
from tests.dispatcher.harness import AT, Bench, body, confirming
from tests.fake_broker import FakePublisher, turns


async def test_dispatcher_decides_nothing_while_the_lease_has_lapsed() -> None:
    """Neither sends, parks nor expires; afterwards each request ends as it would have."""
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


async def test_dispatcher_drops_what_it_held_when_the_link_turns_out_to_be_gone() -> None:
    """RabbitMQ gave it to another one, so nothing of it is sent from here."""
    bench = Bench(confirming(), "s1")
    bench.certain = False
    bench.queue.bring(body("j1"), "j1")
    await turns()
    bench.queue.break_link()
    bench.certain = True
    bench.shell.tick()
    await turns()
    assert bench.routed() == []


async def test_dispatcher_does_not_republish_while_the_lease_has_lapsed() -> None:
    """The publishing link was lost first; whether the delivery is still good is not known yet."""
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


async def test_dispatcher_forgets_what_was_in_doubt_with_the_link_that_delivered_it() -> None:
    """It comes again, to this dispatcher or to another."""
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
