"""Declaring queues and exchanges, for a new broker or a new substation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker
from pika.spec import Basic, Queue

from grid import topology
from grid.amqp.link import (
    CONNECT_SECONDS,
    Link,
    Watch,
    close_channel,
    future,
    open_sibling,
    settle,
    sibling,
)
from grid.errors import BrokerUnavailable


class QueueState(NamedTuple):
    """How many messages are ready in a queue, and how many consumers it has."""

    ready: int
    consumers: int

    @classmethod
    def told(cls, answer: Queue.DeclareOk) -> QueueState:
        """Return the state from RabbitMQ's answer to a declaration."""
        return cls(answer.message_count, answer.consumer_count)


class Declarer(Link):
    """A link that declares exchanges and queues, and asks how many messages are ready."""

    def __init__(self, name: str, urls: Sequence[str], watch: Watch) -> None:
        super().__init__(name, urls, watch)
        self._askers: list[_Asker] = []  # free ones: to open one costs as much as ten questions

    async def run(self) -> None:
        """Keep the link up until the task is cancelled."""
        await self._run()

    async def exchange(self, name: str, kind: str) -> None:
        """Declare a durable exchange of a type. Raise ``BrokerUnavailable`` if that fails."""
        await self._do(f"declare {name}", lambda channel: _declare_exchange(channel, name, kind))

    async def queue(self, queue: topology.Queue) -> QueueState:
        """Declare a queue with its binding, and return its state.

        Raise ``BrokerUnavailable`` if the link is down, or breaks meanwhile.
        """
        what = f"declare {queue.name}"
        return await self._do(what, lambda channel: _declare_queue(channel, queue))

    async def look(self, name: str) -> QueueState | None:
        """Return the state of a queue, or None if it is missing: it is not declared.

        Raise ``BrokerUnavailable`` if the link is down, or breaks meanwhile.
        """
        return await self._do(f"look at {name}", partial(self._look, name))

    async def is_empty(self, name: str) -> bool:
        """Return whether a queue has no message ready, as its leader says.

        A message that is ready is requeued. Raise ``BrokerUnavailable`` if the link is down or
        breaks meanwhile, or there is no such queue.
        """
        return await self._do(f"look into {name}", lambda channel: _is_empty(channel, name))

    async def _look(self, name: str, channel: Channel) -> QueueState | None:
        while self._askers:
            if (asker := self._askers.pop()).is_open:
                break
        else:
            asker = _Asker(await open_sibling(channel))
        try:
            state = await asker.look(name)
        except BaseException:  # a late answer must not be taken for the next question's
            asker.close()
            raise
        self._askers.append(asker)
        return state

    def _lost(self) -> None:
        super()._lost()
        self._askers.clear()


async def declare_topology(urls: Sequence[str], watch: Watch) -> None:
    """Declare every exchange and queue the services share, for a broker without them.

    Raise ``BrokerUnavailable`` if that is not possible.
    """
    link = Declarer("declare", urls, watch)
    task = asyncio.create_task(link.run())
    try:
        await _until_connected(link, 2 * CONNECT_SECONDS * len(urls))
        for name, kind in topology.EXCHANGES.items():
            await link.exchange(name, kind)
        for queue in topology.QUEUES:
            await link.queue(queue)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _until_connected(link: Link, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await link.up.wait()
    except TimeoutError:
        raise BrokerUnavailable(f"RabbitMQ gave no connection in {seconds:g} s") from None


async def _declare_exchange(channel: Channel, name: str, kind: str) -> None:
    done = future()
    channel.exchange_declare(name, kind, durable=True, callback=partial(settle, done))
    await done


class _Asker:
    """A channel of its own for one question at a time: a missing queue closes the channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._answer = future()
        channel.add_on_close_callback(lambda _, why: self._settle(why))

    @property
    def is_open(self) -> bool:
        """Return whether it can be asked."""
        return bool(self._channel.is_open)

    async def look(self, name: str) -> QueueState | None:
        """Return the state of a queue; None, and closed, if there is none of that name."""
        self._answer = future()
        self._channel.queue_declare(name, passive=True, callback=self._settle)
        answer = await self._answer
        if not isinstance(answer, Exception):
            return QueueState.told(answer.method)
        if _is_missing(answer):
            return None
        raise answer

    def close(self) -> None:
        """Close the channel, unless that is done or begun."""
        close_channel(self._channel)

    def _settle(self, answer: object) -> None:
        settle(self._answer, answer)


async def _is_empty(channel: Channel, name: str) -> bool:
    """Ask for a message on a channel of its own: RabbitMQ closes it if there is no such queue."""
    found = future()
    async with sibling(channel) as own:  # closing it requeues a message, even one that comes late
        own.add_on_close_callback(lambda _, why: settle(found, why))
        own.add_callback(lambda _: settle(found, None), [Basic.GetEmpty])
        own.basic_get(name, lambda _, method, *__: settle(found, method.delivery_tag))
        answer = await found
    if isinstance(answer, Exception):
        raise answer
    return answer is None


def _is_missing(why: Exception) -> bool:
    """Return whether there is no such queue; a 404 can also mean that its node is down."""
    return (
        isinstance(why, ChannelClosedByBroker)
        and why.reply_code == HTTPStatus.NOT_FOUND
        and "no queue" in why.reply_text
    )


async def _declare_queue(channel: Channel, queue: topology.Queue) -> QueueState:
    declared, bound = future(), future()
    channel.queue_declare(
        queue.name,
        durable=True,
        arguments=dict(queue.arguments),
        callback=partial(settle, declared),
    )
    state = QueueState.told((await declared).method)
    channel.queue_bind(queue.name, queue.exchange, queue.key, callback=partial(settle, bound))
    await bound
    return state
