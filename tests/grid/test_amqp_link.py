"""Links to a real RabbitMQ: they come back, by another address if necessary, and log little."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import AsyncExitStack
from itertools import count
from typing import Any
from urllib.parse import quote

import pytest

from grid import topology
from grid.amqp import (
    Consumer,
    Declarer,
    Link,
    Publisher,
    StreamReader,
)
from grid.amqp.connection import Connection
from grid.errors import BrokerUnavailable
from tests.broker import VirtualHost
from tests.grid.gate import gate
from tests.grid.links import TIMEOUT, Seen, eventually, running, started

pytestmark = pytest.mark.integration

NOBODY = "amqp://user:s3cr3t@127.0.0.1:1/"  # nothing listens on port 1


async def four_links(stack: AsyncExitStack, url: str, seen: Seen) -> list[Link]:
    """Run one link of each kind, and return them once they are up."""
    consumer = Consumer("consumer", [url], seen, queue=topology.REQUESTS, prefetch=1)
    reader = StreamReader("reader", [url], seen, queue=topology.EVENTS)
    return [
        await stack.enter_async_context(running(Declarer("declarer", [url], seen))),
        await stack.enter_async_context(running(Publisher("publisher", [url], seen))),
        await stack.enter_async_context(running(consumer, consumer.run(deliver=lambda _: None))),
        await stack.enter_async_context(running(reader, reader.run(read=lambda *_: None))),
    ]


async def four_connections(vhost: VirtualHost) -> dict[str, str]:
    """Wait until RabbitMQ lists four connections; return its name for each, with ours."""
    path = f"/api/vhosts/{quote(vhost.name)}/connections"
    found: dict[str, str] = {}
    async with asyncio.timeout(TIMEOUT):
        while len(found) < 4:  # the list is updated every few seconds
            listed = await asyncio.to_thread(vhost.broker.request, "GET", path)
            found = {each["name"]: each["client_properties"]["connection_name"] for each in listed}
            await asyncio.sleep(0.1)
    return found


async def test_every_link_reconnects_after_an_operator_closed_it(vhost: VirtualHost) -> None:
    """Connections that are closed in the management UI, all at once, are all made anew."""
    seen = Seen()
    async with AsyncExitStack() as stack:
        links = await four_links(stack, vhost.url(), seen)
        found = await four_connections(vhost)
        assert {ours.split("@")[0] for ours in found.values()} == {each.name for each in links}
        for name in found:
            path = f"/api/connections/{quote(name)}"
            await asyncio.to_thread(vhost.broker.request, "DELETE", path)
        await eventually(lambda: len(seen.calls) == 12, "all links were lost and are back")
        assert all(link.connected for link in links)
    for link in links:
        said = [(up, why) for name, up, why in seen.calls if name == link.name]
        assert [up for up, _ in said] == [True, False, True]
        assert "CONNECTION_FORCED" in said[1][1]


async def test_link_retries_when_a_connection_breaks_as_it_is_made(
    vhost: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If RabbitMQ is killed just then, the loop gets no error, and the link tries again."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    connections = count()
    made = Connection.connection_made

    def broken_at_first(self: Connection, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        if next(connections) == 0:
            transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    monkeypatch.setattr(Connection, "connection_made", broken_at_first)
    seen = Seen()
    async with running(Declarer("declarer", [vhost.url()], seen)):
        assert seen.ups() == [False, True]
        assert errors == []


async def test_link_that_ends_closes_its_connection(vhost: VirtualHost) -> None:
    """Cancelling a link closes its connection, so that its deliveries are requeued at once."""
    async with gate(vhost.url()) as proxy:
        async with AsyncExitStack() as stack:
            links = await four_links(stack, proxy.url, Seen())
            assert proxy.open_connections == 4
        await eventually(lambda: proxy.open_connections == 0, "all connections are closed")
        assert not any(link.connected for link in links)


async def test_link_gives_up_an_address_that_does_not_answer(
    vhost: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that accepts connections but does not answer does not delay the next one."""
    monkeypatch.setattr("grid.amqp.link.CONNECT_SECONDS", 1.0)
    seen = Seen()
    async with gate(vhost.url()) as silent:
        silent.mute = True
        link = Publisher("publisher", [silent.url, vhost.url()], seen)
        async with running(link):
            await link.confirmed(
                topology.REQUESTS_EXCHANGE, topology.REQUESTS, b"", id="a", timeout=10
            )
            assert silent.accepted == 1
    assert seen.ups() == [False, True]
    assert seen.reasons()[0].startswith("cannot connect: ")


async def test_link_gives_up_a_name_lookup_that_hangs(
    vhost: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a node that is down may be gone, and its look-up may never be answered."""
    looked_up = asyncio.BaseEventLoop.getaddrinfo

    async def slowly(loop: asyncio.BaseEventLoop, host: str, *rest: Any, **more: Any) -> Any:  # noqa: ANN401
        if host == "gone.example":
            await asyncio.sleep(TIMEOUT)
        return await looked_up(loop, host, *rest, **more)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", slowly)
    monkeypatch.setattr("grid.amqp.link.CONNECT_SECONDS", 0.5)
    seen = Seen()
    urls = ["amqp://gone.example/", vhost.url()]
    async with running(Publisher("publisher", urls, seen)):
        pass
    assert seen.reasons() == ["cannot connect: no connection in 1.5 s", "connected"]


async def test_link_connects_when_one_of_its_addresses_works(
    vhost: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other addresses refuse, do not answer, or refuse the password."""
    monkeypatch.setattr("grid.amqp.link.CONNECT_SECONDS", 1.0)
    seen = Seen()
    async with gate(vhost.url()) as silent, gate(vhost.url()) as refusing:
        silent.mute = True
        wrong = refusing.url.replace(vhost.broker.passwords["admin"], "s3cr3t")
        link = Publisher("publisher", [NOBODY, silent.url, wrong, vhost.url()], seen)
        async with running(link):
            await link.confirmed(
                topology.REQUESTS_EXCHANGE, topology.REQUESTS, b"", id="a", timeout=10
            )
        assert (silent.accepted, refusing.accepted) == (1, 1)
    assert seen.ups() == [False, True]


async def test_link_uses_the_next_address_when_a_node_is_lost(vhost: VirtualHost) -> None:
    """When a node is lost, its links use the next address of the list."""
    async with gate(vhost.url()) as one, gate(vhost.url()) as other:
        link = Publisher("publisher", [one.url, other.url], Seen())
        async with running(link):
            assert (one.accepted, other.accepted) == (1, 0)
            await one.close()
            await link.confirmed(
                topology.REQUESTS_EXCHANGE, topology.REQUESTS, b"", id="a", timeout=10
            )
            assert (one.accepted, other.accepted) == (1, 1)


async def test_link_reports_a_wrong_password_once(vhost: VirtualHost) -> None:
    """The link tries again; the password is not logged, nor is each attempt."""
    user, password = "admin", vhost.broker.passwords["admin"]
    seen = Seen()
    async with (
        gate(vhost.url().replace(password, "s3cr3t")) as proxy,
        started(Publisher(user, [proxy.url], seen)) as link,
    ):
        await eventually(lambda: proxy.accepted >= 3, "three attempts")
        assert not link.connected
    ((name, up, why),) = seen.calls
    assert (name, up) == (user, False)
    assert "ACCESS_REFUSED" in why
    assert "s3cr3t" not in why


async def test_link_reports_alternating_failures_once(vhost: VirtualHost) -> None:
    """Addresses that fail in different ways, in turn, are reported once, until one succeeds."""
    seen = Seen()
    async with gate(vhost.url()) as proxy:
        wrong = proxy.url.replace(vhost.broker.passwords["admin"], "s3cr3t")
        async with started(Publisher("publisher", [NOBODY, wrong], seen)):
            await eventually(lambda: proxy.accepted >= 2, "two rounds")
        assert len(seen.calls) == 1
        async with running(Publisher("publisher", [NOBODY, wrong, proxy.url], seen)):
            pass
    assert seen.ups() == [False, False, True]
    assert "s3cr3t" not in str(seen.calls)


async def test_link_is_down_while_its_consumer_cannot_be_set_up(vhost: VirtualHost) -> None:
    """A consumer without its queue is down, with the reason; it is up once it consumes."""
    queue = topology.substation_queue("substation1")
    seen = Seen()
    link = Consumer("consumer", [vhost.url()], seen, queue=queue.name, prefetch=1)
    async with (
        running(Declarer("declarer", [vhost.url()], Seen())) as declarer,
        started(link, link.run(deliver=lambda _: None)),
    ):
        await eventually(lambda: seen.calls, "the failure is told")
        assert not link.connected
        assert "NOT_FOUND" in seen.reasons()[0]
        await declarer.queue(queue)
        await eventually(lambda: link.connected, "it consumes")
    assert seen.ups() == [False, True]


async def test_declarer_refuses_at_once_while_its_link_is_down() -> None:
    """A declaration that cannot be made fails without waiting."""
    async with started(Declarer("declarer", [NOBODY], Seen())) as link:
        with pytest.raises(BrokerUnavailable, match=r"cannot declare substation\.a: not connected"):
            await link.queue(topology.substation_queue("a"))


async def test_link_reading_tls_files_from_a_hanging_disk_does_not_block_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files for TLS are read anew for each connection: in a thread, one at a time."""
    answers, asked = threading.Event(), 0

    def slow(_: object) -> object:
        nonlocal asked
        asked += 1
        answers.wait(TIMEOUT)
        raise OSError("the disk is gone")

    monkeypatch.setattr("grid.amqp.link.CONNECT_SECONDS", 0.02)
    monkeypatch.setattr("grid.tls.TlsFiles.context", slow)
    seen = Seen()
    task = asyncio.create_task(Declarer("declarer", ["amqps://127.0.0.1:1/"], seen).run())
    began = asyncio.get_running_loop().time()
    try:
        await eventually(lambda: bool(seen.calls), "it says so")
        assert asyncio.get_running_loop().time() - began < TIMEOUT / 2
        await asyncio.sleep(0.5)
        assert asked == 1
    finally:
        answers.set()
        task.cancel()
        await asyncio.wait({task})
    assert "files for TLS could not be read" in seen.calls[0][2]
