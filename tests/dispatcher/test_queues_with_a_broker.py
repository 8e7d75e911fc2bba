"""Queues of a real RabbitMQ that are deleted while they are in use."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from time import monotonic
from typing import cast

import pytest

from grid import topology
from grid.amqp import Declarer, Outcome, Publisher
from tests.broker import VirtualHost
from tests.dispatcher.test_queues import FakeDeclarer, QueueHarness
from tests.faults.brokerside import delete_queue
from tests.grid.links import Recorder, Seen, eventually, running

QUEUES = {f"s{number}": topology.substation_queue(f"s{number}") for number in range(16)}


@pytest.mark.integration
async def test_consumer_of_a_deleted_queue_is_served_by_the_one_that_is_declared_again(
    vhost: VirtualHost,
) -> None:
    """Were it declared as soon as a job is returned, some consumers would be counted, and starve.

    Then the messages are with the consumer, as RabbitMQ sees it: nothing is ready, and nobody can
    tell that they are lost.
    """
    ids = map(str, count())
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        declarer = await enter(running(Declarer("declarer", [vhost.url()], Seen())))
        publisher = await enter(running(Publisher("publisher", [vhost.url()], Seen())))
        harness = QueueHarness(cast(FakeDeclarer, declarer), *QUEUES)

        def on_answer(name: str, outcome: Outcome) -> None:
            if outcome is Outcome.UNROUTABLE:
                harness.queues.declare(name, harness.now)

        async def go_on() -> None:
            """Have the clock go on, and jobs come."""
            while True:
                harness.now = monotonic()
                for name, queue in QUEUES.items():
                    done = partial(on_answer, name)
                    publisher.publish(queue.exchange, queue.key, b"", done, id=next(ids))
                await asyncio.sleep(0.01)

        tasks = [asyncio.create_task(go_on()), asyncio.create_task(harness.watch.run())]
        for task in tasks:
            stack.callback(task.cancel)
        await eventually(lambda: all(map(harness.queues.state, QUEUES)), "all are declared")
        consumers: list[Recorder] = []
        for queue in QUEUES.values():
            one = Recorder(vhost.url(), queue.name, ack=True)
            await enter(one.running())
            consumers.append(one)
        for deleted in (1, 2):
            await eventually(lambda: all(each.ids for each in consumers), "all get jobs")
            deletions = [partial(delete_queue, vhost, queue.name) for queue in QUEUES.values()]
            await asyncio.gather(*map(asyncio.to_thread, deletions))
            await eventually(
                lambda deleted=deleted: all(len(each.gone_after) == deleted for each in consumers),  # type: ignore[misc]
                "all are told that their queue is gone",
            )
            for each in consumers:
                each.deliveries.clear()
        await eventually(lambda: all(each.ids for each in consumers), "all get jobs again")
