from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise

import pytest

from bench import load
from bench.chain import figures
from bench.load import Answer, Connection, closed_loop, open_loop, parse, post, waits
from bench.processes import NotMeasured
from deploy.local.ports import HOST

ANSWER = b'HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\nX: y\r\n\r\n{"id":"a"}'


def test_parse_waits_for_the_whole_answer() -> None:
    """The body may come later than the head, byte by byte."""
    assert [parse(ANSWER[:end]) for end in range(len(ANSWER))] == [None] * len(ANSWER)
    assert parse(ANSWER) == (202, b'{"id":"a"}')


def test_parse_refuses_an_answer_of_unknown_length() -> None:
    """It would wait for ever."""
    with pytest.raises(NotMeasured, match="without Content-Length"):
        parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_post_is_a_request_with_its_length() -> None:
    """A server reads as many bytes as it is told of."""
    head, _, body = post("/charge", {"priority": 1}, Prefer="respond-async").partition(b"\r\n\r\n")
    assert head.startswith(b"POST /charge HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Prefer: respond-async" in head
    assert json.loads(body) == {"priority": 1}


class Server(asyncio.Protocol):
    """Answers each request after a while."""

    delay = 0.0
    asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to answer."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Count each write as a request."""
        assert data == load.CHARGE
        type(self).asked += 1
        asyncio.get_running_loop().call_later(self.delay, self.transport.write, ANSWER)


@asynccontextmanager
async def serving(wait: float) -> AsyncIterator[tuple[int, type[Server]]]:
    """Serve on a free port."""
    kind = type("OwnServer", (Server,), {"delay": wait, "asked": 0})
    server = await asyncio.get_running_loop().create_server(kind, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1], kind


async def test_closed_loop_asks_again_once_it_is_answered() -> None:
    """So there are never more requests under way than clients."""
    async with serving(0.01) as (port, server):
        answers = await closed_loop(port, load.CHARGE, 3, 0.1)
    assert server.asked == len(answers) >= 3
    assert all(each.accepted and each.id == "a" and each.seconds >= 0.01 for each in answers)


async def test_closed_loop_measures_though_connecting_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy machine, many clients may take longer to connect than they are to send."""

    async def slowly(port: int, connect: Callable[[int], Awaitable[Connection]]) -> Connection:
        await asyncio.sleep(0.1)
        return await connect(port)

    monkeypatch.setattr(load, "connect", partial(slowly, connect=load.connect))
    async with serving(0.0) as (port, server):
        answers = await closed_loop(port, load.CHARGE, 3, 0.0)
    assert server.asked == len(answers) == 3


async def test_open_loop_counts_from_when_a_request_was_due() -> None:
    """The rate is kept though no answer comes in time, and the wait for a connection counts."""
    async with serving(0.1) as (port, server):
        answers = await open_loop(port, load.CHARGE, 100, 0.2)
    assert server.asked == len(answers) == 20
    assert all(each.seconds >= 0.1 for each in answers)
    gaps = [b.due - a.due for a, b in pairwise(answers)]
    assert gaps == pytest.approx([0.01] * 19)


def answer(job: str, due: float, answered: float, status: int = 202) -> Answer:
    """Make an answer; its request was sent at 1,000 seconds more."""
    return Answer(due, answered, 1_000 + due, status, json.dumps({"id": job}).encode())


def test_waits_are_from_the_request_to_the_session() -> None:
    """A job that has not begun, or was refused, has none."""
    answers = [answer("a", 1, 2), answer("b", 2, 3), answer("c", 3, 4, status=503)]
    assert waits(answers, {"a": 1_001.5, "c": 1_009.0}) == [0.5]


def test_figures_are_for_each_accepted_request() -> None:
    """What was refused counts as such, and costs those that were accepted."""
    answers = [answer("a", 0, 1), answer("b", 1, 2), answer("c", 3, 4, status=503)]
    found = figures(answers, {"a": 1_000.1, "b": 1_001.3}, {"api": 0.5, "RabbitMQ": 1.5})
    assert found["requests/s"] == 0.5
    assert found["not accepted, %"] == pytest.approx(100 / 3)
    assert found["answer p99, ms"] == 1_000
    assert found["to charging p99, ms"] == pytest.approx(300)
    assert found["CPU api"] == 250
    assert found["CPU sum"] == 1_000
