"""When an answer is so late that it may never come. Pure: time is an argument."""

from __future__ import annotations

from typing import Final

Target = tuple[str, str]  # exchange, routing key

ANSWER_TIMEOUT: Final = 5.0  # a quorum queue confirms in milliseconds, or finds a leader within 5 s
MAX_ANSWER_TIMEOUT: Final = 60.0
REFUSED_SECONDS: Final = 1.0


class Suspicion:
    """A check of the oldest message that RabbitMQ has not answered.

    In a cluster whose node was killed, what was sent to a queue it led may never be answered, while
    the connection lives. A broker that is only slow must not get ever more messages because of it,
    so each suspicion delays the next one, until messages are answered again.
    """

    def __init__(self) -> None:
        self._timeout = ANSWER_TIMEOUT
        self._oldest: int | None = None
        self._since = 0.0

    def begin(self) -> None:
        """Start with a new connection, whose messages are numbered from the beginning."""
        self._oldest = None

    def look(self, oldest: int | None, now: float, *, blocked: bool) -> float | None:
        """Return for how many seconds the oldest has had no answer, once that is too long.

        ``oldest`` is its number, None if all are answered. While RabbitMQ has ``blocked`` the
        connection, nothing is suspected.
        """
        if oldest is None or blocked:
            self._oldest = None
            return None
        if oldest != self._oldest:
            if self._oldest is not None:  # that one was answered
                self._timeout = ANSWER_TIMEOUT
            self._oldest, self._since = oldest, now
            return None
        waited = now - self._since
        if waited < self._timeout:
            return None
        self._timeout = min(2 * self._timeout, MAX_ANSWER_TIMEOUT)
        return waited


class Refusals:
    """A check whether everything sent to one target is refused for a while.

    The queue may be at its limit. But on a connection made just as a node dies, RabbitMQ 3.10 may
    refuse for as long as that connection lasts, while the queue has a leader again and another
    connection finds it. Each suspicion delays the next one for that target, until it takes a
    message.
    """

    def __init__(self) -> None:
        self._since: dict[Target, float] = {}
        self._timeout: dict[Target, float] = {}

    def begin(self) -> None:
        """Start with a new connection."""
        self._since.clear()

    def on_confirm(self, target: Target) -> None:
        """Record that RabbitMQ has confirmed a message."""
        if self._since or self._timeout:  # hardly ever
            self._since.pop(target, None)
            self._timeout.pop(target, None)

    def on_nack(self, target: Target, now: float) -> float | None:
        """Record a nack; return for how many seconds all were nacked, once that is too long."""
        waited = now - self._since.setdefault(target, now)
        timeout = self._timeout.get(target, REFUSED_SECONDS)
        if waited < timeout:
            return None
        self._timeout[target] = min(2 * timeout, MAX_ANSWER_TIMEOUT)
        return waited
