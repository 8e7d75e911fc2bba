"""Renewing a lease on deliveries: asking RabbitMQ again and again whether a channel is there."""

from __future__ import annotations

import asyncio
from typing import Final

from pika.channel import Channel
from pika.exceptions import AMQPError

from grid.amqp.lease import ANSWER_SECONDS, LEASE_SECONDS, RENEW_SECONDS, Lease

_ANY_PREFETCH: Final = 1


class Renewal:
    """The renewal of a lease, until it is stopped; ``broken`` is settled if there is no answer.

    It asks something that changes nothing: a prefetch for future consumers, which needs no
    permission. It uses a timer and a callback: a task would take several turns of the loop a
    question.
    """

    def __init__(self, lease: Lease, channel: Channel, broken: asyncio.Future[str]) -> None:
        self._lease = lease
        self._channel = channel
        self._broken = broken
        self._loop = broken.get_loop()
        self._asked_at: float | None = None  # in the lease's time, while there is no answer
        self._overdue_at = 0.0  # in the loop's time
        self._ran_at = lease.now()
        self._was_stopped = False  # while there was no answer
        self._timer = self._loop.call_later(RENEW_SECONDS, self._on_time)

    def stop(self) -> None:
        """Stop asking; an answer that still comes is ignored."""
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
        """Ask, or return False if the channel is closed, which settles ``broken``."""
        try:
            self._channel.basic_qos(prefetch_count=_ANY_PREFETCH, callback=self._on_answer)
        except AMQPError:
            return False
        self._asked_at = self._ran_at = self._lease.now()
        self._overdue_at = self._loop.time() + ANSWER_SECONDS
        self._was_stopped = False
        return True

    def _on_answer(self, _frame: object) -> None:
        """Renew the lease: from the answer if this process was running, else from the question.

        A process that was stopped finds in a buffer what RabbitMQ answered long before.
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
