"""Dead letters are parked with the reason, and recorded, before they are acknowledged."""

from __future__ import annotations

from contextlib import closing

import pytest
from pika import BlockingConnection, URLParameters
from prometheus_client import CollectorRegistry

from dispatcher.dead import DeadLetters
from dispatcher.metrics import Metrics
from dispatcher.parking import Parking
from grid import events, parking, provenance, topology
from grid.amqp import Consumer, Outcome, Publisher
from grid.event_log import EventWriter
from grid.events import State
from tests.broker import VirtualHost
from tests.dispatcher.harness import body
from tests.fake_broker import FakeConsumer, FakePublisher, turns
from tests.grid.links import Listener, Recorder, Seen, eventually, running

AT = 1_700_000_000.0
REJECTED = {"reason": "rejected", "queue": "substation.s1"}
TOO_OFTEN = {"reason": "delivery_limit", "queue": topology.REQUESTS}


class DeadLetterHarness:
    """A dead-letter queue and a publisher, both scripted, around the code that parks."""

    def __init__(self, publisher: FakePublisher) -> None:
        self.publisher = publisher
        metrics = Metrics(CollectorRegistry())
        events = EventWriter(publisher, "test", provenance.DISPATCHER)
        dead = DeadLetters(Parking(publisher, events, metrics, lambda: AT))
        self.queue = FakeConsumer(topology.DEAD)
        self.queue.begin(dead.deliver)


@pytest.mark.parametrize(
    ("death", "text", "kind", "reason", "substation"),
    [
        (REJECTED, b"{", "rejected", "had a consumer that rejected it: the body is not JSON", "s1"),
        (REJECTED, body("j1"), "rejected", "substation.s1 had a consumer that rejected it", "s1"),
        (TOO_OFTEN, b"{", "delivery limit", "again and again, always in vain", ""),
        (None, b"{", "unknown", "its headers do not say why it came to charge.dead", ""),
    ],
)
async def test_dead_letter_is_parked_with_the_reason(
    death: dict[str, str] | None, text: bytes, kind: str, reason: str, substation: str
) -> None:
    """The whole message is parked with kind, queue and replays, then recorded, then acked."""
    harness = DeadLetterHarness(FakePublisher())
    headers = {"x-death": [death], parking.REPLAYS_HEADER: 2} if death else None
    harness.queue.bring(text, "j1", headers=headers)
    await turns()
    (sent,) = harness.publisher.to(topology.PARKED)
    parked = parking.read("j1", sent.body, harness.publisher.headers["j1"])
    assert (sent.key, sent.body, parked.kind) == (topology.PARKED_KEY, text, kind)
    assert reason in parked.reason
    assert harness.publisher.events() == []
    harness.publisher.answer(topology.PARKED)
    await turns()
    (event,) = harness.publisher.events()
    assert (event.kind, event.job, event.substation) == (State.PARKED, "j1", substation)
    assert event.reason == parked.reason
    assert event.detail == parking.noted(2 if death else 0)
    assert harness.queue.acked == []
    harness.publisher.answer(topology.EVENTS)
    await turns()
    assert harness.queue.acked == [1]


async def test_dead_letter_is_parked_again_after_its_link_broke() -> None:
    """Its old delivery is void: the message is parked twice rather than lost."""
    harness = DeadLetterHarness(FakePublisher(charge_events=Outcome.CONFIRMED))
    harness.queue.bring(b"{", "j1", headers={"x-death": [REJECTED]})
    (lost,) = harness.queue.break_link()
    harness.publisher.answer(topology.PARKED)
    await turns()
    assert harness.queue.acked == []
    harness.queue.bring(lost.body, lost.id, again=True, headers=lost.headers)
    harness.publisher.answer(topology.PARKED)
    await turns()
    assert harness.queue.acked == [1]


@pytest.mark.integration
async def test_request_delivered_too_often_is_recorded_as_parked(vhost: VirtualHost) -> None:
    """RabbitMQ dead-letters it at its limit; the dispatcher then parks it, with the reason."""
    url = [vhost.url("dispatcher")]
    parked = Recorder(vhost.url(), topology.PARKED)
    log = Listener(vhost.url(), topology.EVENTS, "first")
    publisher = Publisher("test", url, Seen())
    metrics = Metrics(CollectorRegistry())
    writer = EventWriter(publisher, "test", provenance.DISPATCHER)
    dead = DeadLetters(Parking(publisher, writer, metrics, lambda: AT))
    consumer = Consumer("dead", url, Seen(), queue=topology.DEAD, prefetch=50)
    async with (
        running(publisher),
        parked.running(),
        log.running(),
        running(consumer, consumer.run(deliver=dead.deliver)),
    ):
        await publisher.confirmed(
            topology.REQUESTS_EXCHANGE, topology.REQUESTS, body("j1"), id="j1", timeout=20
        )
        return_reclaimed(vhost.url(), topology.DELIVERY_LIMIT + 1)
        await eventually(lambda: parked.deliveries, "it is parked")
        await eventually(lambda: log.bodies, "it is on record")
    (found,) = parked.deliveries
    assert (found.id, found.body) == ("j1", body("j1"))
    assert parking.read(found.id, found.body, found.headers).kind == parking.DELIVERY_LIMIT
    (event,) = events.decode(log.bodies[0])
    assert (event.kind, event.job) == (State.PARKED, "j1")
    assert event.reason.startswith("charge.requests delivered it again and again")


def return_reclaimed(url: str, times: int) -> None:
    """Get and requeue the request so many times; blocks."""
    with closing(BlockingConnection(URLParameters(url))) as connection:
        channel = connection.channel()
        brought = channel.consume(topology.REQUESTS, inactivity_timeout=60)
        for time, (method, _, _) in enumerate(brought, start=1):
            assert method is not None, f"it did not come for the {time}th time"
            channel.basic_nack(method.delivery_tag, requeue=True)
            if time == times:
                return
