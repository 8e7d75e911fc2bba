"""The queues, exchanges and bindings, as values: the one place that defines them.

Arguments of a queue cannot be changed once it exists, so they are all here from the start.
Nobody publishes through RabbitMQ's default exchange: a right to write there reaches every queue.
An exchange has another name than its queue: RabbitMQ's permissions do not distinguish the two, and
who may write to a queue may bind it. Only ``charge.parked`` is both: existing queues name it as
their dead-letter exchange.
Sources: RabbitMQ's guides on quorum queues, streams, consumers and access control.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

REQUESTS: Final = "charge.requests"
PARKED: Final = "charge.parked"
PARKED_KEY: Final = "parked"  # of messages parked with their reason
DEAD: Final = "charge.dead"
# of dead letters: queues of earlier versions name this key, and no queue can be changed
DEAD_KEY: Final = PARKED
EVENTS: Final = "charge.events"
CONTROLS: Final = "charge.controls"
CANCELLATIONS: Final = "charge.cancellations"
REQUESTS_EXCHANGE: Final = "charge.requests.in"
EVENTS_EXCHANGE: Final = "charge.events.in"  # a topic: the key names the user who publishes
CONTROLS_EXCHANGE: Final = "charge.controls.in"
CANCELLATIONS_EXCHANGE: Final = "charge.cancellations.in"
SUBSTATIONS_EXCHANGE: Final = "charge.substations"
SUBSTATION_QUEUE_PREFIX: Final = "substation."

DELIVERY_LIMIT: Final = (
    100  # far above any series of restarts: what is redelivered more often is poison
)
REQUESTS_MAX_LENGTH: Final = 500_000
SUBSTATION_MAX_LENGTH: Final = 100_000
PARKED_MAX_LENGTH: Final = 1_000_000
PARKED_DELIVERY_LIMIT: Final = 1_000_000  # without an explicit limit, RabbitMQ 4 drops at 20
EVENTS_MAX_AGE_SECONDS: Final = 24 * 3600
EVENTS_MAX_BYTES: Final = 500_000_000  # an api reads all of it when it starts
EVENTS_SEGMENT_BYTES: Final = 50_000_000  # retention drops whole segments
CONTROLS_MAX_BYTES: Final = 20_000_000
CONTROLS_SEGMENT_BYTES: Final = 1_000_000
CANCELLATIONS_MAX_BYTES: Final = 20_000_000  # some 200,000; each reader reads all when it starts
CANCELLATIONS_SEGMENT_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue, its arguments, and the exchange and key it is bound to."""

    name: str
    exchange: str
    key: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _quorum(max_length: int, **more: object) -> dict[str, Any]:
    """Return the arguments of a quorum queue that refuses when full, and dead-letters poison.

    ``x-overflow`` is what makes dead-lettering at-least-once possible.
    """
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-max-length": max_length,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": PARKED,
        "x-dead-letter-routing-key": DEAD_KEY,
        "x-dead-letter-strategy": "at-least-once",
        **more,
    }


REQUESTS_QUEUE: Final = Queue(
    REQUESTS,
    REQUESTS_EXCHANGE,
    REQUESTS,
    _quorum(REQUESTS_MAX_LENGTH, **{"x-single-active-consumer": True}),
)
PARKED_QUEUE: Final = Queue(
    PARKED,
    PARKED,
    PARKED_KEY,
    {
        "x-queue-type": "quorum",
        "x-delivery-limit": PARKED_DELIVERY_LIMIT,  # looking at a parked message delivers it
        "x-max-length": PARKED_MAX_LENGTH,
        "x-overflow": "reject-publish",
    },
)
DEAD_QUEUE: Final = Queue(
    DEAD,
    PARKED,
    DEAD_KEY,
    # the dispatcher parks what is here; a message it fails over is parked as it is
    _quorum(
        PARKED_MAX_LENGTH,
        **{
            "x-delivery-limit": PARKED_DELIVERY_LIMIT,
            "x-dead-letter-routing-key": PARKED_KEY,
        },
    ),
)
EVENTS_STREAM: Final = Queue(
    EVENTS,
    EVENTS_EXCHANGE,
    "#",
    {
        "x-queue-type": "stream",
        "x-max-age": f"{EVENTS_MAX_AGE_SECONDS // 3600}h",
        "x-max-length-bytes": EVENTS_MAX_BYTES,
        "x-stream-max-segment-size-bytes": EVENTS_SEGMENT_BYTES,
    },
)
CONTROLS_STREAM: Final = Queue(
    CONTROLS,
    CONTROLS_EXCHANGE,
    CONTROLS,
    # no age: what was set a year ago still holds
    {
        "x-queue-type": "stream",
        "x-max-length-bytes": CONTROLS_MAX_BYTES,
        "x-stream-max-segment-size-bytes": CONTROLS_SEGMENT_BYTES,
    },
)

CANCELLATIONS_STREAM: Final = Queue(
    CANCELLATIONS,
    CANCELLATIONS_EXCHANGE,
    CANCELLATIONS,
    # for as long as the event log knows the jobs
    {
        "x-queue-type": "stream",
        "x-max-age": f"{EVENTS_MAX_AGE_SECONDS // 3600}h",
        "x-max-length-bytes": CANCELLATIONS_MAX_BYTES,
        "x-stream-max-segment-size-bytes": CANCELLATIONS_SEGMENT_BYTES,
    },
)

QUEUES: Final = (
    PARKED_QUEUE,
    DEAD_QUEUE,
    REQUESTS_QUEUE,
    EVENTS_STREAM,
    CONTROLS_STREAM,
    CANCELLATIONS_STREAM,
)
# with their types; all are durable
EXCHANGES: Final[Mapping[str, str]] = {
    PARKED: "direct",
    REQUESTS_EXCHANGE: "direct",
    EVENTS_EXCHANGE: "topic",
    CONTROLS_EXCHANGE: "direct",
    CANCELLATIONS_EXCHANGE: "direct",
    SUBSTATIONS_EXCHANGE: "direct",
}


def substation_of(queue: str) -> str | None:
    """Return the substation whose queue this is; None if it is another queue."""
    name = queue.removeprefix(SUBSTATION_QUEUE_PREFIX)
    return name if name != queue else None


def substation_queue(substation: str) -> Queue:
    """Return the queue of one substation; its routing key is the substation's id."""
    return Queue(
        SUBSTATION_QUEUE_PREFIX + substation,
        SUBSTATIONS_EXCHANGE,
        substation,
        _quorum(SUBSTATION_MAX_LENGTH),
    )
