"""Slow clients: each is given a time, and then its connection ends; the others are served."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from time import monotonic

import pytest
import uvicorn
from fastapi import FastAPI, Request
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from deploy.local.ports import HOST
from grid.connection_limits import Limits
from grid.connections import http_protocol
from tests.examples import examples
from tests.fake_broker import turns

TIMEOUT = 0.5
MOST = 20
GET = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
BIG = 50_000_000  # more than the kernel takes for a client that does not read


@cache
def make_app() -> FastAPI:
    """Make an app that echoes, and one answer that is long; it keeps nothing of a connection."""
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.post("/headers")
    async def headers(request: Request) -> list[str]:
        await request.body()
        return request.headers.keys()

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("this page is broken")

    @app.get("/big")
    async def big() -> str:
        return "x" * BIG

    return app


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Serve on a free port; one address may have all connections."""
    async with serve(Limits(MOST, MOST, waiting=MOST, accepted_at_once=MOST)) as port:
        yield port


@asynccontextmanager
async def serve(limits: Limits, address: str = HOST) -> AsyncIterator[int]:
    """Serve on a free port for as long as the context lasts."""
    kind = http_protocol(TIMEOUT, limits)
    config = uvicorn.Config(make_app(), log_config=None, http=kind, timeout_keep_alive=60)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: kind(config=config, server_state=state, app_state={}), address, 0
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
            await asyncio.sleep(TIMEOUT / 10)
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
async def test_server_closes_a_connection_whose_request_does_not_arrive_in_time(
    port: int, at_once: bytes, slowly: bytes
) -> None:
    """The timeout is for the whole request, not from byte to byte."""
    reader, writer = await asyncio.open_connection(HOST, port)
    began = monotonic()
    writer.write(at_once)
    dripping = asyncio.create_task(drip(writer, slowly))
    assert await ended(reader)
    assert monotonic() - began >= TIMEOUT * 0.9
    dripping.cancel()
    writer.close()


async def test_server_closes_a_connection_whose_second_request_does_not_arrive(port: int) -> None:
    """A connection that was valid once is not trusted for ever."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(POST + b"{}")
    assert b"200" in await reader.readline()
    writer.write(POST)
    assert await ended(reader)
    writer.close()


async def test_server_closes_a_connection_whose_pipelined_request_does_not_arrive(
    port: int,
) -> None:
    """Its beginning is read while the first is answered, and nothing follows."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(POST + b"{}" + POST)
    assert b"200" in await reader.readline()
    assert await ended(reader)
    writer.close()


async def test_server_closes_a_connection_that_does_not_read_its_answer(port: int) -> None:
    """A client that requests much and reads nothing is disconnected."""
    reader, writer = await asyncio.open_connection(HOST, port, limit=1)
    writer.write(GET)
    received = len(await reader.read(1))  # a busy machine takes a while to make the answer
    await asyncio.sleep(TIMEOUT * 4)
    try:
        while piece := await reader.read(65536):
            received += len(piece)
    except ConnectionError:
        pass
    assert received < BIG
    writer.close()


async def test_server_keeps_a_connection_that_sends_one_request_after_another(port: int) -> None:
    """A connection with one request after another lasts longer than the timeout of each."""
    reader, writer = await asyncio.open_connection(HOST, port)
    began = monotonic()
    while monotonic() - began < TIMEOUT * 3:
        writer.write(POST + b"{}")
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b"200" in answer.split(b"\r\n")[0]
        await reader.readexactly(1)
        await asyncio.sleep(TIMEOUT / 5)
    writer.close()


async def test_server_answers_503_to_connections_beyond_the_limit(port: int) -> None:
    """503 with Retry-After, while earlier ones are served; later ones are served again."""
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


async def test_server_closes_silent_connections_beyond_the_limit(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    """A client that only opens connections soon has no more of them than the limit."""
    monkeypatch.setattr("grid.connections.TOO_MANY_SECONDS", 0.01)
    opened = [await asyncio.open_connection(HOST, port) for _ in range(MOST + 3)]
    assert [await ended(reader) for reader, _ in opened[MOST:]] == [True] * 3
    assert not any(reader.at_eof() for reader, _ in opened[:MOST])
    for _, writer in opened:
        writer.close()


class Recorded(asyncio.Transport):
    """A transport to nowhere that records what is written, and how it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        """Record it."""
        assert not self.closed
        self.written.append(data)

    def close(self) -> None:
        """Record the end."""
        self.closed = True

    def is_closing(self) -> bool:
        """Return whether it was closed."""
        return self.closed

    def resume_reading(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"])
async def test_server_writes_head_and_body_in_one_system_call(last: bytes) -> None:
    """Head and body in one system call, also where the connection is closed behind them."""
    kind = http_protocol(TIMEOUT, Limits(9, 9, 9, 9))
    config = uvicorn.Config(make_app(), log_config=None, http=kind)
    transport = Recorded()
    protocol = kind(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(transport)
    protocol.data_received(POST.replace(b"Host", last + b"Host") + b"{}")
    await turns(20)
    (answer,) = transport.written
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n2")
    assert transport.closed == bool(last)
    protocol.connection_lost(None)


PIECES = [
    b"GET /echo HTTP/1.1\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /echo HTTP/1.0\r\n",
    b"Host: x\r\n",
    b"Host: y\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 2\r\n",
    b"Content-Length: 0\r\n",
    b"X",
    b": y\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n",
    b"2\r\n{}\r\n",
    b"0\r\n\r\n",
    b"zz\r\n",
    b"{}",
    b"\x00",
]


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.booleans()), min_size=1, max_size=12))
@example([(PIECES[2], True), (b"zz\r\n", True)])  # answered 404 before the body goes wrong
@examples(100)
def test_server_survives_any_bytes_of_a_client(
    pieces: list[tuple[bytes, bool]],
) -> None:
    """In any order, with a pause for the answer or without: no error is left to the loop."""
    errors: list[dict[str, object]] = []

    async def send() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        async with serve(Limits(9, 9, 9, 9)) as port:
            reader, writer = await asyncio.open_connection(HOST, port)
            with suppress(ConnectionError, TimeoutError):
                for piece, pause in pieces:
                    writer.write(piece)
                    await writer.drain()
                    if pause:
                        async with asyncio.timeout(0.02):
                            await reader.read(65536)
            writer.close()
            with suppress(ConnectionError):  # which is the client's own
                await writer.wait_closed()
            other = await asyncio.open_connection(HOST, port)
            assert b"200" in await answer_of(other)
            other[1].close()

    asyncio.run(send())
    gc.collect()  # a task whose error was never retrieved reports it when it is collected
    assert errors == []


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (b"Host: x\r\nHost: y\r\n", "Host"),
        (b"", "Host"),
        (b"Host: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n", "Content-Length"),
        (b"Host: x\r\nTransfer-Encoding: a\r\nTransfer-Encoding: b\r\n", "Transfer-Encoding"),
    ],
)
async def test_server_refuses_a_repeated_framing_or_host_header(
    port: int, lines: bytes, named: str
) -> None:
    """400 as a problem document that names it, whatever the service."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"GET /big HTTP/1.1\r\n" + lines + b"\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert named in json.loads(body)["detail"]
    writer.close()


async def connect(
    port: int, source: str = HOST
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect from an address of this machine."""
    return await asyncio.open_connection(HOST, port, local_addr=(source, 0))


async def answer_of(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    """Send a request and give the answer's first line; the connection is left idle."""
    reader, writer = stream
    writer.write(POST + b"{}")
    head = await reader.readuntil(b"\r\n\r\n")
    if b"200" in head.split(b"\r\n")[0]:
        await reader.readexactly(1)
    return head.split(b"\r\n")[0]


async def test_server_limits_connections_by_address() -> None:
    """Beyond its own share it is answered 503, while another address is answered 200."""
    async with serve(Limits(total=6, per_address=4, waiting=6, accepted_at_once=6)) as port:
        held = [await connect(port) for _ in range(4)]
        for _, writer in held:
            writer.write(POST)  # and no body
        assert b"503" in await answer_of(await connect(port))
        assert b"200" in await answer_of(await connect(port, "127.0.0.2"))
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        assert b"200" in await answer_of(await connect(port))


async def test_server_closes_the_longest_idle_connection_for_a_new_one() -> None:
    """The longest idle one is closed: of the same address, where that has its share already."""
    async with serve(Limits(total=4, per_address=3, waiting=4, accepted_at_once=4)) as port:
        other = await connect(port, "127.0.0.2")
        assert b"200" in await answer_of(other)  # idles longest of all
        first, second, busy = [await connect(port) for _ in range(3)]
        busy[1].write(POST)  # and no body
        assert b"200" in await answer_of(first)
        assert b"200" in await answer_of(second)
        new = await connect(port)  # the share of its address is taken
        assert b"200" in await answer_of(new)
        assert await first[0].read() == b""
        third = await connect(port, "127.0.0.3")  # all are taken
        assert b"200" in await answer_of(third)
        assert await other[0].read() == b""
        assert b"200" in await answer_of(second)
        for _, writer in (second, new, busy, third):
            writer.close()


async def test_server_bounds_connections_that_wait_for_their_503() -> None:
    """A limited number waits for its 503; others are closed at once."""
    async with serve(Limits(total=1, per_address=1, waiting=2, accepted_at_once=9)) as port:
        held = await connect(port)
        held[1].write(POST)
        refused = [await connect(port) for _ in range(2)]
        surplus = [await connect(port) for _ in range(3)]
        async with asyncio.timeout(TIMEOUT / 2):
            assert all([await ended(reader) for reader, _ in surplus])
        assert [b"503" in await answer_of(each) for each in refused] == [True, True]
        held[1].close()


async def test_server_does_not_count_a_partial_second_header_as_idle(
    port: int,
) -> None:
    """A connection with the beginning of a second request is not idle."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(POST + b"{}" + POST[:9])
    assert b"200" in await reader.readline()
    began = monotonic()
    assert await ended(reader)
    assert monotonic() - began < TIMEOUT * 8  # an idle one has a minute here
    writer.close()


async def test_server_answers_a_good_request_before_a_malformed_one_behind_it(port: int) -> None:
    """Otherwise a client would take that 400 for the answer to its valid request."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(POST + b"{}" + b"x" * 2_000)
    received = await reader.read()
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 400 Bad Request\r\n" in received
    assert b"application/problem+json" in received
    writer.close()


async def test_server_answers_pipelined_requests_in_order(port: int) -> None:
    """One by one: each request waits until the one before is answered."""
    bodies = [b"1" * number for number in range(1, 9)]
    head = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n"
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"".join(head.format(len(each)).encode() + each for each in bodies))
    for each in bodies:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(1) == str(len(each)).encode()
    writer.close()


async def test_server_refuses_a_head_that_does_not_end(port: int) -> None:
    """400 as a problem document, long before the time for a request is over."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"GET /big HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert "no end to its head" in json.loads(body)["detail"]
    writer.close()


async def test_server_answers_500_and_closes_when_the_app_fails(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """uvicorn answers 500; requests behind it are not answered."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n" + POST + b"{}")
    received = await reader.read()
    assert received.startswith(b"HTTP/1.1 500 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert "this page is broken" in caplog.text
    writer.close()


COUNTED = (b"Content-Length: 2\r\n\r\n", b"{}")
CHUNKED = (b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n")


@pytest.mark.parametrize("offer", [b"websocket", b"h2c"])
@pytest.mark.parametrize("framed", [COUNTED, CHUNKED])
@pytest.mark.parametrize("pause", [0.0, 0.02])
async def test_server_ignores_an_upgrade_offer(
    port: int, offer: bytes, framed: tuple[bytes, bytes], pause: float
) -> None:
    """The request is answered, with its body, and so is the next one: as RFC 9110, 7.8 has it."""
    reader, writer = await asyncio.open_connection(HOST, port)
    asked = b"Connection: Upgrade\r\nUpgrade: " + offer + b"\r\n"
    writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\n" + asked + framed[0])
    await writer.drain()
    await asyncio.sleep(pause)
    writer.write(framed[1])
    for _ in range(2):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(1) == b"2"
        writer.write(POST + b"{}")
    writer.close()


@pytest.mark.parametrize("before", [b"", b"\r\n\r\n"])
@pytest.mark.parametrize("cut", range(1, 66, 8))
async def test_server_accepts_content_length_zero_anywhere_in_a_head(
    port: int, before: bytes, cut: int
) -> None:
    """In one packet or two: the head does not end early."""
    reader, writer = await asyncio.open_connection(HOST, port)
    request = before + b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX: y\r\n\r\n"
    writer.write(request[:cut])
    await writer.drain()
    await asyncio.sleep(0.01)
    writer.write(request[cut:])
    async with asyncio.timeout(TIMEOUT * 8):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(1) == b"0"
    writer.close()


@pytest.mark.parametrize("pause", [0.0, 0.02])
async def test_server_does_not_take_trailers_for_headers(port: int, pause: float) -> None:
    """A proxy that checks headers may have passed them on: RFC 9110, 6.5.1."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"POST /headers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    await writer.drain()
    await asyncio.sleep(pause)
    writer.write(b"Authorization: Bearer key\r\nHost: y\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert json.loads(await reader.readuntil(b"]")) == ["host", "transfer-encoding"]
    writer.close()


async def test_server_knows_a_method_split_at_any_byte(port: int) -> None:
    """The app answers 405 with its methods, however the request arrives."""
    for cut in (1, 2, 3, 4):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"\r\n" + b"FLY /echo HTTP/1.1\r\n"[:cut])
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(b"FLY /echo HTTP/1.1\r\n"[cut:] + b"Host: x\r\n\r\n")
        assert b"405" in await reader.readline()
        writer.close()


async def test_server_answers_expect_100_continue(port: int) -> None:
    """Expect: 100-continue, as curl sends it with a long body."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(POST.replace(b"Host", b"Expect: 100-continue\r\nHost"))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(b"{}")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()
