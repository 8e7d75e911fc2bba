"""A job in hand: its states, what may follow which, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from grid import parking, topology
from grid.messages import ChargeRequest
from grid.trace import Trace
from scheduling.wait_queue import Requirements, requirements

if TYPE_CHECKING:
    from grid.amqp import Delivery

# of a request that a dispatcher published once more: its job may have ended, or be elsewhere
COPY_HEADER: Final = "x-published-again"
RECLAIMED_HEADER: Final = "x-taken-back-from"  # a substation, of a request that was sent before


class JobState(Enum):
    """Where a job in hand is on its way from delivery to acknowledgement."""

    WAITING = "waiting for a substation with capacity"
    ASSIGNED = "assigned; the job or its decision is not confirmed yet"
    EXPIRING = "its departure has passed; that is not on record yet"
    REQUEUING = "on its way back to charge.requests, and not confirmed yet"
    GONE = "not in hand any more: acknowledged, parked, or RabbitMQ delivers it again"


# A transition that is not in this table is a mistake of ours, and raises.
TRANSITIONS: Final[Mapping[JobState, Set[JobState]]] = {
    JobState.WAITING: {
        JobState.ASSIGNED,  # there is capacity for it, or it is sent once more where it was
        JobState.EXPIRING,  # its departure has passed
        JobState.REQUEUING,  # it keeps out others, or was held for long
        JobState.GONE,  # it is parked or rejected, or its delivery went with a link
    },
    JobState.ASSIGNED: {
        JobState.WAITING,  # the queue of its substation did not take it
        JobState.ASSIGNED,  # whether it did is in doubt: to the same substation once more
        JobState.GONE,  # job and decision are confirmed, or its delivery went with a link
    },
    JobState.EXPIRING: {
        JobState.WAITING,  # RabbitMQ refused the record
        JobState.GONE,
    },
    JobState.REQUEUING: {
        JobState.WAITING,  # RabbitMQ refused it
        JobState.GONE,
    },
    JobState.GONE: {
        JobState.ASSIGNED,  # nothing was heard of it: to the same substation once more
    },
}


class ImpossibleTransition(Exception):
    """A job was to enter a state that cannot follow its state: a mistake of ours."""


class JobsInHand(NamedTuple):
    """What a dispatcher has: the ids of its jobs, and how many other deliveries.

    The others are not acknowledged yet since they are being parked, or were copies.
    """

    jobs: Set[str]
    others: int


@dataclass(slots=True, eq=False)
class Job:
    """A job in hand; only the core changes it.

    Args:
        request: What was asked for.
        body: Its bytes, as they are published.
        delivery: From ``charge.requests`` or the queue of a substation; None where the job is only
            sent once more.
        since: When it came, in the tracker's seconds.
        trace: Its span here.
        replays: How often an operator sent it again after it was parked.
        origin: The substation from whose queue it was reclaimed; empty for a request.
    """

    request: ChargeRequest
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
    unrecorded: int = 0  # decisions of it that RabbitMQ has not answered for yet
    read_to: int = 0  # up to which offset the event log was read when it was requeued
    resent: int = 0  # how often it was sent again since nothing was heard of it
    left: str = ""  # the substation of the last decision that was not carried out
    decided_after: int | None = None  # the first decision of it stands behind this in the event log
    requirements: Requirements = field(init=False)

    def __post_init__(self) -> None:
        self.requirements = requirements(self.request)

    @property
    def id(self) -> str:
        """Return its id, which it has for life."""
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
        """Return the headers that go with it wherever it goes."""
        return {**self.trace.headers(), **parking.marked(self.replays)}

    def enter(self, state: JobState) -> None:
        """Enter a state. Raise ``ImpossibleTransition`` where it cannot follow the present one."""
        if state not in TRANSITIONS[self.state]:
            raise ImpossibleTransition(f"job {self.id} is {self.state.name}, not {state.name} next")
        self.state = state
