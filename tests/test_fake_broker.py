"""The scripted RabbitMQ: what it would close a channel over fails the test."""

from __future__ import annotations

import pytest

from grid.amqp import Delivery, frames
from tests.dispatcher.reclaim_harness import FakeTaker
from tests.fake_broker import FakeConsumer, raise_violations, soon, turns


async def test_fake_consumer_remembers_a_second_acknowledgement() -> None:
    """Also one that leaves in a callback of the loop, where an exception would only be logged."""
    consumer = FakeConsumer("q")
    consumer.begin(Delivery.ack)
    consumer.bring(b"")
    await turns()
    raise_violations()
    soon(lambda: consumer._on_frame(frames.ack(1, 1)))  # noqa: SLF001
    await turns()
    with pytest.raises(AssertionError, match="ack: PRECONDITION_FAILED - unknown delivery tag 1"):
        raise_violations()
    raise_violations()  # it fails one test only
    assert consumer.acked == [1]


async def test_fake_taker_remembers_what_is_requeued_after_its_acknowledgement() -> None:
    """One rule holds for all that is scripted."""
    taker = FakeTaker()
    taker.put("s1", "a")
    delivery = await taker.take("substation.s1")
    assert delivery is not None
    delivery.ack()
    await turns()
    taker._on_frame(frames.nack(1, 1, requeue=True))  # noqa: SLF001
    with pytest.raises(AssertionError, match="requeue: PRECONDITION_FAILED"):
        raise_violations()
    assert taker.requeued == []
