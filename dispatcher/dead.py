"""Dead letters: parked with the reason, and recorded in the event log.

RabbitMQ dead-letters a message that its consumer rejects, or that it delivered too often, to
``charge.dead``. So every parked message has a reason, and is in the event log.
"""

from __future__ import annotations

from typing import Final

from dispatcher.parking import Parking
from grid import messages, parking, topology
from grid.amqp import Delivery
from grid.errors import MalformedMessage

NO_DEATH: Final = parking.Death(
    "", parking.UNKNOWN, f"its headers do not say why it came to {topology.DEAD}"
)


class DeadLetters:
    """Parks the messages of ``charge.dead``; several dispatchers may do so at once."""

    def __init__(self, parking: Parking) -> None:
        self._parking = parking

    def deliver(self, delivery: Delivery) -> None:
        """Park a dead letter."""
        death = parking.death(delivery.headers) or NO_DEATH
        reason = _reason(death, delivery.body)
        self._parking.park(delivery, delivery.id, death.kind, reason, queue=death.queue)


def _reason(death: parking.Death, body: bytes) -> str:
    """Return the reason, with what is wrong with the body of a rejected message.

    A message that was delivered too often is not decoded: that may have ended its consumers.
    """
    if death.kind != parking.REJECTED:
        return death.reason
    try:
        messages.decode(body)
    except MalformedMessage as error:
        return f"{death.reason}: {error}"
    return death.reason
