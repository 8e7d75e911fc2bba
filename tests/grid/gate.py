"""A link to the broker that a test can close, freeze, or make lose answers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

from deploy.local.ports import HOST
from tests.ports import free_ports

CHUNK = 65536


class Gate:
    """A proxy between clients and the broker at ``url``; clients use ``Gate.url``.

    While ``mute`` is set, nothing of a new connection goes to the broker and nothing comes back;
    while ``dropping_answers`` is set, the broker's answers are dropped. While it is frozen, nothing
    passes on any connection, though all stay open. A connection that has carried ``max_bytes``
    breaks.
    """

    def __init__(self, url: str) -> None:
        (self._port,) = free_ports(1)
        self._broker = urlsplit(url).port
        self.url = self.through(url)
        self.mute = False
        self.dropping_answers = False
        self.max_bytes = math.inf
        self.accepted = 0
        self.open_connections = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thawed = asyncio.Event()
        self._thawed.set()

    async def open(self) -> None:
        """Accept clients."""
        self._server = await asyncio.start_server(self._accept, HOST, self._port)

    async def close(self) -> None:
        """Break every connection, as a network does, and accept no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def reopen(self) -> None:
        """Break every connection, accept clients again, and pass everything on."""
        await self.close()
        self.mute = self.dropping_answers = False
        await self.open()

    def freeze(self) -> None:
        """Let nothing pass from now on, and keep every connection open."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Let everything pass again, also what was held back."""
        self._thawed.set()

    def through(self, url: str) -> str:
        """Return the address of the same user and virtual host through this gate."""
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=parts.netloc.replace(*self._ports())))

    def _ports(self) -> tuple[str, str]:
        return f":{self._broker}", f":{self._port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        self.open_connections += 1
        try:
            await self._pass_on(reader, writer)
        except asyncio.CancelledError:
            pass  # the stream's own callback would report it as an error
        finally:
            self._tasks.discard(task)
            self.open_connections -= 1
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mute:
            await reader.read()
            return
        await self._thawed.wait()
        from_broker, to_broker = await asyncio.open_connection(HOST, self._broker)
        ways = [
            asyncio.ensure_future(self._copy(reader, to_broker, answers=False)),
            asyncio.ensure_future(self._copy(from_broker, writer, answers=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to_broker.transport.abort()

    async def _copy(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        carried = 0
        while carried < self.max_bytes and (content := await source.read(CHUNK)):
            carried += len(content)
            await self._thawed.wait()
            if answers and self.dropping_answers:
                continue
            target.write(content)
            await target.drain()


@asynccontextmanager
async def gate(url: str) -> AsyncIterator[Gate]:
    """Run an open gate to the broker."""
    one = Gate(url)
    await one.open()
    try:
        yield one
    finally:
        await one.close()
