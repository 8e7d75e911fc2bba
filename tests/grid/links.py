"""Links to a real RabbitMQ for a test: run, watched, and ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from typing import Any, TypeVar

from pika import BasicProperties, BlockingConnection, URLParameters

from grid.amqp import Consumer, Declarer, Delivery, Link, StreamReader
from grid.topology import Queue

PATIENCE = 20.0  # seconds, for what takes a moment, on a busy machine
POLL_SECONDS = 0.01


class Seen:
    """Notes what a link says of itself."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bool, str]] = []

    def __call__(self, link: str, up: bool, why: str) -> None:  # noqa: FBT001
        """Note one word of a link."""
        self.calls.append((link, up, why))

    def reasons(self) -> list[str]:
        """Give the reasons, in order."""
        return [why for _, _, why in self.calls]

    def ups(self) -> list[bool]:
        """Give the states, in order."""
        return [up for _, up, _ in self.calls]


AnyLink = TypeVar("AnyLink", bound=Link)


@asynccontextmanager
async def started(link: AnyLink, **callbacks: object) -> AsyncIterator[AnyLink]:
    """Run a link while the context lasts, with whatever it is to call back."""
    run: Callable[..., Coroutine[Any, Any, None]] = getattr(link, "run")  # noqa: B009
    task = asyncio.create_task(run(**callbacks))
    try:
        yield link
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def running(link: AnyLink, **callbacks: object) -> AsyncIterator[AnyLink]:
    """Run a link while the context lasts, from the moment it is up."""
    async with started(link, **callbacks):
        await asyncio.wait_for(link.up.wait(), PATIENCE)
        yield link


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds, or fail saying what did not come."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110  # links have no event for most of it
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE:g} s: {what}") from None


async def waits_in(declarer: Declarer, queue: Queue, count: int) -> None:
    """Wait until so many messages wait in a queue: RabbitMQ returns and removes in its own time."""
    ready = -1
    try:
        async with asyncio.timeout(PATIENCE):
            while (ready := (await declarer.queue(queue)).ready) != count:  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{ready} wait in {queue.name}, not {count}") from None


def properties(url: str, queue: str, count: int) -> list[BasicProperties]:
    """Consume so many messages of a queue, for good, as RabbitMQ brings them; blocks."""
    found: list[BasicProperties] = []
    with closing(BlockingConnection(URLParameters(url))) as connection:
        for _, each, _ in connection.channel().consume(queue, True, inactivity_timeout=PATIENCE):  # noqa: FBT003
            found.append(each)
            if len(found) == count:
                break
    return found


class Taker:
    """Takes what a queue holds; acknowledges it at once unless told not to."""

    def __init__(self, url: str, queue: str, *, ack: bool = True, prefetch: int = 100) -> None:
        self.seen = Seen()
        self.deliveries: list[Delivery] = []
        self.forgotten_after: list[int] = []  # how many deliveries came before
        self.gone_after: list[int] = []  # how often it was told to forget before
        self._ack = ack
        self.link = _TakersLink(self, url, queue, prefetch)

    @property
    def ids(self) -> list[str | None]:
        """The ids of what was delivered, in order."""
        return [each.id for each in self.deliveries]

    def take(self, delivery: Delivery) -> None:
        """Record a message."""
        self.deliveries.append(delivery)
        if self._ack:
            delivery.ack()

    def note_lost(self) -> None:
        """Record that the link broke."""
        self.forgotten_after.append(len(self.deliveries))

    def note_gone(self) -> None:
        """Record that the queue was deleted."""
        self.gone_after.append(len(self.forgotten_after))


class _TakersLink(Consumer):
    """A consumer that calls back whom it was made for."""

    def __init__(self, taker: Taker, url: str, queue: str, prefetch: int) -> None:
        super().__init__("taker", [url], taker.seen, queue=queue, prefetch=prefetch)
        self._taker = taker

    async def run(self) -> None:  # type: ignore[override]
        """Keep the link up."""
        one = self._taker
        await super().run(deliver=one.take, lost=one.note_lost, gone=one.note_gone)


class Listener:
    """Reads a stream from its start, its end, or any offset; all anew after a break if told so."""

    def __init__(self, url: str, queue: str, start: str | int, *, anew: bool = False) -> None:
        self.bodies: list[bytes] = []
        self.writers: list[str] = []
        self.start, self.anew = start, anew
        self.link = _ListenersLink(self, url, queue)

    def take(self, body: bytes, writer: str) -> None:
        """Record a message."""
        self.bodies.append(body)
        self.writers.append(writer)


class _ListenersLink(StreamReader):
    """A reader that calls back whom it was made for."""

    def __init__(self, listener: Listener, url: str, queue: str) -> None:
        super().__init__("listener", [url], Seen(), queue=queue)
        self._listener = listener

    async def run(self) -> None:  # type: ignore[override]
        """Keep the link up."""
        one = self._listener
        forget = one.bodies.clear if one.anew else None
        await super().run(read=one.take, start=one.start, forget=forget)
