"""Publishing with confirms: every message gets an answer, or is published again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import Any, Final

from msgspec import Struct
from pika import BasicProperties
from pika.channel import Channel
from pika.spec import Basic

from grid.amqp import frames
from grid.amqp.connection import Connection, connection_of, left_to_the_connection
from grid.amqp.frames import Confirm
from grid.amqp.link import Link, Watch, future, guarded, settle
from grid.amqp.suspicion import Refusals, Suspicion, Target
from grid.errors import BrokerUnavailable
from grid.outcome import Outcome

CHECK_INTERVAL: Final = 1.0  # how often it looks whether an answer is overdue
MAX_BODY: Final = 8 * 1024 * 1024  # RabbitMQ 4 takes 16 MiB, unless it is told otherwise


class Publication(Struct, eq=False):
    """A published message; ``done`` is called once, with the outcome."""

    exchange: str
    key: str
    body: bytes
    id: str
    headers: Mapping[str, Any]
    priority: int
    done: Callable[[Outcome], None]
    returned: bool = False
    withdrawn: bool = False
    wanted: Callable[[], bool] = lambda: True  # asked before it is published again


class Publisher(Link):
    """A link that publishes persistent messages with confirms.

    Messages without an answer when a link broke are published again. So a message may arrive twice,
    always under the same id, and never silently not at all. A link on which an answer is overdue,
    or everything for one queue is refused, is opened again, at the next address.
    """

    def __init__(self, name: str, urls: Sequence[str], watch: Watch) -> None:
        super().__init__(name, urls, watch)
        self.blocked = False
        self.blocked_reason = ""  # as RabbitMQ says it
        self._sent: dict[int, Publication] = {}  # by confirm number, in order
        self._unsent: deque[Publication] = deque()
        self._number = 0
        self._returned_at: dict[Target, float] = {}  # when the last message there found no queue
        self._suspicion = Suspicion()
        self._refusals = Refusals()
        self._looking: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def backlog(self) -> int:
        """Return how many messages RabbitMQ has not answered yet."""
        return len(self._sent) + len(self._unsent)

    async def run(self) -> None:
        """Keep the link up until the task is cancelled; what is published meanwhile waits."""
        await self._run()

    def returned_within(self, seconds: float, exchange: str, key: str) -> bool:
        """Return whether the last message published there, within ``seconds``, found no queue."""
        at = self._returned_at.get((exchange, key))
        return at is not None and asyncio.get_running_loop().time() - at <= seconds

    def publish(
        self,
        exchange: str,
        key: str,
        body: bytes,
        done: Callable[[Outcome], None],
        *,
        id: str,  # message_id in AMQP
        headers: Mapping[str, Any] | None = None,
        priority: int = 0,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Publication:
        """Publish now, or as soon as the link is up; the outcome is passed to ``done``.

        A ``priority`` above 4 overtakes in a quorum queue of RabbitMQ 4; before, none does.

        If the link breaks before an answer, the message is published again if ``wanted`` still
        returns True, else abandoned.

        A body over ``MAX_BODY`` bytes is refused here: RabbitMQ would close the channel over it,
        again and again.
        """
        publication = Publication(
            exchange, key, body, id, headers or {}, priority, done, wanted=wanted
        )
        if len(body) > MAX_BODY:
            asyncio.get_running_loop().call_soon(done, Outcome.REFUSED)
            return publication
        self._idle.clear()
        if (channel := self._usable()) is not None:
            self._send(channel, publication)
        else:
            self._unsent.append(publication)
        return publication

    async def confirmed(
        self,
        exchange: str,
        key: str,
        body: bytes,
        *,
        id: str,
        timeout: float,
        headers: Mapping[str, Any] | None = None,
        priority: int = 0,
    ) -> None:
        """Publish and wait for the confirm.

        Raise ``BrokerUnavailable`` if RabbitMQ refuses, or has not confirmed within ``timeout``
        seconds. In the latter case the message may still have arrived, but is not sent any more.
        """
        answer: asyncio.Future[Outcome] = future()
        done = partial(settle, answer)
        publication = self.publish(
            exchange, key, body, done, id=id, headers=headers, priority=priority
        )
        try:
            async with asyncio.timeout(timeout):
                outcome = await answer
        except TimeoutError:
            raise BrokerUnavailable(
                f"RabbitMQ has not confirmed {id} on {exchange} within {timeout:g} s"
            ) from None
        finally:
            publication.withdrawn = True  # also where the caller was cancelled
        if outcome is not Outcome.CONFIRMED:
            why = f", there is no queue for {key}" if outcome is Outcome.UNROUTABLE else ""
            raise BrokerUnavailable(f"RabbitMQ answered {id} on {exchange}: {outcome.value}{why}")

    async def drained(self) -> None:
        """Wait until RabbitMQ has answered everything published so far."""
        await self._idle.wait()

    async def _set_up(self, channel: Channel) -> None:
        confirming = future()
        channel.add_on_return_callback(self._on_return)
        connection_of(channel).confirm_to(channel, self._on_confirm)
        channel.confirm_delivery(left_to_the_connection, callback=partial(settle, confirming))
        await confirming

    def _opened(self, connection: Connection, channel: Channel) -> None:
        connection.add_on_connection_blocked_callback(
            lambda _, frame: self._set_blocked(True, frame.method.reason)  # noqa: FBT003
        )
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))  # noqa: FBT003
        self._number = 0
        self._suspicion.begin()
        self._refusals.begin()
        self._looking = asyncio.create_task(self._look(self._broken))
        while self._unsent:
            self._send_if_wanted(channel, self._unsent[0])
            self._unsent.popleft()
        if not self._sent:
            self._idle.set()

    def _lost(self) -> None:
        self.blocked = False
        self._unsent.extendleft(reversed(self._sent.values()))
        self._sent.clear()

    async def _look(self, broken: asyncio.Future[str]) -> None:
        """Check for a message that stays without answer, and then end the link."""
        time = asyncio.get_running_loop().time
        while not (await asyncio.wait({broken}, timeout=CHECK_INTERVAL))[0]:
            oldest = next(iter(self._sent), None)
            waited = self._suspicion.look(oldest, time(), blocked=self.blocked)
            if waited is not None:
                settle(broken, f"RabbitMQ has not answered for a message in {waited:.0f} s")

    def _set_blocked(self, blocked: bool, reason: str = "") -> None:  # noqa: FBT001
        self.blocked, self.blocked_reason = blocked, reason
        self._say(up=True, why="RabbitMQ blocks publishers" if blocked else "connected")

    def _send(self, channel: Channel, publication: Publication) -> None:
        packed = frames.publication(
            channel.channel_number,
            publication.exchange,
            publication.key,
            id=publication.id,
            headers=publication.headers,
            priority=publication.priority,
            body=publication.body,
            frame_most=channel.connection.params.frame_max,
        )
        connection_of(channel).send(packed)
        self._number += 1
        publication.returned = False
        self._sent[self._number] = publication

    def _send_if_wanted(self, channel: Channel, publication: Publication) -> None:
        if publication.withdrawn:
            return
        if publication.wanted():
            self._send(channel, publication)
        else:
            asyncio.get_running_loop().call_soon(publication.done, Outcome.ABANDONED)

    def _on_return(
        self, channel: Channel, method: Basic.Return, properties: BasicProperties, _body: bytes
    ) -> None:
        """Record that a message found no queue: RabbitMQ returns it, then confirms it too."""
        if not channel.is_open:
            return
        name, target = properties.message_id, (method.exchange, method.routing_key)
        for each in self._sent.values():  # it is one of the first: RabbitMQ answers in order
            if each.id == name and not each.returned and (each.exchange, each.key) == target:
                each.returned = True
                return

    def _on_confirm(self, confirm: Confirm, accepted: bool) -> None:  # noqa: FBT001
        if not confirm.multiple:
            self._settle(confirm.number, accepted=accepted)
            return
        for each in list(takewhile(lambda sent: sent <= confirm.number, self._sent)):
            self._settle(each, accepted=accepted)

    def _settle(self, number: int, *, accepted: bool) -> None:
        publication = self._sent.pop(number, None)
        if publication is None:
            return
        target = publication.exchange, publication.key
        if publication.returned:
            self._returned_at[target] = asyncio.get_running_loop().time()
        elif self._returned_at:
            self._returned_at.pop(target, None)
        self._judge(target, accepted=accepted)
        if not self.backlog:
            self._idle.set()
        if publication.withdrawn:
            return
        confirmed = Outcome.UNROUTABLE if publication.returned else Outcome.CONFIRMED
        guarded(publication.done, confirmed if accepted else Outcome.REFUSED)

    def _judge(self, target: Target, *, accepted: bool) -> None:
        """End a link on which all for one target is refused: another link may find its queue."""
        if accepted:
            self._refusals.on_confirm(target)
            return
        waited = self._refusals.on_nack(target, asyncio.get_running_loop().time())
        if waited is not None:
            where = " ".join(target)
            settle(self._broken, f"RabbitMQ has refused all for {where} for {waited:.0f} s")
