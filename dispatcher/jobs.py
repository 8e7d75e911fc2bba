"""A job in hand: its states, their transitions, and its data."""

from __future__ import annotations

from collections.abc import Mapping, Set
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import Struct

from grid import parking, topology
from grid.messages import ChargeRequest
from grid.trace import Trace
from scheduling.order import Requirements

if TYPE_CHECKING:
    from grid.amqp import Delivery

# marks a request that a dispatcher published again: its job may have ended, or be elsewhere
COPY_HEADER: Final = "x-published-again"
RECLAIMED_HEADER: Final = "x-taken-back-from"  # the substation that a request was sent to before


class JobState(StrEnum):
    """The state of a job in hand, from delivery to acknowledgement."""

    WAITING = "waiting for a substation with capacity"
    ASSIGNED = "assigned; job or decision not confirmed yet"
    ENDING = "it has expired, is cancelled or refused a start; not recorded yet"
    REQUEUING = "published to charge.requests again; not confirmed yet"
    GONE = "not in hand any more: acknowledged, parked, rejected, or redelivered by RabbitMQ"


# Any other transition is an error in the code, and raises ImpossibleTransition.
TRANSITIONS: Final[Mapping[JobState, Set[JobState]]] = {
    JobState.WAITING: {
        JobState.ASSIGNED,  # there is capacity, or it is sent again to the same substation
        JobState.ENDING,  # it may wait no longer, or its client has cancelled it
        JobState.REQUEUING,  # it keeps out others, or was held for too long
        JobState.GONE,  # it is parked, rejected or given back, has ended, or its delivery was lost
    },
    JobState.ASSIGNED: {
        JobState.WAITING,  # its substation's queue refused it
        JobState.ASSIGNED,  # in doubt: it is sent again to the same substation
        JobState.GONE,  # job and decision are confirmed, or its delivery was lost
    },
    JobState.ENDING: {
        JobState.WAITING,  # RabbitMQ refused the record
        JobState.GONE,
    },
    JobState.REQUEUING: {
        JobState.WAITING,  # RabbitMQ refused it
        JobState.GONE,
    },
    JobState.GONE: {
        JobState.ASSIGNED,  # it did not begin: it is sent again to the same substation
    },
}


class ImpossibleTransition(Exception):
    """A job cannot enter this state from its present one: an error in the code."""


class JobsInHand(NamedTuple):
    """The ids of a dispatcher's jobs, and how many other deliveries it has.

    The others are not acknowledged yet: they are being parked, or are copies.
    """

    jobs: Set[str]
    others: int


class Job(Struct, eq=False):
    """A job in hand; only ``Lifecycle`` changes it.

    Args:
        request: The request.
        requirements: What it needs of a substation.
        body: Its bytes, as they are published.
        delivery: From ``charge.requests`` or a substation's queue; None if the job is only sent
            again, if it is ``early``, and once it is acknowledged.
        since: When it was delivered, in the tracker's seconds.
        trace: Its span here.
        replays: How often an operator has replayed it.
        origin: The substation from whose queue it was reclaimed; empty for a request.
    """

    request: ChargeRequest
    requirements: Requirements
    body: bytes
    delivery: Delivery | None
    since: float
    trace: Trace
    replays: int = 0
    origin: str = ""
    state: JobState = JobState.WAITING
    substation: str = ""  # where it is sent
    assigned_at: float = 0.0  # when that was decided, in Unix seconds
    attempt: int = 0
    confirmed: bool = False  # RabbitMQ has it on its substation's queue
    charges_there: bool = False  # the queue refused it, a second copy: its session goes on
    unrecorded: int = 0  # decisions of it that RabbitMQ has not answered for yet
    read_to: int = 0  # up to which offset the event log was read when it was requeued
    resent: int = 0  # how often it was sent again since nothing was heard of it
    safe: bool = False  # without its delivery: in a queue, watched until it begins, or ended
    aside: bool = False  # it is parked or rejected; once its delivery is settled, that is done
    early: bool = False  # its promised start has come, and its request is not delivered yet
    left: str = ""  # the substation of the last decision that was not carried out
    decided_after: int | None = None  # the first decision of it stands behind this in the event log

    @property
    def id(self) -> str:
        """Return its id, which it has for life."""
        return self.request.id

    @property
    def is_ours(self) -> bool:
        """Return whether its delivery is still to be settled here.

        Otherwise it is acknowledged, or RabbitMQ redelivers it, perhaps to another dispatcher.
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
        """Return the substation that the log has it at, and that does not have it any more."""
        return self.left or self.origin

    @property
    def headers(self) -> dict[str, Any]:
        """Return the headers that it is published with."""
        return {**self.trace.headers(), **parking.marked(self.replays)}

    def enter(self, state: JobState) -> None:
        """Enter a state. Raise ``ImpossibleTransition`` if it cannot follow the present one."""
        if state not in TRANSITIONS[self.state]:
            raise ImpossibleTransition(f"job {self.id} is {self.state.name}, not {state.name} next")
        self.state = state
