"""Settling what one channel has delivered: acknowledged once a turn of the loop, in few frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from grid.amqp import frames
from grid.amqp.ack_window import AckWindow

Send = Callable[[bytes], None]  # sends frames on a channel, while it is open
Soon = Callable[[Callable[[], None]], None]  # calls back at the end of the loop's turn


class Acknowledger:
    """Settles the deliveries of one channel, each once, for as long as that channel is the link's.

    Every channel has its own: tags begin at 1 on each, and one of an older channel means another
    message on a newer one.

    An acknowledgement waits for the end of the loop's turn, so that one frame may do for many; with
    ``gap_seconds`` one behind a delivery that is not settled waits once or twice as long, and those
    that come meanwhile wait with it. What is requeued or rejected goes at once, after all that was
    acknowledged before it.
    """

    def __init__(self, channel: int, send: Send, soon: Soon, *, gap_seconds: float = 0.0) -> None:
        self.is_live = True
        self._channel = channel
        self._send = send
        self._soon = soon
        self._gap_seconds = gap_seconds
        self._window = AckWindow()
        self._is_due = False
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return how many deliveries are not settled; one to be acknowledged soon is."""
        return self._window.undone

    def delivered(self, tag: int) -> None:
        """Record a delivery, before anything else is done with it."""
        self._window.delivered(tag)

    def ack(self, tag: int) -> None:
        """Acknowledge a delivery soon."""
        self._window.done(tag)
        if not self._is_due:
            self._is_due = True
            self._soon(self._acknowledge)

    def nack(self, tag: int, *, requeue: bool) -> None:
        """Return a delivery to its queue, or refuse it for good."""
        self.flush()
        self._window.drop(tag)
        self._send(frames.nack(self._channel, tag, requeue=requeue))

    def flush(self) -> None:
        """Acknowledge all that is to be, now."""
        self._wait_no_more()
        self._send_acks()
        self._send_acks()  # the first time leaves what is behind a gap for the second

    def end(self) -> None:
        """Settle nothing any more: the channel is gone, and RabbitMQ has back what it stood for."""
        self.is_live = False
        self._window = AckWindow()
        self._wait_no_more()

    def _acknowledge(self) -> None:
        self._is_due, self._timer = False, None
        self._send_acks()
        if not self._window.passed_over:
            return
        if self._gap_seconds > 0:
            self._is_due = True
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._gap_seconds, self._acknowledge)
        else:
            self._send_acks()

    def _wait_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._is_due, self._timer = False, None

    def _send_acks(self) -> None:
        for tag, multiple in self._window.take():
            self._send(frames.ack(self._channel, tag, multiple=multiple))
