"""Links to a real RabbitMQ for a test: run, watched, and ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from typing import Any, Protocol, TypeVar, overload

from pika import BasicProperties, BlockingConnection, URLParameters

from grid.amqp import Consumer, Declarer, Delivery, Link, StreamReader
from grid.topology import Queue

TIMEOUT = 20.0  # seconds, for what takes a moment, on a busy machine
POLL_SECONDS = 0.01


class Seen:
    """Records what a link says of itself."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bool, str]] = []

    def __call__(self, link: str, up: bool, why: str) -> None:  # noqa: FBT001
        """Record that a link is up or down, and why."""
        self.calls.append((link, up, why))

    def reasons(self) -> list[str]:
        """Return the reasons, in order."""
        return [why for _, _, why in self.calls]

    def ups(self) -> list[bool]:
        """Return the states, in order."""
        return [up for _, up, _ in self.calls]


class CallsNobody(Protocol):
    """A link that runs without anybody to call back."""

    up: asyncio.Event

    def run(self) -> Coroutine[Any, Any, None]:
        """Keep the link up until the task is cancelled."""


AnyLink = TypeVar("AnyLink", bound=Link)
PlainLink = TypeVar("PlainLink", bound=CallsNobody)
Running = Coroutine[Any, Any, None]  # of a link, with whatever it is to call back


@overload
def started(link: PlainLink) -> AbstractAsyncContextManager[PlainLink]: ...


@overload
def started(link: AnyLink, run: Running) -> AbstractAsyncContextManager[AnyLink]: ...


@asynccontextmanager
async def started(link: Any, run: Running | None = None) -> AsyncIterator[Any]:
    """Run a link while the context lasts; ``run`` is what its own ``run`` returned.

    So the types of what it is to call back are checked where they are named.
    """
    task = asyncio.create_task(link.run() if run is None else run)
    try:
        yield link
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@overload
def running(link: PlainLink) -> AbstractAsyncContextManager[PlainLink]: ...


@overload
def running(link: AnyLink, run: Running) -> AbstractAsyncContextManager[AnyLink]: ...


@asynccontextmanager
async def running(link: Any, run: Running | None = None) -> AsyncIterator[Any]:
    """Run a link while the context lasts, as ``started`` does, from the moment it is up."""
    async with started(link, link.run() if run is None else run):
        await asyncio.wait_for(link.up.wait(), TIMEOUT)
        yield link


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds, or fail saying what did not come."""
    try:
        async with asyncio.timeout(TIMEOUT):
            while not condition():  # noqa: ASYNC110  # links have no event for most of it
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"not within {TIMEOUT:g} s: {what}") from None


async def waits_in(declarer: Declarer, queue: Queue, count: int) -> None:
    """Wait until so many messages wait in a queue: RabbitMQ returns and removes in its own time."""
    ready = -1
    try:
        async with asyncio.timeout(TIMEOUT):
            while (ready := (await declarer.queue(queue)).ready) != count:  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{ready} wait in {queue.name}, not {count}") from None


def properties(url: str, queue: str, count: int) -> list[BasicProperties]:
    """Consume so many messages of a queue, for good, as RabbitMQ brings them; blocks."""
    found: list[BasicProperties] = []
    with closing(BlockingConnection(URLParameters(url))) as connection:
        for _, each, _ in connection.channel().consume(queue, True, inactivity_timeout=TIMEOUT):  # noqa: FBT003
            found.append(each)
            if len(found) == count:
                break
    return found


class Recorder:
    """Consumes a queue and records it; acknowledges each delivery at once unless told not to."""

    def __init__(self, url: str, queue: str, *, ack: bool = True, prefetch: int = 100) -> None:
        self.seen = Seen()
        self.deliveries: list[Delivery] = []
        self.forgotten_after: list[int] = []  # how many deliveries came before
        self.gone_after: list[int] = []  # how often it was told to forget before
        self.link = Consumer("recorder", [url], self.seen, queue=queue, prefetch=prefetch)
        self._ack = ack

    @property
    def ids(self) -> list[str | None]:
        """Return the ids of what was delivered, in order."""
        return [each.id for each in self.deliveries]

    def running(self) -> AbstractAsyncContextManager[Consumer]:
        """Return a context in which it consumes, from the moment its link is up."""
        run = self.link.run(deliver=self._record, lost=self._record_lost, gone=self._record_gone)
        return running(self.link, run)

    def _record(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        if self._ack:
            delivery.ack()

    def _record_lost(self) -> None:
        self.forgotten_after.append(len(self.deliveries))

    def _record_gone(self) -> None:
        self.gone_after.append(len(self.forgotten_after))


class Listener:
    """Reads a stream from its start, its end, or any offset; all anew after a break if told so."""

    def __init__(self, url: str, queue: str, start: str | int, *, anew: bool = False) -> None:
        self.bodies: list[bytes] = []
        self.writers: list[str] = []
        self.link = StreamReader("listener", [url], Seen(), queue=queue)
        self._start = start
        self._forget = self.bodies.clear if anew else None

    def running(self) -> AbstractAsyncContextManager[StreamReader]:
        """Return a context in which it reads, from the moment its link is up."""
        run = self.link.run(read=self._record, start=self._start, forget=self._forget)
        return running(self.link, run)

    def _record(self, body: bytes, writer: str) -> None:
        self.bodies.append(body)
        self.writers.append(writer)
