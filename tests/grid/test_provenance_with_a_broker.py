"""On a real RabbitMQ, an event's writer is known, whatever it says: keys are checked and kept."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Final

import pytest
from pika import BlockingConnection, URLParameters
from pika.exceptions import ChannelClosedByBroker

from grid import event_log, events, topology
from grid.amqp import Declarer, Publisher
from grid.event_log import EventWriter
from grid.events import SUBSTATIONS, Event, State
from grid.provenance import API, DISPATCHER, NOBODY_KNOWN, OPERATOR, substation_writer
from tests.broker import VirtualHost
from tests.grid.links import Listener, Seen, eventually, running

pytestmark = pytest.mark.integration

SUBSTATION: Final = substation_writer("substation1")
WRITERS: Final = (API, OPERATOR, SUBSTATION, DISPATCHER)
SNAPSHOT: Final = {
    "substations": [{"substation": "mallory"}],
    "former": [f"x{n}" for n in range(600)],
}


async def test_rabbitmq_keeps_the_writer_of_an_event(vhost: VirtualHost) -> None:
    """A reader gets it with each message, from the stream's start as well as live."""
    listener = Listener(vhost.url("api"), topology.EVENTS, "first")
    for user in WRITERS:
        async with running(Publisher(user, [vhost.url(user)], Seen())) as publisher:
            writer = EventWriter(publisher, user, user)
            writer.write(Event(SUBSTATIONS, 1.0, detail=SNAPSHOT))
            writer.write(Event(State.CHARGING, 1.0, "j", "substation1"))
            await writer.finish()
    async with listener.running():
        await eventually(lambda: len(listener.bodies) == len(WRITERS), "all is read")
    assert listener.writers == list(WRITERS)
    found = [
        [each.kind for each in event_log.read(body, writer)]
        for body, writer in zip(listener.bodies, listener.writers, strict=True)
    ]
    assert found == [[], [], [State.CHARGING], [SUBSTATIONS, State.CHARGING]]


def test_rabbitmq_refuses_an_event_under_another_writers_key(vhost: VirtualHost) -> None:
    """As a substation's user, nobody writes a snapshot as the dispatcher does, by any exchange."""
    for exchange, key in (
        (topology.EVENTS_EXCHANGE, DISPATCHER),
        (topology.EVENTS_EXCHANGE, "substation.substation2"),
        (topology.EVENTS, topology.EVENTS),  # the way of earlier versions
        ("", topology.EVENTS),
    ):
        with closing(BlockingConnection(URLParameters(vhost.url(SUBSTATION)))) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
                channel.basic_publish(exchange, key, b"{}")


async def test_event_reader_reads_a_log_of_an_earlier_version(vhost: VirtualHost) -> None:
    """Its events of jobs are read; its snapshots are skipped without a warning."""
    body = events.encode(
        [Event(SUBSTATIONS, 1.0, detail=SNAPSHOT), Event(State.ASSIGNED, 1.0, "j", "s1")]
    )
    await asyncio.to_thread(write_as_before, vhost, body)
    listener = Listener(vhost.url("api"), topology.EVENTS, "first")
    async with listener.running():
        await eventually(lambda: len(listener.bodies) == 1, "it is read")
    assert listener.writers == [NOBODY_KNOWN]
    assert [each.kind for each in event_log.read(listener.bodies[0], NOBODY_KNOWN)] == [
        State.ASSIGNED
    ]


def write_as_before(vhost: VirtualHost, body: bytes) -> None:
    """Write to the event log by the exchange and the key of earlier versions."""
    with closing(BlockingConnection(URLParameters(vhost.url("admin")))) as connection:
        channel = connection.channel()
        channel.exchange_declare(topology.EVENTS, "direct", durable=True)
        channel.queue_bind(topology.EVENTS, topology.EVENTS, topology.EVENTS)
        channel.confirm_delivery()
        channel.basic_publish(topology.EVENTS, topology.EVENTS, body, mandatory=True)


async def test_declarer_inspects_a_queue_without_declaring_it(vhost: VirtualHost) -> None:
    """A missing queue does not harm the link, and is not declared by it."""
    seen = Seen()
    async with running(Declarer("d", [vhost.url("dispatcher")], seen)) as declarer:
        for _ in range(3):
            assert await declarer.look("substation.x1") is None
        await declarer.queue(topology.substation_queue("x2"))
        state = await declarer.look("substation.x2")
        assert state is not None
        assert (state.ready, state.consumers) == (0, 0)
    assert seen.reasons() == ["connected"]
    assert "substation.x1" not in await asyncio.to_thread(vhost.queues)
