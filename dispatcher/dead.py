"""What RabbitMQ gave up: parked like all that cannot be processed, with the reason, and on record.

A queue gives up what its consumer rejects, and what it delivered too often. RabbitMQ moves that to
``charge.dead``, and nowhere else: so whatever is parked has a reason, and the event log names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from dispatcher.parking import Parking
from dispatcher.telemetry import Metrics
from grid import messages, parking, topology
from grid.amqp import Consumer, Delivery, Publisher, Watch
from grid.errors import MalformedMessage
from grid.event_log import EventWriter

PREFETCH: Final = 50
NO_DEATH: Final = parking.Death("", parking.UNKNOWN, f"nobody said why it came to {topology.DEAD}")


class DeadLetters:
    """Parks what comes from ``charge.dead``. Each of several dispatchers may do so.

    ``clock`` gives Unix seconds.
    """

    def __init__(
        self,
        publisher: Publisher,
        events: EventWriter,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._parking = Parking(publisher, events, metrics, clock=clock, parked=self._done)
        self._consumer: Consumer
        self.in_hand = 0  # being parked

    def link(self, urls: Sequence[str], watch: Watch) -> Consumer:
        """Make the link that delivers; keep it running."""
        consumer = Consumer(
            "dispatcher-dead",
            urls,
            watch,
            queue=topology.DEAD,
            prefetch=PREFETCH,
            deliver=self.deliver,
            forget=self.forget,
        )
        self.connect(consumer)
        return consumer

    def connect(self, consumer: Consumer) -> None:
        """Give it what acknowledges."""
        self._consumer = consumer

    def deliver(self, delivery: Delivery) -> None:
        """Park what RabbitMQ gave up."""
        self.in_hand += 1
        death = parking.death(delivery.headers) or NO_DEATH
        self._parking.park(
            delivery.tag,
            delivery.body,
            delivery.id,
            death.kind,
            _reason(death, delivery.body),
            queue=death.queue,
            headers=delivery.headers,
        )

    def forget(self) -> None:
        """Let go of all deliveries: the link broke, and RabbitMQ will bring them again."""
        self.in_hand = 0
        self._parking.forget()

    def _done(self, tag: int) -> None:
        self.in_hand -= 1
        self._consumer.ack(tag)


def _reason(death: parking.Death, body: bytes) -> str:
    """Say why, and what is wrong with a body that was rejected.

    One that was delivered too often is not looked at: it may be what ended all who did.
    """
    if death.kind != parking.REJECTED:
        return death.reason
    try:
        messages.decode(body)
    except MalformedMessage as error:
        return f"{death.reason}: {error}"
    return death.reason
