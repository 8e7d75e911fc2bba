"""Acknowledging requests: once a turn of the loop, in as few frames as can be."""

from __future__ import annotations

import asyncio
from typing import Final

from grid.amqp import Consumer
from grid.amqp.ack_window import AckWindow

GAP_SECONDS: Final = 0.05  # how long an acknowledgement waits for those before it


class Acknowledger:
    """Acknowledges what is done, on the consumer it is given before the first delivery."""

    def __init__(self) -> None:
        self._window = AckWindow()
        self._due = False
        self.consumer: Consumer

    def __len__(self) -> int:
        """Return how many deliveries are not acknowledged."""
        return len(self._window)

    def delivered(self, tag: int) -> None:
        """Note a new delivery."""
        self._window.delivered(tag)

    def done(self, tag: int) -> None:
        """Have a delivery acknowledged soon."""
        self._window.done(tag)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._acknowledge)

    def forget(self) -> None:
        """Let go of all deliveries: they are void."""
        self._window = AckWindow()

    def finish(self) -> None:
        """Acknowledge all that is done, now."""
        self._acknowledge()
        self._acknowledge()  # the first time leaves what is done behind a gap for the second

    def _acknowledge(self) -> None:
        self._due = False
        for tag, multiple in self._window.take():
            self.consumer.ack(tag, multiple=multiple)
        if self._window.passed_over and not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(GAP_SECONDS, self._acknowledge)
