"""``charge.parked`` for one operator: messages are taken one by one, and requeued at the end.

A message that is not settled stays RabbitMQ's: when the connection ends, for whatever reason, it is
in the queue again. It is acknowledged last: until its replay is confirmed and on record, it stays
parked. So a tool that is killed leaves a second copy at worst, which the dispatcher recognises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from uuid import uuid4

from grid import messages, parking, provenance, topology
from grid.amqp import Delivery, Publisher, Taker, Watch
from grid.errors import BrokerUnavailable, MalformedMessage
from grid.event_log import EventWriter
from grid.events import Event, State
from grid.parking import Parked
from grid.waiting import within

CONNECT_TIMEOUT: Final = 15.0
CONFIRM_TIMEOUT: Final = 30.0
REPLAYED: Final = "replayed by an operator"
DISCARDED: Final = "discarded by an operator"
BROKEN: Final = (
    "the connection to RabbitMQ broke: messages not listed as done are unchanged; try again"
)


class ParkedMessage(NamedTuple):
    """A parked message that was taken, and its delivery."""

    delivery: Delivery
    parked: Parked

    @property
    def problem(self) -> str | None:
        """Return why it would be parked again at once; None for a request of this version."""
        try:
            messages.decode(self.parked.body)
        except MalformedMessage as error:
            return str(error)
        return None


class ParkedQueue:
    """The parked queue, to replay or discard its messages. ``clock`` returns Unix seconds.

    Use it within ``open``. Every failure raises ``BrokerUnavailable``. ``writer`` is as whom it
    writes events, by RabbitMQ's user.
    """

    def __init__(
        self,
        urls: Sequence[str],
        watch: Watch,
        clock: Callable[[], float],
        writer: str = provenance.OPERATOR,
    ) -> None:
        self._clock = clock
        self._taker = Taker("parked-in", urls, watch)
        self._publisher = Publisher("parked-out", urls, watch)
        self._events = EventWriter(self._publisher, f"parked-{uuid4().hex[:8]}", writer)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Keep the links up while the context lasts; then RabbitMQ requeues what is not settled."""
        tasks = [asyncio.create_task(each.run()) for each in (self._taker, self._publisher)]
        try:
            for link in (self._taker, self._publisher):
                if not await within(CONNECT_TIMEOUT, link.up.wait()):
                    raise BrokerUnavailable(f"RabbitMQ gave no connection in {CONNECT_TIMEOUT:g} s")
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def messages(self) -> AsyncIterator[ParkedMessage]:
        """Yield every message that is there now, the oldest first, each once.

        Messages that arrive meanwhile are left alone: one may have been replayed, and parked again.
        """
        left: int | None = None
        while left is None or left > 0:
            delivery = await self._taker.take(topology.PARKED)
            if delivery is None:
                return
            left = delivery.behind if left is None else left - 1
            yield ParkedMessage(
                delivery, parking.read(delivery.id, delivery.body, delivery.headers)
            )

    async def replay(self, message: ParkedMessage) -> None:
        """Publish a message to ``charge.requests`` again, under its id; then remove it here."""
        parked = message.parked
        replays = parked.replays + 1
        await self._publisher.confirmed(
            topology.REQUESTS_EXCHANGE,
            topology.REQUESTS,
            parked.body,
            id=parked.id,
            timeout=CONFIRM_TIMEOUT,
            headers=parking.sent_again(parked),
            priority=_priority(parked.body),
        )
        reason = f"{REPLAYED}; it was parked: {parked.reason}"
        await self._record(State.QUEUED, parked, reason, parking.noted(replays))
        self._settle(message)

    async def discard(self, message: ParkedMessage, why: str) -> None:
        """Record that a message is discarded, and why; then remove it."""
        parked = message.parked
        reason = f"{DISCARDED}: {why}" if why else DISCARDED
        reason = f"{reason}; it was parked: {parked.reason}"
        await self._record(State.CANCELLED, parked, reason, parking.noted(parked.replays))
        self._settle(message)

    async def _record(
        self, kind: State, parked: Parked, reason: str, detail: dict[str, Any]
    ) -> None:
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        event = Event(kind, self._clock(), job=parked.id, reason=reason, detail=detail)
        self._events.write(event, lambda ok: None if written.done() else written.set_result(ok))
        await asyncio.wait({written}, timeout=CONFIRM_TIMEOUT)
        if not written.done() or not written.result():
            raise BrokerUnavailable(
                f"{parked.id}: its event could not be written to {topology.EVENTS}"
            )

    @staticmethod
    def _settle(message: ParkedMessage) -> None:
        if not message.delivery.is_live:
            raise BrokerUnavailable(BROKEN)
        message.delivery.ack()


def _priority(body: bytes) -> int:
    try:
        return messages.decode(body).priority
    except MalformedMessage:
        return 0
