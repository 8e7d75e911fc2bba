"""What the core is told: deliveries, answers, what is read and observed, and that time passes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dispatcher.commands import PublishJob, RequeueRequest, WriteEvent
from dispatcher.jobs import Job
from dispatcher.open_jobs import OpenJobs
from grid.controls import Control
from grid.events import Event
from grid.messages import ChargeRequest
from scheduling.readings import Reading

if TYPE_CHECKING:
    from grid.amqp import Delivery
    from grid.outcome import Outcome


class Moment(NamedTuple):
    """What holds while an input is handled.

    Args:
        now: The tracker's seconds, which are steady.
        clock: Unix seconds.
        position: The offset up to which the event log was read.
        certain: RabbitMQ confirmed a moment ago that what it delivered is still this dispatcher's.
            Else nothing is decided: another one may have it.
    """

    now: float
    clock: float
    position: int
    certain: bool


class Begin(NamedTuple):
    """What operators have set, and what was sent before, is known: from now on it is decided."""


class Stop(NamedTuple):
    """Nothing more is to be decided."""


class RequestDelivered(NamedTuple):
    """RabbitMQ delivers a request from ``charge.requests``."""

    delivery: Delivery


class JobReclaimed(NamedTuple):
    """A job was taken from the queue of a substation that does not take it.

    It is answered by ``Requeue`` where it is to stay there for now.
    """

    substation: str
    delivery: Delivery


class ReclaimedWanted(NamedTuple):
    """Another dispatcher is active: reclaimed jobs that wait here go back to their queues."""


class RequestsLost(NamedTuple):
    """The link of the requests broke: RabbitMQ delivers again what is not acknowledged."""


class ReclaimedLost(NamedTuple):
    """The link of the reclaimed jobs broke: they are in their queues again."""


class LogRead(NamedTuple):
    """The event log is read as far as it was written when ``ReadLog`` was executed."""

    older: bool


class PublishResult(NamedTuple):
    """RabbitMQ's answer to a published message."""

    command: PublishJob | RequeueRequest
    outcome: Outcome


class EventWritten(NamedTuple):
    """Whether RabbitMQ has an event."""

    command: WriteEvent
    written: bool


class EventsRead(NamedTuple):
    """The events of one message of the event log.

    Args:
        events: In their order.
        offset: The offset of the message.
        caught_up: All that the log had when this dispatcher started is read.
    """

    events: Sequence[Event]
    offset: int
    caught_up: bool


class OlderEventsRead(NamedTuple):
    """What the event log has from before this dispatcher began to follow it."""

    earlier: OpenJobs


class ScrapeResult(NamedTuple):
    """What a substation's page says, asked for at a time in the tracker's seconds."""

    substation: str
    reading: Reading
    asked_at: float


class ScrapeFailed(NamedTuple):
    """A substation's page gives no load, and why."""

    substation: str
    problem: str


class TargetsChanged(NamedTuple):
    """The substations there are, with their connectors where the target file says so."""

    connectors: dict[str, float | None]


class ControlChanged(NamedTuple):
    """What an operator has set for a substation."""

    substation: str
    control: Control


class SilenceConfirmed(NamedTuple):
    """The answer to ``ConfirmSilence``: the log is read, and these substations take their jobs."""

    jobs: Collection[Job]
    taking: Collection[str]


class RequestRepublished(NamedTuple):
    """A request that was missing is in ``charge.requests`` again.

    Args:
        job: Its id.
        substation: Where it had been sent; empty where it waited.
        read_to: The offset up to which the log was read when it was published.
    """

    job: str
    substation: str
    read_to: int


class RecordedJobMissing(NamedTuple):
    """A job is not where the event log has it, and is to be sent there once more."""

    request: ChargeRequest
    substation: str
    replays: int


class Route(NamedTuple):
    """All that this turn of the loop brought is handled: waiting jobs are assigned."""


class Tick(NamedTuple):
    """Time has passed. ``connected``: the link of the requests is up."""

    connected: bool


Input: TypeAlias = (
    Begin
    | Stop
    | RequestDelivered
    | JobReclaimed
    | ReclaimedWanted
    | RequestsLost
    | ReclaimedLost
    | LogRead
    | PublishResult
    | EventWritten
    | EventsRead
    | OlderEventsRead
    | ScrapeResult
    | ScrapeFailed
    | TargetsChanged
    | ControlChanged
    | SilenceConfirmed
    | RequestRepublished
    | RecordedJobMissing
    | Route
    | Tick
)
