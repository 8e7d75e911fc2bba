"""A request in hand, and where it came from."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from grid import parking, topology
from grid.amqp import Delivery
from grid.messages import ChargeRequest
from grid.trace import Trace
from scheduling.wait_queue import Requirements, requirements

# of a request that a dispatcher published once more: its job may have ended, or be elsewhere
COPY_HEADER: Final = "x-published-again"
RECLAIMED_HEADER: Final = "x-taken-back-from"  # a substation, of a request that was sent before


class Hands(NamedTuple):
    """What a dispatcher has: the ids of its jobs, and how many other deliveries.

    The others are not acknowledged yet since they are being parked, or were copies.
    """

    jobs: Set[str]
    others: int


@dataclass(slots=True, eq=False)
class Job:
    """A request in hand.

    ``delivery`` is from ``charge.requests`` or the queue of a substation, None where it is only
    sent once more; ``origin`` the substation whose queue it was taken back from; ``since`` when it
    came, in the tracker's seconds; ``trace`` its span here; ``replays`` how often an operator sent
    it again after it was parked; ``once_more`` how often it was sent again since nothing was heard
    of it.
    """

    request: ChargeRequest
    body: bytes
    delivery: Delivery | None
    since: float
    trace: Trace
    replays: int = 0
    origin: str = ""
    substation: str = ""  # where it is being sent
    assigned_at: float = 0.0  # when that was decided, in Unix seconds
    attempt: int = 0
    sent: bool = False
    unrecorded: int = 0  # decisions on their way to the event log
    returning: bool = False  # on its way back to the queue
    read_to: int = 0  # up to which offset the event log was read when it went
    once_more: int = 0
    left: str = ""  # the substation of the last decision that was not carried out
    decided_after: int | None = None  # the first decision of it stands behind this in the event log
    requirements: Requirements = field(init=False)

    def __post_init__(self) -> None:
        self.requirements = requirements(self.request)

    @property
    def id(self) -> str:
        """Its name."""
        return self.request.id

    @property
    def is_ours(self) -> bool:
        """Return whether it is still to be settled here.

        Else it is acknowledged, or RabbitMQ delivers it again, perhaps to another dispatcher.
        """
        return self.delivery is None or self.delivery.is_live

    @property
    def is_request(self) -> bool:
        """Return whether it was delivered from ``charge.requests``."""
        return self.delivery is not None and self.delivery.queue == topology.REQUESTS

    @property
    def is_reclaimed(self) -> bool:
        """Return whether it was delivered from the queue of a substation."""
        return self.delivery is not None and self.delivery.queue != topology.REQUESTS

    @property
    def was_at(self) -> str:
        """Return the substation that the log names for it, and that does not have it."""
        return self.left or self.origin

    @property
    def headers(self) -> dict[str, Any]:
        """What goes with it wherever it goes."""
        return {**self.trace.headers(), **parking.marked(self.replays)}

    def done(self) -> None:
        """Acknowledge its delivery, where RabbitMQ has not got that back."""
        if self.delivery is not None:
            self.delivery.ack()
