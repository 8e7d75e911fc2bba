"""What RabbitMQ gave up: parked like all that cannot be processed, with the reason, and on record.

A queue gives up what its consumer rejects, and what it delivered too often. RabbitMQ moves that to
``charge.dead``, and nowhere else: so whatever is parked has a reason, and the event log names it.
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
    """Parks what comes from ``charge.dead``. Each of several dispatchers may do so."""

    def __init__(self, parking: Parking) -> None:
        self._parking = parking

    def deliver(self, delivery: Delivery) -> None:
        """Park what RabbitMQ gave up."""
        death = parking.death(delivery.headers) or NO_DEATH
        reason = _reason(death, delivery.body)
        self._parking.park(delivery, delivery.id, death.kind, reason, queue=death.queue)


def _reason(death: parking.Death, body: bytes) -> str:
    """Return why, and what is wrong with a body that was rejected.

    One that was delivered too often is not looked at: it may be what ended all who did.
    """
    if death.kind != parking.REJECTED:
        return death.reason
    try:
        messages.decode(body)
    except MalformedMessage as error:
        return f"{death.reason}: {error}"
    return death.reason
