"""Slow clients: each is given a time, and then its connection ends; the others are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

import pytest
import uvicorn
from fastapi import FastAPI, Request
from uvicorn.server import ServerState

from deploy.local.ports import HOST
from grid.connections import patient_for

PATIENCE = 0.5
MOST = 20
GET = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
BIG = 50_000_000  # more than the kernel takes for a client that does not read


def make_app() -> FastAPI:
    """Make an app that echoes, and one answer that is long."""
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.get("/big")
    async def big() -> str:
        return "x" * BIG

    return app


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Serve on a free port."""
    kind = patient_for(PATIENCE, MOST)
    config = uvicorn.Config(make_app(), log_config=None, http=kind, timeout_keep_alive=60)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: kind(config=config, server_state=state, app_state={}), HOST, 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait for the connection to end; tells whether it did, whatever came before."""
    try:
        async with asyncio.timeout(20):
            while await reader.read(65536):
                pass
    except ConnectionError:
        pass
    return True


async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send a byte at a time, for longer than the server waits."""
    try:
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(PATIENCE / 10)
    except ConnectionError:
        pass


@pytest.mark.parametrize(
    ("at_once", "slowly"),
    [
        (b"", b""),  # says nothing
        (b"", GET),  # a header byte by byte
        (POST, b""),  # a body that never comes
        (POST.replace(b": 2", b": 99"), b"x" * 99),  # a body byte by byte
    ],
)
async def test_a_request_that_does_not_arrive_ends_its_connection(
    port: int, at_once: bytes, slowly: bytes
) -> None:
    """However it is dragged out: the time is for the whole request, not from byte to byte."""
    reader, writer = await asyncio.open_connection(HOST, port)
    began = monotonic()
    writer.write(at_once)
    dripping = asyncio.create_task(drip(writer, slowly))
    assert await ended(reader)
    assert monotonic() - began >= PATIENCE * 0.9
    dripping.cancel()
    writer.close()


async def test_a_second_request_must_arrive_as_well(port: int) -> None:
    """A connection that was good once is not trusted for ever."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(POST + b"{}")
    assert b"200" in await reader.readline()
    writer.write(POST)
    assert await ended(reader)
    writer.close()


async def test_a_second_request_that_came_with_the_first_must_arrive_as_well(port: int) -> None:
    """Its beginning is read while the first is answered, and no byte of it comes afterwards."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(POST + b"{}" + POST)
    assert b"200" in await reader.readline()
    assert await ended(reader)
    writer.close()


async def test_an_answer_that_is_not_taken_ends_its_connection(port: int) -> None:
    """A client that asks for much and reads nothing is cut off."""
    reader, writer = await asyncio.open_connection(HOST, port, limit=1)
    writer.write(GET)
    await asyncio.sleep(PATIENCE * 4)
    received = 0
    try:
        while piece := await reader.read(65536):
            received += len(piece)
    except ConnectionError:
        pass
    assert received < BIG
    writer.close()


async def test_who_gets_on_is_served_for_long(port: int) -> None:
    """A connection with one request after another outlives the time that each of them has."""
    reader, writer = await asyncio.open_connection(HOST, port)
    began = monotonic()
    while monotonic() - began < PATIENCE * 3:
        writer.write(POST + b"{}")
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b"200" in answer.split(b"\r\n")[0]
        await reader.readexactly(1)
        await asyncio.sleep(PATIENCE / 5)
    writer.close()


async def test_connections_beyond_the_limit_are_told_to_come_back(port: int) -> None:
    """503 with Retry-After, while those before them are served; with room again, so are others."""
    opened = [await asyncio.open_connection(HOST, port) for _ in range(MOST + 3)]
    firsts = []
    for reader, writer in opened:
        writer.write(POST + b"{}")
        firsts.append(await reader.readuntil(b"\r\n\r\n"))
    served = [b"HTTP/1.1 200" in first for first in firsts]
    assert served == [True] * MOST + [False] * 3
    assert all(b"503" in first and b"Retry-After: 1" in first for first in firsts[MOST:])
    for _, writer in opened:
        writer.close()
        await writer.wait_closed()
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(POST + b"{}")
    assert b"200" in await reader.readline()
    writer.close()


async def test_connections_beyond_the_limit_that_say_nothing_are_not_kept(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    """Who only opens connections has no more of them open than the limit, for long."""
    monkeypatch.setattr("grid.connections.TOO_MANY_SECONDS", 0.01)
    opened = [await asyncio.open_connection(HOST, port) for _ in range(MOST + 3)]
    assert [await ended(reader) for reader, _ in opened[MOST:]] == [True] * 3
    assert not any(reader.at_eof() for reader, _ in opened[:MOST])
    for _, writer in opened:
        writer.close()
