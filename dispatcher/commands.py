"""What the core wants done. The shell executes commands in their order, and decides nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from dispatcher.jobs import Job
from grid.events import Event
from grid.trace import Trace

if TYPE_CHECKING:
    from grid.amqp import Delivery


class PublishJob(NamedTuple):
    """Publish a job to its substation's queue, behind all events so far: ``PublishResult``."""

    job: Job
    substation: str


class RequeueRequest(NamedTuple):
    """Publish a request to ``charge.requests``, behind all that are there: ``PublishResult``."""

    job: Job
    headers: Mapping[str, Any]


class ParkMessage(NamedTuple):
    """Park a message, with a record in the event log, and acknowledge its delivery after that.

    Args:
        delivery: The message.
        id: What is known of its id; a stranger may have written anything there.
        kind: The reason in a word or two.
        reason: The reason in full.
        headers: Where they are not those of the delivery.
    """

    delivery: Delivery
    id: str | None
    kind: str
    reason: str
    headers: Mapping[str, Any] | None = None


class WriteEvent(NamedTuple):
    """Write an event to the event log: ``EventWritten``. ``job`` is the one that waits for it."""

    event: Event
    job: Job | None = None


class Ack(NamedTuple):
    """Acknowledge a delivery."""

    delivery: Delivery


class Requeue(NamedTuple):
    """Return a delivery to its queue."""

    delivery: Delivery


class Reject(NamedTuple):
    """Reject a delivery: RabbitMQ dead-letters it."""

    delivery: Delivery


class ReadLog(NamedTuple):
    """Read the event log up to its end, for so many requests: ``LogRead``.

    Args:
        older: What is older than this dispatcher's start is read as well.
        requests: How many requests wait for that.
    """

    older: bool
    requests: int


class RouteSoon(NamedTuple):
    """Bring ``Route`` once all is handled that this turn of the loop brings."""


class DeclareQueue(NamedTuple):
    """Declare a substation's queue, which is missing."""

    substation: str


class ConfirmSilence(NamedTuple):
    """Find out whether jobs that have not begun should have: ``SilenceConfirmed``."""

    jobs: Collection[Job]


class LogJob(NamedTuple):
    """Log what happened to a job."""

    job: str
    trace: Trace
    text: str
    substation: str = ""


class ReportError(NamedTuple):
    """Count and log an unforeseen error over one of many items; all else goes on."""

    item: str
    error: Exception


class Fail(NamedTuple):
    """Raise an unforeseen error, once the other commands are executed."""

    error: Exception


Command: TypeAlias = (
    PublishJob
    | RequeueRequest
    | ParkMessage
    | WriteEvent
    | Ack
    | Requeue
    | Reject
    | ReadLog
    | RouteSoon
    | DeclareQueue
    | ConfirmSilence
    | LogJob
    | ReportError
    | Fail
)
