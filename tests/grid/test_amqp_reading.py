"""In which turn of the loop a reader of a stream reads what was received."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from pika import ConnectionParameters

from grid.amqp import Delivery, StreamReader, stream
from grid.amqp.acknowledger import Acknowledger
from grid.amqp.connection import Connection
from grid.amqp.stream import SLICE_SECONDS
from tests.fake_broker import NOWHERE, soon, turns


class Reading:
    """A reader whose deliveries are scripted; each takes it so many seconds to read."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.read: list[bytes] = []
        self.acknowledged: list[bytes] = []
        self.connection = Connection(ConnectionParameters(), asyncio.Future(), lambda _: None)
        self.reader: Any = StreamReader("r", NOWHERE, lambda *_: None, queue="q")
        self.reader._read = self._read  # noqa: SLF001
        self.acknowledger = Acknowledger(1, self.acknowledged.append, soon)
        self.reader._broken = asyncio.get_running_loop().create_future()  # noqa: SLF001
        self.reader._channel = SimpleNamespace(is_open=True, connection=self.connection)  # noqa: SLF001

    def receive(self, *bodies: bytes) -> None:
        """Receive messages, all at once."""
        self.connection.bytes_received += sum(map(len, bodies))
        for offset, body in enumerate(bodies):
            headers = {"x-stream-offset": offset}
            self.acknowledger.delivered(offset)
            one = Delivery(self.acknowledger, offset, body, queue="q", id=None, headers=headers)
            self.reader._deliver(one)  # noqa: SLF001

    def _read(self, body: bytes, _writer: str) -> None:
        time.sleep(self.seconds)
        self.read.append(body)


async def test_stream_reader_handles_a_message_in_the_turn_it_arrives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An additional turn of the loop for each message is an additional system call."""
    monkeypatch.setattr(stream, "SLICE_SECONDS", 60.0)
    one = Reading()
    one.receive(b"1", b"2")
    assert one.read == [b"1", b"2"]
    one.receive(b"3")
    assert one.read == [b"1", b"2", b"3"]


async def test_stream_reader_yields_to_the_loop_when_handling_takes_long() -> None:
    """A long log must not block a service; the rest keeps its order."""
    one = Reading(seconds=0.6 * SLICE_SECONDS)
    bodies = [b"%d" % number for number in range(10)]
    one.receive(*bodies)
    assert 1 <= len(one.read) <= 2
    one.receive(b"10")
    assert len(one.read) <= 2
    await turns(100)
    assert one.read == [*bodies, b"10"]


async def test_stream_reader_handles_messages_at_once_again_after_it_was_busy() -> None:
    """The time budget starts again with each read."""
    one = Reading(seconds=1.1 * SLICE_SECONDS)
    one.receive(b"1")
    one.receive(b"2")
    assert one.read == [b"1", b"2"]
