"""A node that hangs, is left, and goes on: what it says then is of no link any more."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from pika import ConnectionParameters, spec
from pika.channel import Channel

from grid.amqp import Consumer, Declarer, Delivery, Outcome, Publisher, StreamReader
from grid.amqp.connection import Connection
from grid.amqp.link import Link, settle
from grid.errors import BrokerUnavailable
from tests.grid.amqp_peer import PeerConnection, peer
from tests.grid.links import Seen, eventually, running


async def left(link: Link) -> None:
    """Have a link leave the node that hangs, and come back by the other one."""
    settle(link._broken, "RabbitMQ has not answered")  # noqa: SLF001
    await eventually(lambda: not link.connected, "it is left")
    await eventually(lambda: link.connected, "it is back")


async def test_consumer_ignores_deliveries_of_a_node_it_has_left() -> None:
    """Its tags mean other messages on the new channel, and another consumer may have them."""
    seen: list[Delivery] = []
    async with peer() as one, peer() as other:
        other.consumed = lambda to: to.deliver(b"new", "new")
        link = Consumer("consumer", [one.url, other.url], Seen(), queue="q", prefetch=10)
        async with running(link, link.run(deliver=seen.append)):
            [old] = one.connections
            one.hangs = True
            settle(link._broken, "RabbitMQ has not answered")  # noqa: SLF001
            await eventually(lambda: not link.connected, "it is left")
            old.deliver(b"old", "while it is closed")
            await eventually(lambda: link.connected, "it is back")
            old.deliver(b"old", "afterwards")
            await eventually(lambda: seen, "the other one has delivered")
            await asyncio.sleep(0.1)  # for what might still come
            assert [each.id for each in seen] == ["new"]


async def test_publisher_ignores_confirms_of_a_node_it_has_left() -> None:
    """The next connection counts its publications from 1 again."""
    outcomes: list[Outcome] = []
    async with peer() as one, peer() as other:
        link = Publisher("publisher", [one.url, other.url], Seen())
        async with running(link):
            link.publish("e", "k", b"", lambda _: None, id="old", wanted=lambda: False)
            [old] = one.connections
            one.hangs = True
            await left(link)
            link.publish("e", "k", b"", outcomes.append, id="new")
            old.confirm(3)
            [new] = other.connections
            await eventually(
                lambda: any(isinstance(each, spec.Basic.Publish) for each in new.received),
                "the other one has it",
            )
            await asyncio.sleep(0.1)  # for what might still come
            assert outcomes == []
            new.confirm(1)
            await eventually(lambda: outcomes == [Outcome.CONFIRMED], "it is confirmed")


async def test_stream_made_anew_is_read_from_its_start_while_more_comes() -> None:
    """What follows the first message on the old position is read on the next link."""
    read: list[bytes] = []
    new = [b"new%d" % number for number in range(40)]
    asked: list[object] = []

    def consumed(to: PeerConnection) -> None:
        start = to.arguments["x-stream-offset"]
        asked.append(start)
        first = 0 if start == "first" else int(start)
        messages = [b"old%d" % number for number in range(5)] if len(asked) == 1 else new
        for offset in range(first, len(messages)):
            to.deliver(messages[offset], "", {"x-stream-offset": offset})

    async with peer() as one:
        one.consumed = consumed
        link = StreamReader("reader", [one.url], Seen(), queue="s")
        async with running(link, link.run(read=lambda body, _: read.append(body))):
            await eventually(lambda: len(read) == 5, "the old stream")
            await left(link)
            await eventually(lambda: read[-1] == new[-1], "the new stream")
    assert asked == ["first", 4, "first"]
    assert read[5:] == new


async def test_connection_closed_by_rabbitmq_ends_with_data_unsent() -> None:
    """The rest would not be read any more: the link reconnects at once, not by its heartbeat."""
    ended: list[BaseException] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await asyncio.sleep(20)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    loop, opened = asyncio.get_running_loop(), asyncio.Future[None]()
    parameters = ConnectionParameters("127.0.0.1", server.sockets[0].getsockname()[1])
    async with server:
        _, one = await loop.create_connection(
            lambda: Connection(parameters, opened, ended.append),
            parameters.host,
            parameters.port,
        )
        one.send(b"x" * 50_000_000)
        async with asyncio.timeout(5):
            with pytest.raises(Exception, match="closed by RabbitMQ"):
                await opened
        server.close()


async def test_connection_cancelled_in_the_turn_it_is_made_leaves_no_error() -> None:
    """The waiting task was cancelled just then: pika has no reason for the end yet."""
    opened = asyncio.Future[None]()
    one = Connection(ConnectionParameters(), opened, lambda _: None)
    one.connection_lost(None)
    assert one.is_closed
    assert "given up" in str(opened.exception())


@pytest.mark.parametrize("fails", ["just before", "just after", "as it is cancelled"])
async def test_declarer_question_that_fails_with_its_link_ends_no_service(fails: str) -> None:
    """The caller learns that the link broke; no other error ends the service."""
    mistakes: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: mistakes.append(context))
    closed: asyncio.Future[None] = loop.create_future()

    async def question(_: Channel) -> None:
        try:
            await closed
        except asyncio.CancelledError:
            raise ConnectionError("the channel is closed") from None

    async with peer() as one, running(Declarer("declarer", [one.url], Seen())) as link:
        asking = asyncio.create_task(link._do("look", question))  # noqa: SLF001
        await asyncio.sleep(0.01)  # until the question is asked
        if fails == "just before":
            closed.set_exception(ConnectionError("the channel is closed"))
        settle(link._broken, "RabbitMQ has not answered")  # noqa: SLF001
        if fails == "just after":
            closed.set_exception(ConnectionError("the channel is closed"))
        with pytest.raises(BrokerUnavailable, match="RabbitMQ has not answered"):
            await asking
        del asking
        await asyncio.sleep(0)
        gc.collect()
        assert mistakes == []
