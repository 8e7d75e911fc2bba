"""The commands of the core, which the shell executes in their order.

A docstring refers to the input that answers the command.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from dispatcher.jobs import Job
from grid.events import Event
from grid.trace import Trace

if TYPE_CHECKING:
    from grid.amqp import Delivery


class PublishJob(Struct, frozen=True, gc=False):
    """Publish a job to its substation's queue, after all earlier events. See ``PublishResult``."""

    job: Job
    substation: str


class RequeueRequest(Struct, frozen=True, gc=False):
    """Publish a request to ``charge.requests`` again. See ``PublishResult``."""

    job: Job
    headers: Mapping[str, Any]


class ParkMessage(Struct, frozen=True, gc=False):
    """Park a message, record that in the event log, and then acknowledge its delivery.

    Args:
        delivery: The message.
        id: Its id as published, which may be anything.
        kind: The reason in one or two words.
        reason: The reason in full.
        headers: Its headers, if they differ from those of the delivery.
    """

    delivery: Delivery
    id: str | None
    kind: str
    reason: str
    headers: Mapping[str, Any] | None = None


class WriteEvent(Struct, frozen=True, gc=False):
    """Write an event to the event log. See ``EventWritten``; ``job`` waits for it."""

    event: Event
    job: Job | None = None


class Ack(Struct, frozen=True, gc=False):
    """Acknowledge a delivery."""

    delivery: Delivery


class Requeue(Struct, frozen=True, gc=False):
    """Return a delivery to its queue."""

    delivery: Delivery


class Reject(Struct, frozen=True, gc=False):
    """Reject a delivery: RabbitMQ dead-letters it."""

    delivery: Delivery


class ReadLog(Struct, frozen=True, gc=False):
    """Read the event log up to its end. See ``LogRead``.

    Args:
        older: Whether to read what is older than this dispatcher's start as well.
        requests: How many requests wait for that.
    """

    older: bool
    requests: int


class RouteSoon(Struct, frozen=True, gc=False):
    """Feed ``Route`` after the other inputs of this turn of the loop."""


class LookAtQueue(Struct, frozen=True, gc=False):
    """Look at a substation's queue. See ``QueueObserved``.

    Args:
        substation: Whose queue.
        declare: Whether to declare and bind it first.
        depth: Whether its depth sets the load tracker's baseline.
    """

    substation: str
    declare: bool = False
    depth: bool = False


class TakeFromQueue(Struct, frozen=True, gc=False):
    """Get the first job from a substation's queue. See ``JobReclaimed``."""

    substation: str


class ScrapeNow(Struct, frozen=True, gc=False):
    """Read a substation's page now."""

    substation: str


class ConfirmSilence(Struct, frozen=True, gc=False):
    """Read the event log, and look at the queues where jobs should have begun.

    See ``SilenceConfirmed``.
    """

    jobs: Collection[Job]


class LogJob(Struct, frozen=True, gc=False):
    """Log what happened to a job.

    ``since`` is when it was delivered, in the tracker's seconds, if it leaves the dispatcher now.
    """

    job: str
    trace: Trace
    text: str
    substation: str = ""
    since: float | None = None


class Warn(Struct, frozen=True, gc=False):
    """Log a warning."""

    text: str


class ReportError(Struct, frozen=True, gc=False):
    """Count and log an unforeseen error over one item; the others go on."""

    item: str
    error: Exception


class Fail(Struct, frozen=True, gc=False):
    """Raise an unforeseen error after the other commands are executed."""

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
    | LookAtQueue
    | TakeFromQueue
    | ScrapeNow
    | ConfirmSilence
    | LogJob
    | Warn
    | ReportError
    | Fail
)
