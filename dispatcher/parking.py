"""Parks messages that cannot be processed: in ``charge.parked``, unchanged, with the reason.

The event is written afterwards: a job that is parked by the event log must be there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from dispatcher.metrics import Metrics
from grid import messages, parking, topology
from grid.amqp import Delivery, Outcome, Publisher
from grid.event_log import EventWriter
from grid.events import Event, State

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0  # after RabbitMQ has refused to park a message, or its record


class Parking:
    """Parks messages; each is acknowledged once it is parked and that is recorded."""

    def __init__(
        self,
        publisher: Publisher,
        events: EventWriter,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._publisher = publisher
        self._events = events
        self._metrics = metrics
        self._clock = clock

    def park(
        self,
        delivery: Delivery,
        id: str | None,
        kind: str,
        reason: str,
        *,
        queue: str | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> None:
        """Park a message; ``id`` is its id as published, which may be anything.

        ``kind`` is the reason in one or two words, one of few. ``queue`` and ``headers`` are given
        if they differ from those of the delivery.
        """
        name = messages.name_of(id, delivery.body)
        log.warning("parked %s: %s", name, reason)
        self._metrics.parked.labels(kind).inc()
        queue = delivery.queue if queue is None else queue
        headers = delivery.headers if headers is None else headers
        label = parking.label(kind, reason, queue, self._clock(), headers)
        self._publish(delivery, name, label)

    def _publish(self, delivery: Delivery, name: str, label: Mapping[str, Any]) -> None:
        def answer(outcome: Outcome) -> None:
            if outcome is Outcome.CONFIRMED:
                self._events.insist(
                    self._event(name, label),
                    RETRY_SECONDS,
                    partial(self._on_recorded, delivery),
                    wanted=lambda: delivery.is_live,  # else RabbitMQ redelivers the message
                )
            elif delivery.is_live:
                again = partial(self._publish, delivery, name, label)
                asyncio.get_running_loop().call_later(RETRY_SECONDS, again)

        self._publisher.publish(
            topology.PARKED, topology.PARKED_KEY, delivery.body, answer, id=name, headers=label
        )

    def _event(self, name: str, label: Mapping[str, Any]) -> Event:
        queue = label[parking.FROM_HEADER]
        return Event(
            State.PARKED,
            self._clock(),
            job=name,
            substation=topology.substation_of(queue) or "",
            reason=label[parking.REASON_HEADER],
            detail=parking.noted(parking.replays(label)),
        )

    def _on_recorded(self, delivery: Delivery, written: bool) -> None:  # noqa: FBT001
        self._metrics.events_lost.inc(not written)
        if written:
            delivery.ack()
