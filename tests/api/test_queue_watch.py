"""The api says which of the shared queues are missing."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from api import queue_watch
from api.queue_watch import MISSING, NEEDED, QueueWatch
from grid import topology
from grid.amqp import Declarer, QueueState
from grid.errors import BrokerUnavailable
from tests.fake_broker import FakePublisher, turns

Answer = QueueState | BrokerUnavailable | None


class FakeDeclarer:
    """Answers for each queue: its state, None where it is missing, or an error."""

    def __init__(self, answer: Answer) -> None:
        self.up = asyncio.Event()
        self.up.set()
        self.answers: dict[str, Answer] = {each.name: answer for each in topology.QUEUES}

    async def look(self, name: str) -> QueueState | None:
        """Look at a queue."""
        answer = self.answers[name]
        if isinstance(answer, BrokerUnavailable):
            raise answer
        return answer


THERE = QueueState(0, 1)


async def problems(declarer: FakeDeclarer, publisher: FakePublisher) -> list[str]:
    """Return what the watch says after a look at all queues."""
    watch = QueueWatch(cast(Declarer, declarer), publisher)
    task = asyncio.create_task(watch.run())
    await turns()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return watch.problems()


@pytest.mark.parametrize("queue", [each.name for each in NEEDED])
async def test_each_missing_queue_is_named(queue: str) -> None:
    """With what makes it; those that are there are not."""
    declarer = FakeDeclarer(THERE)
    assert await problems(declarer, FakePublisher()) == []
    declarer.answers[queue] = None
    assert await problems(declarer, FakePublisher()) == [MISSING.format(queue)]


async def test_queue_that_may_not_be_inspected_is_not_missing() -> None:
    """RabbitMQ 4.2.6 and later refuse it; a returned request shows that it is missing."""
    declarer = FakeDeclarer(BrokerUnavailable("ACCESS_REFUSED"))
    publisher = FakePublisher()
    assert await problems(declarer, publisher) == []
    publisher.returned_within = lambda *_: True  # type: ignore[method-assign]
    assert await problems(declarer, publisher) == [MISSING.format(topology.REQUESTS)]


def test_queue_check_interval_is_shorter_than_the_returned_window() -> None:
    """An api that is not ready gets no requests, so only the check finds that the queue is back."""
    assert queue_watch.QUEUE_CHECK_INTERVAL < queue_watch.RETURNED_WINDOW < 10


@pytest.mark.parametrize("queue", [topology.CONTROLS, topology.CANCELLATIONS])
async def test_api_is_ready_without_the_streams_of_earlier_versions_broker(queue: str) -> None:
    """Requests are accepted without: only changes of controls, and cancellations, are not."""
    declarer = FakeDeclarer(THERE)
    declarer.answers[queue] = None
    assert await problems(declarer, FakePublisher()) == []
