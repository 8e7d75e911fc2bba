"""The offset from which the next dispatcher has to read the event log."""

from __future__ import annotations

from dispatcher.unsettled import HANDED_OVER_SECONDS, SETTLED_SECONDS, Unsettled
from tests.dispatcher.harness import Harness, body
from tests.fake_broker import FakePublisher, turns

NOW = 100.0


def since(
    one: Unsettled, in_hand: list[int], position: int, now: float, *, answering: bool, clear: bool
) -> int:
    """Return the offset from which a successor has to read, once what is settled is pruned."""
    one.prune(now, answering=answering, clear=clear)
    return one.since(in_hand, position)


def test_unsettled_counts_decisions_in_hand_and_just_acknowledged() -> None:
    """RabbitMQ may not have the acknowledgement until it answers something later."""
    one = Unsettled()
    assert since(one, [], 90, NOW, answering=True, clear=True) == 90
    assert since(one, [70, 60], 90, NOW, answering=True, clear=True) == 60
    one.acknowledged(50, NOW)
    later = NOW + SETTLED_SECONDS
    assert since(one, [], 90, later - 0.1, answering=True, clear=True) == 50
    assert since(one, [], 90, later, answering=False, clear=True) == 50
    assert since(one, [], 90, later, answering=True, clear=True) == 90


def test_unsettled_counts_inherited_decisions_until_redelivered_and_judged() -> None:
    """They are delivered before all others, and held until the log is read up to them."""
    one = Unsettled()
    one.inherit(40, "a")
    assert since(one, [], 90, NOW + 1_000, answering=True, clear=True) == 40, "not handed over yet"
    one.delivered(NOW)
    one.delivered(NOW + 5)
    later = NOW + HANDED_OVER_SECONDS
    assert since(one, [], 90, later - 0.1, answering=True, clear=True) == 40
    assert since(one, [], 90, later, answering=False, clear=True) == 40
    assert since(one, [], 90, later, answering=True, clear=False) == 40
    assert since(one, [], 90, later, answering=True, clear=True) == 90
    assert since(one, [], 90, later, answering=True, clear=False) == 90


def test_unsettled_uses_newest_offset_of_each_dispatcher_and_lowest_of_all() -> None:
    """One dispatcher need not know what another has left."""
    one = Unsettled()
    one.inherit(10, "a")
    one.inherit(50, "b")
    assert since(one, [], 90, NOW, answering=True, clear=True) == 10
    one.inherit(60, "a")
    assert since(one, [], 90, NOW, answering=True, clear=True) == 50


async def test_core_names_offset_before_its_oldest_unsettled_decision() -> None:
    """Until RabbitMQ has the job, the decision and the acknowledgement; also after a break."""
    harness = Harness(FakePublisher(), "s1")
    harness.position = 10
    assert harness.unsettled_since() == 10
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.position = 20
    harness.queue.bring(body("j2"), "j2")
    await turns()
    harness.position = 30
    assert harness.unsettled_since() == 10
    for message in list(harness.publisher.waiting):
        harness.publisher.answer(message.exchange)
    await turns()
    assert harness.queue.acked
    assert harness.unsettled_since() == 10
    harness.now += SETTLED_SECONDS
    assert harness.unsettled_since() == 30
    harness.queue.bring(body("j3"), "j3")
    await turns()
    harness.queue.break_link()
    harness.position = 40
    assert harness.unsettled_since() == 30
    harness.now += HANDED_OVER_SECONDS
    assert harness.unsettled_since() == 30, "it was not delivered again yet"
