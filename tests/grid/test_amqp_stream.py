"""Reading a real stream: nothing is missing after a break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from grid import provenance, topology
from grid.amqp import Declarer, Publisher, stream
from tests.broker import VirtualHost
from tests.grid.gate import Gate, gate
from tests.grid.links import Listener, Seen, eventually, running

pytestmark = pytest.mark.integration

EVENTS = topology.EVENTS


class Writer:
    """A writer of numbers to the stream, one message each."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.written: list[bytes] = []

    async def write(self, count: int) -> list[bytes]:
        """Write some more, wait for the confirms, and return them."""
        first = len(self.written)
        bodies = [str(number).encode() for number in range(first, first + count)]
        for body in bodies:
            self._publisher.publish(
                topology.EVENTS_EXCHANGE, provenance.API, body, lambda _: None, id=body.decode()
            )
        await asyncio.wait_for(self._publisher.drained(), 20)
        self.written += bodies
        return bodies


@pytest.fixture
async def writer(vhost: VirtualHost) -> AsyncIterator[Writer]:
    """Yield a writer whose link does not break with the readers' links."""
    async with running(Publisher("publisher", [vhost.url("api")], Seen())) as link:
        yield Writer(link)


@pytest.fixture
async def proxy(vhost: VirtualHost) -> AsyncIterator[Gate]:
    """Yield a link to the stream that can be closed."""
    async with gate(vhost.url("api")) as one:
        yield one


async def test_stream_reader_from_first_reads_all_in_order_over_breaks(
    writer: Writer, proxy: Gate
) -> None:
    """From ``first`` on, all is read in order and once, over breaks with and without writing."""
    await writer.write(700)  # more than RabbitMQ sends before the first acknowledgement
    one = Listener(proxy.url, EVENTS, "first")
    async with one.running():
        await eventually(lambda: len(one.bodies) == 700, "what was there")
        await proxy.close()
        await writer.write(5)
        await proxy.open()
        await eventually(lambda: len(one.bodies) == 705, "what was written meanwhile")
        await proxy.reopen()
        await writer.write(5)
        await eventually(lambda: len(one.bodies) == 710, "what is written afterwards")
    assert one.bodies == writer.written


async def test_stream_reader_goes_on_after_a_break_with_messages_in_flight(
    writer: Writer, proxy: Gate
) -> None:
    """If the link breaks with messages in flight, reading goes on with the next one."""
    await writer.write(3_000)
    one = Listener(proxy.url, EVENTS, "first")
    async with one.running():
        await eventually(lambda: one.bodies, "the first ones")
        await proxy.reopen()
        await eventually(lambda: len(one.bodies) >= 3_000, "the rest")
    assert one.bodies == writer.written


async def test_stream_reader_reads_anew_from_the_start_after_a_break_where_asked_to(
    writer: Writer, proxy: Gate
) -> None:
    """After a break everything is read again from the start, and the reader is told to forget."""
    await writer.write(10)
    one = Listener(proxy.url, EVENTS, "first", anew=True)
    async with one.running():
        await eventually(lambda: len(one.bodies) == 10, "what was there")
        await proxy.close()
        await eventually(lambda: one.bodies == [], "it is forgotten")
        await writer.write(5)
        await proxy.open()
        await eventually(lambda: len(one.bodies) == 15, "all of it")
        # all may be read before its link is up, and one that ends by then forgets once more
        assert one.bodies == writer.written


async def test_stream_reader_from_next_skips_older_messages_and_misses_none(
    writer: Writer, proxy: Gate
) -> None:
    """From ``next`` on, older messages are not read, and after a break none is missing."""
    await writer.write(5)
    one = Listener(proxy.url, EVENTS, "next")
    async with one.running():
        new = await writer.write(5)
        await eventually(lambda: len(one.bodies) == 5, "what is new")
        await proxy.close()
        new += await writer.write(5)
        await proxy.open()
        await eventually(lambda: len(one.bodies) == 10, "what was written meanwhile")
    assert one.bodies == new


async def test_stream_reader_from_next_misses_none_after_a_break_before_the_first_message(
    writer: Writer, proxy: Gate
) -> None:
    """From ``next`` on, none is missing either if the link broke before the first message.

    Messages of the seconds before may come as well: a reader can read an event twice.
    """
    old = await writer.write(5)
    one = Listener(proxy.url, EVENTS, "next")
    async with one.running():
        await proxy.close()
        new = await writer.write(5)
        await proxy.open()
        await eventually(lambda: one.bodies[-5:] == new, "what was written meanwhile")
        await writer.write(5)
        await eventually(lambda: one.bodies[-1] == writer.written[-1], "what is written afterwards")
    assert one.bodies in (writer.written, writer.written[len(old) :])


async def test_stream_reader_starts_at_an_offset(writer: Writer, vhost: VirtualHost) -> None:
    """A number is an offset, and nothing before it is read."""
    await writer.write(20)
    one = Listener(vhost.url("api"), EVENTS, 7)
    async with one.running():
        await eventually(lambda: len(one.bodies) >= 13, "the rest")
    assert one.bodies == writer.written[7:]


async def test_stream_reader_reads_a_redeclared_stream_from_its_start(
    writer: Writer, vhost: VirtualHost
) -> None:
    """If the stream was deleted and declared again, the old position is void."""
    await writer.write(10)
    one = Listener(vhost.url("api"), EVENTS, "first")
    async with (
        running(Declarer("declarer", [vhost.url()], Seen())) as declarer,
        one.running(),
    ):
        await eventually(lambda: len(one.bodies) == 10, "the old stream")
        path = f"/api/queues/{quote(vhost.name)}/{EVENTS}"
        await asyncio.to_thread(vhost.broker.request, "DELETE", path)
        await eventually(lambda: not one.link.connected, "the link breaks")
        await declarer.queue(topology.EVENTS_STREAM)
        new = await writer.write(3)
        await eventually(lambda: len(one.bodies) >= 13, "the new stream")
    assert one.bodies[10:] == new


@pytest.mark.parametrize("grown", [3, 30], ids=["shorter", "as long by now"])
async def test_stream_reader_notices_a_stream_redeclared_while_its_link_was_down(
    grown: int, writer: Writer, proxy: Gate, vhost: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader notices: the last message it read is gone, or is another one."""
    monkeypatch.setattr(stream, "RESUME_SECONDS", 1.0)
    before = 700 if grown == 3 else grown
    await writer.write(before)
    one = Listener(proxy.url, EVENTS, "first")
    async with (
        running(Declarer("declarer", [vhost.url()], Seen())) as declarer,
        one.running(),
    ):
        await eventually(lambda: len(one.bodies) == before, "the old stream")
        await proxy.close()
        path = f"/api/queues/{quote(vhost.name)}/{EVENTS}"
        await asyncio.to_thread(vhost.broker.request, "DELETE", path)
        await declarer.queue(topology.EVENTS_STREAM)
        new = await writer.write(grown)
        await proxy.open()
        await eventually(lambda: len(one.bodies) == before + grown, "the new stream")
        new += await writer.write(3)
        await eventually(lambda: len(one.bodies) == before + grown + 3, "what is new")
    assert one.bodies[before:] == new
    assert one.link.position == grown + 3
