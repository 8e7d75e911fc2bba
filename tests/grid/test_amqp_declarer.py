"""Questions about queues: on few channels, each with its own answer, whatever became of others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from grid import topology
from grid.amqp import Declarer, Outcome, Publisher, QueueState
from grid.amqp.connection import Connection
from tests.broker import VirtualHost
from tests.grid.links import Seen, running

pytestmark = pytest.mark.integration

NAMES = "x1", "x2", "x3"
LOOKS = 20


@pytest.fixture
async def declarer(vhost: VirtualHost) -> AsyncIterator[Declarer]:
    """Return a link to a broker that has the queues of some substations."""
    async with running(Declarer("d", [vhost.url("dispatcher")], Seen())) as link:
        for name in NAMES:
            await link.queue(topology.substation_queue(name))
        yield link


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that has an entry for each channel that is opened from now on."""
    opened: list[int] = []
    channel = Connection.channel

    def counted(connection: Connection, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        opened.append(len(opened))
        return channel(connection, *arguments, **named)

    monkeypatch.setattr(Connection, "channel", counted)
    return opened


async def fill(vhost: VirtualHost, name: str, number: int) -> None:
    """Put messages into the queue of a substation."""
    outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
    async with running(Publisher("p", [vhost.url("dispatcher")], Seen())) as publisher:
        for each in range(number):
            publisher.publish(
                topology.SUBSTATIONS_EXCHANGE, name, b"{}", outcomes.put_nowait, id=f"j{each}"
            )
        for _ in range(number):
            assert await outcomes.get() is Outcome.CONFIRMED


async def test_declarer_reuses_its_channel(declarer: Declarer, channels: list[int]) -> None:
    """Opening and closing a channel costs RabbitMQ ten times as much as the question."""
    for _ in range(LOOKS):
        assert await declarer.look("substation.x1") == QueueState(0, 0)
    assert len(channels) == 1


async def test_declarer_opens_another_channel_after_a_missing_queue(
    declarer: Declarer, channels: list[int]
) -> None:
    """RabbitMQ closes the channel over it."""
    assert await declarer.look("substation.x1") == QueueState(0, 0)
    assert await declarer.look("substation.none") is None
    assert await declarer.look("substation.x2") == QueueState(0, 0)
    assert len(channels) == 2


async def test_declarer_matches_concurrent_questions_with_their_answers(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """Concurrent questions about existing and missing queues."""
    for number, name in enumerate(NAMES):
        await fill(vhost, name, number)
    asked = [name for _ in range(5) for name in (*NAMES, "none")]
    found = await asyncio.gather(*(declarer.look(f"substation.{name}") for name in asked))
    waiting = [None if state is None else state.ready for state in found]
    assert waiting == [0, 1, 2, None] * 5


async def test_declarer_drops_the_late_answer_of_a_question_given_up(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """The first caller had given up before its answer came."""
    await fill(vhost, "x1", 3)
    assert await declarer.look("substation.x1") == QueueState(3, 0)
    asking = asyncio.create_task(declarer.look("substation.x1"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # it is asked
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert await declarer.look("substation.x2") == QueueState(0, 0)
