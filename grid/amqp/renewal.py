"""Renewing a lease on deliveries: asking RabbitMQ again and again whether a channel is there."""

from __future__ import annotations

import asyncio
from typing import Final

from pika.channel import Channel
from pika.exceptions import AMQPError

from grid.amqp.lease import ANSWER_SECONDS, LEASE_SECONDS, RENEW_SECONDS, Lease

_ANY_PREFETCH: Final = 1


class Renewal:
    """Renews a lease from now on, until it is stopped; ``broken`` is settled without an answer.

    It asks something that changes nothing: a prefetch is for consumers to come, and needs no right.
    A timer and a callback do, where a task would take several turns of the loop a question.
    """

    def __init__(self, lease: Lease, channel: Channel, broken: asyncio.Future[str]) -> None:
        self._lease = lease
        self._channel = channel
        self._broken = broken
        self._loop = broken.get_loop()
        self._asked_at: float | None = None  # by the lease's time, while there is no answer
        self._overdue_at = 0.0  # by the loop's
        self._ran_at = lease.now()
        self._was_stopped = False  # while there was no answer
        self._timer = self._loop.call_later(RENEW_SECONDS, self._on_time)

    def stop(self) -> None:
        """Ask no more; an answer that still comes is of no use."""
        self._timer.cancel()
        self._asked_at = None

    def _on_time(self) -> None:
        if self._asked_at is None:
            if not self._ask():
                return
        elif self._loop.time() > self._overdue_at:
            if not self._broken.done():
                self._broken.set_result(f"RabbitMQ has not answered in {ANSWER_SECONDS:g} s")
            return
        else:
            self._note_run()
        self._timer = self._loop.call_later(RENEW_SECONDS, self._on_time)

    def _ask(self) -> bool:
        """Ask, or return False where the channel is closed: whoever waits for that is told."""
        try:
            self._channel.basic_qos(prefetch_count=_ANY_PREFETCH, callback=self._on_answer)
        except AMQPError:
            return False
        self._asked_at = self._ran_at = self._lease.now()
        self._overdue_at = self._loop.time() + ANSWER_SECONDS
        self._was_stopped = False
        return True

    def _on_answer(self, _frame: object) -> None:
        """Renew the lease: from the answer where this process ran all the while, else the question.

        A process that was stopped finds in a buffer what RabbitMQ has answered long before.
        """
        if self._asked_at is None:
            return
        self._note_run()
        self._lease.renew(self._asked_at if self._was_stopped else self._ran_at)
        self._asked_at = None

    def _note_run(self) -> None:
        now = self._lease.now()
        self._was_stopped = self._was_stopped or now - self._ran_at > LEASE_SECONDS
        self._ran_at = now
