"""RabbitMQ's ends as the services see them, scripted: messages are recorded, answers are set.

The real paths are tested against a real node; here the order of events is under control.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Self

from pika.frame import decode_frame
from pika.spec import Basic

from grid import events, topology
from grid.amqp import Consumer, Delivery, Outcome, Publication, Publisher
from grid.amqp.acknowledger import Acknowledger
from grid.amqp.consumer import Callbacks
from grid.amqp.frames import Content, Envelope
from grid.events import Event

_BEHIND = {queue.name: queue.exchange for queue in topology.QUEUES}  # the exchange of each queue
NOWHERE = ("amqp://nowhere.invalid/",)


async def turns(count: int = 10) -> None:
    """Let the loop do what is due now, without letting time pass."""
    for _ in range(count):
        await asyncio.sleep(0)


def soon(call: Callable[[], None]) -> None:
    """Call back in the next turn of the loop, as a connection does before it sends."""
    asyncio.get_running_loop().call_soon(call)


class FakePublisher(Publisher):
    """A publisher that records messages; ``automatic`` has outcomes by queue or exchange."""

    def __init__(self, **automatic: Outcome) -> None:
        super().__init__("fake", NOWHERE, lambda *_: None)
        self.up.set()
        self.automatic = {name.replace("_", "."): outcome for name, outcome in automatic.items()}
        self.sent: list[Publication] = []
        self.waiting: list[Publication] = []
        self.headers: dict[str, Mapping[str, Any]] = {}

    @property
    def backlog(self) -> int:
        """Return how many messages have no answer yet."""
        return len(self.waiting)

    def publish(
        self,
        exchange: str,
        key: str,
        body: bytes,
        done: Callable[[Outcome], None],
        *,
        id: str,
        headers: Mapping[str, Any] | None = None,
        priority: int = 0,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Publication:
        """Record a message."""
        publication = super().publish(
            exchange, key, body, done, id=id, headers=headers, priority=priority, wanted=wanted
        )
        self.headers[id] = headers or {}
        self.sent.append(publication)
        self.waiting.append(publication)
        automatic = {_BEHIND.get(name, name): each for name, each in self.automatic.items()}
        if (outcome := automatic.get(exchange)) is not None:
            asyncio.get_running_loop().call_soon(self._answer_one, publication, outcome)
        return publication

    def answer(self, exchange: str, outcome: Outcome = Outcome.CONFIRMED) -> None:
        """Answer the oldest message that waits for it on an exchange."""
        self._answer_one(self.to(exchange, self.waiting)[0], outcome)

    def to(self, exchange: str, among: list[Publication] | None = None) -> list[Publication]:
        """Return the messages sent to an exchange, or to the one of a queue, in their order."""
        exchange = _BEHIND.get(exchange, exchange)
        return [
            each for each in (self.sent if among is None else among) if each.exchange == exchange
        ]

    def routed(self) -> list[tuple[str, str]]:
        """Return which job went to which substation."""
        return [(str(each.id), each.key) for each in self.to(topology.SUBSTATIONS_EXCHANGE)]

    def events(self, kind: str = "") -> list[Event]:
        """Return the events written, or those of a kind."""
        found = [each for sent in self.to(topology.EVENTS) for each in events.decode(sent.body)]
        return [each for each in found if kind in ("", each.kind)]

    def _answer_one(self, publication: Publication, outcome: Outcome) -> None:
        self.waiting.remove(publication)
        if not self.waiting:
            self._idle.set()
        publication.done(outcome)


_violations: list[str] = []  # frames over which RabbitMQ would have closed a channel


def raise_violations() -> None:
    """Raise AssertionError if a frame has broken RabbitMQ's rules since the last call.

    A fixture of all tests calls it at the end of each.
    """
    found, _violations[:] = list(_violations), []
    assert not found, found


class Settled(NamedTuple):
    """What a client does with deliveries: ``ack``, ``requeue`` or ``reject``."""

    how: str
    tags: Sequence[int]

    @classmethod
    def by(cls, frame: bytes, outstanding: Collection[int]) -> Self:
        """Return what a frame settles, by RabbitMQ's rule that no delivery is settled twice.

        A frame that breaks it settles nothing, and is kept for ``raise_violations``: it may be
        sent in a callback of the loop, which only logs exceptions.
        """
        method = decode_frame(frame)[1].method
        tag, acknowledges = method.delivery_tag, isinstance(method, Basic.Ack)
        how = "ack" if acknowledges else "requeue" if method.requeue else "reject"
        if tag not in outstanding:
            _violations.append(f"{how}: PRECONDITION_FAILED - unknown delivery tag {tag}")
            return cls(how, [])
        if acknowledges and method.multiple:
            return cls(how, [each for each in outstanding if each <= tag])
        return cls(how, [tag])


class Message(NamedTuple):
    """A message that was delivered, and is not settled."""

    body: bytes
    id: str | None
    headers: Mapping[str, Any]


class FakeConsumer(Consumer):
    """A consumer that is brought messages and records how they are settled, each only once.

    The real consumer's code handles each message; only the channel is scripted.
    """

    def __init__(self, queue: str) -> None:
        super().__init__("fake", NOWHERE, lambda *_: None, queue=queue, prefetch=1)
        self.up.set()
        self._acknowledger = Acknowledger(1, self._on_frame, soon)
        self._tag = 0
        self._consumes = True
        self._failed: Exception | None = None
        self.outstanding: dict[int, Message] = {}
        self.acked: list[int] = []
        self.requeued: list[int] = []
        self.rejected: list[int] = []

    @property
    def stopped(self) -> bool:
        """Return whether ``stop()`` was called."""
        return self._stopped

    def begin(
        self, deliver: Callable[[Delivery], None], lost: Callable[[], None] = lambda: None
    ) -> None:
        """Call these from now on, as the consumer does while it runs."""
        self._callbacks = Callbacks(deliver, lost)

    def bring(
        self,
        body: bytes,
        id: str | None = None,
        *,
        again: bool = False,
        headers: Mapping[str, Any] | None = None,
    ) -> int:
        """Deliver a message, and return its tag; raise what its receiver raises."""
        assert self._consumes, "nothing is delivered on a link that was made after stop()"
        self._tag += 1
        tag = self._tag
        message = Message(body, id, headers or {})
        self.outstanding[tag] = message
        envelope = Envelope(tag, again, "", "")
        content = Content(len(body), id, message.headers)
        self._on_message(self._acknowledger, envelope, content, body)
        failed, self._failed = self._failed, None
        if failed is not None:  # the real one passes it to the loop, which only logs it here
            raise failed
        return tag

    def break_link(self) -> list[Message]:
        """Lose the channel, and return what RabbitMQ will deliver again."""
        lost, self.outstanding = list(self.outstanding.values()), {}
        self._tag = 0
        self._lost()
        self._acknowledger = Acknowledger(1, self._on_frame, soon)
        self._consumes = not self._stopped
        return lost

    def close(self) -> None:
        """End the link, as the end of its task does."""
        self._closing()

    def _deliver(self, delivery: Delivery) -> None:
        try:
            super()._deliver(delivery)
        except Exception as error:
            self._failed = error
            raise

    def _on_frame(self, frame: bytes) -> None:
        settled = Settled.by(frame, self.outstanding)
        where = {"ack": self.acked, "requeue": self.requeued, "reject": self.rejected}[settled.how]
        for tag in settled.tags:
            del self.outstanding[tag]
            where.append(tag)
