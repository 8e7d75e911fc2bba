"""Writing the event log: the events of one turn of the loop are published as one message.

An event that may wait is published with the next one that may not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import cached_property, partial
from itertools import count
from typing import Final
from uuid import uuid4

from grid import events, provenance, topology
from grid.amqp import Outcome, Publisher
from grid.events import MARKER, Event
from grid.messages import shown
from grid.waiting import within

log = logging.getLogger(__name__)

Done = Callable[[bool], None]

# A RabbitMQ that has just started accepts connections before its streams, and returns messages.
RETRY_SECONDS: Final = 0.25
TRIES: Final = 12
FINISH_SECONDS: Final = 4.0
MESSAGE_EVENTS: Final = events.MAX_EVENTS
MARK_AGAIN_SECONDS: Final = 5.0


def read(body: bytes, writer: str) -> list[Event]:
    """Return the events of one message that its writer may write.

    Raise ``MalformedMessage`` if it holds anything else than events.
    """
    found = events.decode(body)
    believed = provenance.believed(found, writer)
    if len(believed) < len(found) and writer != provenance.NOBODY_KNOWN:
        log.warning(
            "ignored %d of %d events that %s wrote to the event log: it may not write such events",
            len(found) - len(believed),
            len(found),
            shown(writer),
        )
    return believed


class EventWriter:
    """A writer of events to the stream, in their order, each with an answer: written or not.

    ``name`` distinguishes this writer from all others: RabbitMQ's answers are matched by it.
    ``writer`` is whose events readers take them for (``grid.provenance``); RabbitMQ's user must be
    allowed to write as that. ``remembered`` is how many events are kept for ``pop_written``, where
    a writer reads its own events.
    """

    def __init__(
        self, publisher: Publisher, name: str, writer: str, *, remembered: int = 0
    ) -> None:
        self._publisher = publisher
        self._writer = writer
        self._written = WrittenMessages(remembered)
        self._ids = (f"{name}-{number}" for number in count())
        self._events: list[Event] = []
        self._answers: list[Done] = []
        self._due = False  # to be published before the next flush of the link
        self._timer: asyncio.TimerHandle | None = None  # of events that wait for others
        self._unanswered = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()  # each call is a system call in Python 3.11

    @property
    def connected(self) -> bool:
        """Return whether events are published at once; else they are kept until the link is up."""
        return self._publisher.connected

    async def until_connected(self) -> None:
        """Wait until events are published at once."""
        await self._publisher.up.wait()

    def write(self, event: Event, done: Done | None = None, *, wait: float = 0.0) -> None:
        """Write an event soon; ``done`` is called with whether RabbitMQ confirmed it.

        What RabbitMQ refuses is tried again for ``RETRY_SECONDS`` × ``TRIES``, so the order of
        events may change; a reader must not depend on it.

        Args:
            event: what to write.
            done: called once, with the answer.
            wait: for how many seconds it may wait for other events, to be in one message with them;
                the next event that does not wait is written with all that do.
        """
        self._events.append(event)
        if done is not None:
            self._answers.append(done)
        if len(self._events) >= MESSAGE_EVENTS:
            self.flush()
        elif self._due:
            pass
        elif wait > 0:
            self._flush_within(wait)
        else:
            self._due = True
            self._publisher.before_flush(self.flush)

    def insist(
        self,
        event: Event,
        pause: float,
        done: Done,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Write an event, and again ``pause`` seconds after RabbitMQ refused it.

        That ends once it is written, or no longer ``wanted``; ``done`` is called with the result.
        """

        def answer(written: bool) -> None:  # noqa: FBT001
            if written or not wanted():
                done(written)
                return
            again = partial(self.insist, event, pause, done, wanted)
            self._loop.call_later(pause, again)

        self.write(event, answer)

    def pop_written(self, body: bytes, writer: str) -> list[Event] | None:
        """Forget a message that was written here, and return its events without decoding it.

        None if it was not, or is not remembered any more; then ``read`` returns them.
        """
        return self._written.pop(body) if writer == self._writer else None

    def flush(self) -> None:
        """Publish the collected events now."""
        self._due = False
        self._stop_timer()
        if not self._events:
            return
        body = events.encode(self._events)
        self._written.add(body, self._events)
        answers, self._events, self._answers = self._answers, [], []
        self._unanswered += 1
        self._idle.clear()
        self._publish(body, answers, TRIES)

    async def finish(self) -> None:
        """Publish the rest, and wait a little until RabbitMQ has all that was published."""
        self.flush()
        await within(FINISH_SECONDS, self._finished())

    def _flush_within(self, seconds: float) -> None:
        due = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > due:
            self._stop_timer()
            self._timer = self._loop.call_at(due, self.flush)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _finished(self) -> None:
        await self._idle.wait()
        await self._publisher.drained()

    def _publish(self, body: bytes, answers: list[Done], tries: int) -> None:
        def answer(outcome: Outcome) -> None:
            if outcome is not Outcome.CONFIRMED and tries > 1:
                again = partial(self._publish, body, answers, tries - 1)
                self._loop.call_later(RETRY_SECONDS, again)
                return
            self._unanswered -= 1
            if not self._unanswered:
                self._idle.set()
            for each in answers:
                each(outcome is Outcome.CONFIRMED)

        self._publisher.publish(
            topology.EVENTS_EXCHANGE, self._writer, body, answer, id=next(self._ids)
        )


class WrittenMessages:
    """The messages that were written last and not read back: at most so many events. Pure.

    A writer that follows the log would otherwise decode each of its own events.
    """

    def __init__(self, events: int) -> None:
        self._most = events
        self._count = 0
        self._messages: dict[bytes, list[Event]] = {}  # by body; the oldest is first

    def __len__(self) -> int:
        """Return how many events are remembered."""
        return self._count

    def add(self, body: bytes, events: list[Event]) -> None:
        """Remember a message; forget the oldest ones that are too many."""
        if len(events) > self._most:
            return
        self.pop(body)
        self._messages[body] = events
        self._count += len(events)
        while self._count > self._most:
            self.pop(next(iter(self._messages)))

    def pop(self, body: bytes) -> list[Event] | None:
        """Forget a message, and return its events; None if it is not known."""
        events = self._messages.pop(body, None)
        if events is not None:
            self._count -= len(events)
        return events


class Mark:
    """A mark in the event log, by which its writer knows that it has read all there was.

    A stream does not say where it ends. ``passed`` is set once the mark was read. ``clock`` returns
    Unix seconds.
    """

    def __init__(self, writer: EventWriter, clock: Callable[[], float]) -> None:
        self._writer = writer
        self._clock = clock
        self._name = uuid4().hex
        self.passed = asyncio.Event()

    def see(self, event: Event) -> None:
        """Check whether an event that was read is the mark."""
        if event.kind == MARKER and event.job == self._name:
            self.passed.set()

    async def write(self) -> None:
        """Write the mark, again and again until it was read back."""
        while not self.passed.is_set():
            await self._writer.until_connected()
            self._writer.write(Event(MARKER, self._clock(), job=self._name))
            await within(MARK_AGAIN_SECONDS, self.passed.wait())
