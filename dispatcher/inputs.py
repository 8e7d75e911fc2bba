"""The inputs of the core: deliveries, answers, what is read and observed, and ticks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from dispatcher.commands import LookAtQueue, PublishJob, RequeueRequest, WriteEvent
from dispatcher.jobs import Job
from dispatcher.open_jobs import OpenJobs
from grid.cancellations import Cancellation
from grid.controls import Control
from grid.events import Event
from grid.messages import ChargeRequest
from scheduling.readings import Reading

if TYPE_CHECKING:
    from grid.amqp import Delivery, QueueState
    from grid.outcome import Outcome


class Moment(Struct, frozen=True, gc=False):
    """The circumstances in which an input is handled.

    Args:
        now: The tracker's seconds, which are monotonic.
        clock: Unix seconds.
        position: The offset up to which the event log was read.
        certain: Whether RabbitMQ confirmed a moment ago that its deliveries are still this
            dispatcher's. If not, nothing is decided: another dispatcher may have them.
    """

    now: float
    clock: float
    position: int
    certain: bool


class Begin(Struct, frozen=True, gc=False):
    """Controls and earlier decisions are known: the core decides from now on."""


class Stop(Struct, frozen=True, gc=False):
    """The dispatcher stops: the core decides nothing more."""


class RequestDelivered(Struct, frozen=True, gc=False):
    """RabbitMQ delivers a request from ``charge.requests``."""

    delivery: Delivery


class ReclaimDue(Struct, frozen=True, gc=False):
    """The next job may be reclaimed.

    ``is_fed`` says whether RabbitMQ may feed this dispatcher. If it may feed another one, reclaimed
    jobs that wait here go back to their queues.
    """

    is_fed: bool


class JobReclaimed(Struct, frozen=True, gc=False):
    """A job was taken from the queue of a substation that does not consume it.

    The answer is ``Requeue`` if it is to stay there for now. There is no ``delivery`` if the queue
    is empty, or RabbitMQ did not answer (``problem``).
    """

    substation: str
    delivery: Delivery | None
    problem: str = ""


class RequestsLost(Struct, frozen=True, gc=False):
    """The link of the requests broke: RabbitMQ redelivers what is not acknowledged."""


class ReclaimedLost(Struct, frozen=True, gc=False):
    """The link of the reclaimed jobs broke: they are in their queues again."""


class LogRead(Struct, frozen=True, gc=False):
    """The event log is read as far as it was written when ``ReadLog`` was executed."""

    older: bool


class PublishResult(Struct, frozen=True, gc=False):
    """RabbitMQ's answer to a published message."""

    command: PublishJob | RequeueRequest
    outcome: Outcome


class EventWritten(Struct, frozen=True, gc=False):
    """Whether RabbitMQ has an event."""

    command: WriteEvent
    written: bool


class EventsRead(Struct, frozen=True, gc=False):
    """The events of one message of the event log.

    Args:
        events: In their order.
        offset: The offset of the message.
        caught_up: Whether all is read that the log had when this dispatcher started.
    """

    events: Sequence[Event]
    offset: int
    caught_up: bool


class OlderEventsRead(Struct, frozen=True, gc=False):
    """What the event log has from before this dispatcher began to follow it."""

    earlier: OpenJobs


class ScrapeResult(Struct, frozen=True, gc=False):
    """The reading of a substation's page, requested at ``asked_at`` in the tracker's seconds."""

    substation: str
    reading: Reading
    asked_at: float


class ScrapeFailed(Struct, frozen=True, gc=False):
    """A substation's page could not be read, and why."""

    substation: str
    problem: str


class QueuesDue(Struct, frozen=True, gc=False):
    """The next queue may be looked at."""


class QueueObserved(Struct, frozen=True, gc=False):
    """What was seen of a queue.

    There is no ``state`` if there is no such queue, or its state is unknown (``problem``).
    ``is_empty`` is whether its leader says so; None if it was not asked.
    """

    look: LookAtQueue
    state: QueueState | None
    problem: str = ""
    is_empty: bool | None = None


class TargetsChanged(Struct, frozen=True, gc=False):
    """The substations in the target file, with their connectors if it says so, and labels."""

    connectors: dict[str, float | None]
    labels: Mapping[str, Mapping[str, str]] = MappingProxyType({})


class ControlChanged(Struct, frozen=True, gc=False):
    """What an operator has set for a substation."""

    substation: str
    control: Control


class JobCancelled(Struct, frozen=True, gc=False):
    """A client has cancelled a job, wherever that is."""

    cancellation: Cancellation


class SilenceConfirmed(Struct, frozen=True, gc=False):
    """What was seen after jobs of one substation should have begun: see ``ConfirmSilence``.

    Args:
        substation: Where they were sent.
        jobs: Those of that substation.
        queue: The state of its queue; None if that is unknown, or the event log was not read.
    """

    substation: str
    jobs: Collection[Job]
    queue: QueueState | None


class RequestRepublished(Struct, frozen=True, gc=False):
    """A request that was missing is in ``charge.requests`` again.

    Args:
        job: Its id.
        substation: Where it had been sent; empty if it waited.
        read_to: The offset up to which the log was read when it was published.
    """

    job: str
    substation: str
    read_to: int


class RecordedJobMissing(Struct, frozen=True, gc=False):
    """A job is not where the event log has it, and is to be sent there again."""

    request: ChargeRequest
    substation: str
    replays: int


class RecordLost(Struct, frozen=True, gc=False):
    """The event log does not have the request of a missing job any more."""

    job: str


class CancelledRequestMissing(Struct, frozen=True, gc=False):
    """A request that was cancelled before its delivery is in no queue any more."""

    job: str


class Route(Struct, frozen=True, gc=False):
    """The inputs of this turn of the loop are handled: assign waiting jobs."""


class Tick(Struct, frozen=True, gc=False):
    """Time has passed. ``connected`` says whether the link of the requests is up."""

    connected: bool


Input: TypeAlias = (
    Begin
    | Stop
    | RequestDelivered
    | JobReclaimed
    | ReclaimDue
    | RequestsLost
    | ReclaimedLost
    | LogRead
    | PublishResult
    | EventWritten
    | EventsRead
    | OlderEventsRead
    | ScrapeResult
    | ScrapeFailed
    | QueuesDue
    | QueueObserved
    | TargetsChanged
    | ControlChanged
    | JobCancelled
    | SilenceConfirmed
    | RequestRepublished
    | RecordedJobMissing
    | RecordLost
    | CancelledRequestMissing
    | Route
    | Tick
)
