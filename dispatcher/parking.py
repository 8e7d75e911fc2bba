"""Putting aside what cannot be processed: to ``charge.parked``, unchanged, with the reason.

The event log is told afterwards: whoever reads there that a job is parked must be able to find it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from dispatcher.telemetry import Metrics
from grid import messages, parking, topology
from grid.amqp import Outcome, Publisher
from grid.event_log import EventWriter
from grid.events import Event, State

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0  # after RabbitMQ has refused to park a message, or its record


class Parking:
    """Parks messages; ``parked`` is told the tag of each that RabbitMQ has there, on record."""

    def __init__(
        self,
        publisher: Publisher,
        events: EventWriter,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        parked: Callable[[int], None],
    ) -> None:
        self._publisher = publisher
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._parked = parked
        self._epoch = 0  # of the consuming link: a tag of an older one means nothing

    def park(
        self,
        tag: int | None,
        body: bytes,
        id: str | None,
        kind: str,
        reason: str,
        *,
        queue: str,
        headers: Mapping[str, Any],
    ) -> None:
        """Put aside a message of a queue; ``id`` may be anything a stranger wrote there.

        ``kind`` is the reason in a word or two, one of few.
        """
        name = messages.name_of(id, body)
        log.warning("parked %s: %s", name, reason)
        self._metrics.parked.labels(kind).inc()
        label = parking.label(kind, reason, queue, self._clock(), headers)
        self._publish(self._epoch, tag, body, name, label)

    def forget(self) -> None:
        """Let go of all deliveries: RabbitMQ delivers them again, and they are parked again."""
        self._epoch += 1

    def _publish(
        self, epoch: int, tag: int | None, body: bytes, name: str, label: Mapping[str, Any]
    ) -> None:
        def answer(outcome: Outcome) -> None:
            if outcome is Outcome.CONFIRMED:
                self._events.insist(
                    self._event(name, label),
                    RETRY_SECONDS,
                    partial(self._on_recorded, epoch, tag),
                    wanted=lambda: epoch == self._epoch,  # else RabbitMQ brings the message again
                )
            elif epoch == self._epoch:
                again = partial(self._publish, epoch, tag, body, name, label)
                asyncio.get_running_loop().call_later(RETRY_SECONDS, again)

        self._publisher.publish(
            topology.PARKED, topology.PARKED_KEY, body, answer, id=name, headers=label
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

    def _on_recorded(self, epoch: int, tag: int | None, written: bool) -> None:  # noqa: FBT001
        self._metrics.events_lost.inc(not written)
        if written and tag is not None and epoch == self._epoch:
            self._parked(tag)
