"""A consumer that was stopped: RabbitMQ has back at once whatever it delivers after that."""

from __future__ import annotations

from typing import Any

from pika import spec

from grid.amqp import Consumer, Delivery
from grid.amqp.link import settle
from tests.grid.amqp_peer import Peer, PeerConnection, peer
from tests.grid.links import Seen, eventually, running


def consumer(*peers: Peer) -> Consumer:
    """Make a consumer of one peer after the other."""
    return Consumer("consumer", [each.url for each in peers], Seen(), queue="q", prefetch=10)


def received(by: PeerConnection, kind: type) -> list[Any]:
    """Return what a client has sent of a kind, in its order."""
    return [each for each in by.received if isinstance(each, kind)]


async def test_consumer_requeues_deliveries_that_come_after_stop() -> None:
    """RabbitMQ had sent it before it knew of the stop; no work must begin with it."""
    came: list[Delivery] = []
    async with peer() as one:
        one.consumed = lambda to: to.deliver(b"x", "early")
        link = consumer(one)
        async with running(link, link.run(deliver=came.append)):
            await eventually(lambda: came, "the first is delivered")
            [connection] = one.connections
            link.stop()
            connection.deliver(b"y", "late")
            await eventually(lambda: received(connection, spec.Basic.Nack), "it is requeued")
            [nack] = received(connection, spec.Basic.Nack)
            assert (nack.delivery_tag, nack.requeue, nack.multiple) == (2, True, False)
            assert len(received(connection, spec.Basic.Cancel)) == 1
            came[0].ack()  # what came before can still be settled
            await eventually(lambda: connection.acknowledged() == [1], "the first is acknowledged")
        assert [each.id for each in came] == ["early"]


async def test_consumer_does_not_consume_again_after_stop() -> None:
    """A new link would get the requeued messages again, until they count as poison."""
    came: list[Delivery] = []
    async with peer() as one, peer() as other:
        one.consumed = lambda to: to.deliver(b"x", "early")
        link = consumer(one, other)
        async with running(link, link.run(deliver=came.append)):
            await eventually(lambda: came, "the first is delivered")
            link.stop()
            settle(link._broken, "RabbitMQ has not answered")  # noqa: SLF001
            await eventually(lambda: other.connections and link.connected, "the link is back")
            assert received(other.connections[0], spec.Channel.Open)
            assert not received(other.connections[0], spec.Basic.Consume)
            assert not came[0].is_live


async def test_consumer_stopped_during_its_setup_does_not_consume() -> None:
    """RabbitMQ has the consumer already, and would redeliver the requeued messages for ever."""
    came: list[Delivery] = []
    async with peer() as one:
        link = consumer(one)
        one.consumed = lambda _: link.stop()  # before the link knows that it consumes
        async with running(link, link.run(deliver=came.append)):
            [connection] = one.connections
            await eventually(lambda: received(connection, spec.Basic.Cancel), "it is cancelled")
            [consume] = received(connection, spec.Basic.Consume)
            [cancel] = received(connection, spec.Basic.Cancel)
            assert cancel.consumer_tag == consume.consumer_tag
        assert came == []
