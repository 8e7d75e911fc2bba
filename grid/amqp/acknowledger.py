"""Settling a channel's deliveries: acknowledged once per turn of the loop, in few frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property

from grid.amqp import frames
from grid.amqp.ack_window import AckWindow

Send = Callable[[bytes], None]  # sends frames on a channel, while it is open
Soon = Callable[[Callable[[], None]], None]  # calls back at the end of the loop's turn


class Acknowledger:
    """The settling of one channel's deliveries, each once, while that channel is the link's.

    Every channel has its own: tags begin at 1 on each, so an older channel's tag would mean another
    message on a newer one.

    Acknowledgements are sent at the end of the loop's turn, so that one frame may cover many. With
    ``gap_seconds``, one behind a delivery that is not settled waits once or twice that long, and
    those that follow meanwhile wait with it. What is requeued or rejected is sent at once, after
    all earlier acknowledgements.
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

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()  # each call is a system call in Python 3.11

    def __len__(self) -> int:
        """Return how many deliveries are not settled, without those to be acknowledged soon."""
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
        """Return a delivery to its queue, or reject it."""
        self.flush()
        self._window.drop(tag)
        self._send(frames.nack(self._channel, tag, requeue=requeue))

    def flush(self) -> None:
        """Send all pending acknowledgements now."""
        self._wait_no_more()
        self._send_acks()
        self._send_acks()  # the first call leaves what is behind a gap to the second

    def end(self) -> None:
        """Stop settling: the channel is gone, and RabbitMQ has its deliveries back."""
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
            self._timer = self._loop.call_later(self._gap_seconds, self._acknowledge)
        else:
            self._send_acks()

    def _wait_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._is_due, self._timer = False, None

    def _send_acks(self) -> None:
        for tag, multiple in self._window.take():
            self._send(frames.ack(self._channel, tag, multiple=multiple))
