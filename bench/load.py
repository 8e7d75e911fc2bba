"""A cheap HTTP client: keep-alive connections, a closed loop or a fixed rate.

It shares the machine with what it measures. So it writes bytes that were prepared before, and of an
answer reads only the status and the length; bodies are parsed when the load is over.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.processes import NotMeasured
from deploy.local.ports import HOST

LENGTH: Final = b"content-length:"
HEAD_END: Final = b"\r\n\r\n"
STATUS: Final = slice(9, 12)  # of "HTTP/1.1 202 Accepted"
MAX_CONNECTIONS: Final = 400
ANSWER_SECONDS: Final = 60.0
ACCEPTED: Final = 202


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request; ``due`` and ``answered`` are steady seconds, ``sent_at`` Unix's.

    ``due`` is when it was to be sent: a client that is late itself must not make an answer look
    quick.
    """

    due: float
    answered: float
    sent_at: float
    status: int
    body: bytes

    @property
    def seconds(self) -> float:
        """Return how long the client has waited."""
        return self.answered - self.due

    @property
    def accepted(self) -> bool:
        """Return whether the request was accepted."""
        return self.status == ACCEPTED

    @property
    def id(self) -> str:
        """Return the job's id."""
        return str(json.loads(self.body)["id"])


def post(path: str, value: Any, **headers: str) -> bytes:  # noqa: ANN401 - JSON
    """Return the bytes of a POST of JSON."""
    body = json.dumps(value).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {HOST}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {each}" for name, each in headers.items()),
    ]
    return "\r\n".join(lines).encode() + HEAD_END + body


CHARGE: Final = post(
    "/charge",
    {"vehicle_id": "EV-4711", "requested_energy_kwh": 40.5},
    Prefer="respond-async",
)


class Connection(asyncio.Protocol):
    """One connection to a server; one request at a time."""

    def __init__(self) -> None:
        self.closed = False
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]]
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass the answer on once it has arrived in full."""
        self._received += data
        found = parse(self._received)
        if found is not None:
            self._received.clear()
            if not self._answer.done():
                self._answer.set_result(found)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that waits for an answer."""
        self.closed = True
        if hasattr(self, "_answer") and not self._answer.done():
            self._answer.set_exception(NotMeasured(f"the server closed a connection: {exc}"))

    async def ask(self, request: bytes, due: float | None = None) -> Answer:
        """Send a request, and wait for its answer."""
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        began, sent_at = loop.time(), time.time()
        self._transport.write(request)
        status, body = await asyncio.wait_for(self._answer, ANSWER_SECONDS)
        return Answer(began if due is None else due, loop.time(), sent_at, status, body)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


def parse(received: bytes | bytearray) -> tuple[int, bytes] | None:
    """Return status and body of an answer; None while some of it is missing.

    Raise ``NotMeasured`` if it does not say how long it is.
    """
    head, end, body = bytes(received).partition(HEAD_END)
    if not end:
        return None
    _, found, rest = head.lower().partition(LENGTH)
    if not found:
        raise NotMeasured(f"an answer without Content-Length: {head!r}")
    length = int(rest.partition(b"\r\n")[0])
    return None if len(body) < length else (int(head[STATUS]), body[:length])


async def connect(port: int) -> Connection:
    """Connect to a server on this machine."""
    _, protocol = await asyncio.get_running_loop().create_connection(Connection, HOST, port)
    return protocol


async def closed_loop(port: int, request: bytes, clients: int, seconds: float) -> list[Answer]:
    """Send requests from so many clients, each the next as soon as it has its answer.

    The time begins when all are connected, and each client sends at least one: on a busy machine
    nothing would be measured otherwise.
    """
    connections = await asyncio.gather(*(connect(port) for _ in range(clients)))
    until = asyncio.get_running_loop().time() + seconds

    async def client(connection: Connection) -> list[Answer]:
        answers = [await connection.ask(request)]
        while asyncio.get_running_loop().time() < until:
            answers.append(await connection.ask(request))
        connection.close()
        return answers

    return [each for found in await asyncio.gather(*map(client, connections)) for each in found]


async def open_loop(
    port: int,
    request: bytes,
    rate: float,
    seconds: float,
    connections: int = MAX_CONNECTIONS,
) -> list[Answer]:
    """Send requests at a rate, whether or not earlier ones are answered.

    A request waits while so many ``connections`` are busy.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    idle: list[Connection] = []
    allowed = asyncio.Semaphore(connections)

    async def ask(due: float) -> Answer:
        async with allowed:
            while idle and idle[-1].closed:  # closed by the server: it was idle for long
                idle.pop()
            connection = idle.pop() if idle else await connect(port)
            answer = await connection.ask(request, due)
            idle.append(connection)
            return answer

    tasks = []
    for number in range(int(rate * seconds)):
        due = begun + number / rate
        if (rest := due - loop.time()) > 0:
            await asyncio.sleep(rest)
        tasks.append(asyncio.create_task(ask(due)))
    answers = await asyncio.gather(*tasks)
    for each in idle:
        each.close()
    return list(answers)


def waits(answers: Sequence[Answer], began: dict[str, float]) -> list[float]:
    """Return how many seconds passed from each accepted request to the start of its session.

    ``began`` has that start by job, in Unix seconds.
    """
    found = [(each.id, each.sent_at) for each in answers if each.accepted]
    return [began[job] - sent_at for job, sent_at in found if job in began]
