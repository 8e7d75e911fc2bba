"""Reclaiming jobs from the queues of a real RabbitMQ."""

from __future__ import annotations

import asyncio

import pytest

from grid import topology
from grid.amqp import Declarer, Delivery, Publisher, QueueState, Taker
from tests.broker import VirtualHost
from tests.dispatcher.reclaim_harness import ReclaimHarness
from tests.grid import links
from tests.grid.gate import gate
from tests.grid.links import Seen, eventually, running, waits_in

pytestmark = pytest.mark.usefixtures("quick_reclaim")


@pytest.mark.integration
async def test_reclaimer_with_a_broker_neither_loses_jobs_nor_takes_a_workers(
    vhost: VirtualHost,
) -> None:
    """Jobs return when the link is cut before they are safe, and are gone once they are."""
    queue = topology.substation_queue("substation1")
    handed: list[Delivery] = []

    seen: list[QueueState] = []

    async def watch() -> None:
        while True:
            seen[:] = [await declarer.queue(queue)]
            await asyncio.sleep(0.05)

    def reclaim(_: str, delivery: Delivery) -> bool:
        handed.append(delivery)
        return True

    worker = links.Recorder(vhost.url("substation.substation1"), queue.name, ack=False, prefetch=1)
    async with (
        gate(vhost.url("dispatcher")) as way,
        running(Declarer("declarer", [vhost.url("dispatcher")], Seen())) as declarer,
        running(Publisher("publisher", [vhost.url("dispatcher")], Seen())) as publisher,
    ):
        await waits_in(declarer, queue, 0)
        for job in ("charging", "a", "b"):
            publisher.publish(queue.exchange, queue.key, b"", lambda _: None, id=job)
        await publisher.drained()
        taker = Taker("taker", [way.url], Seen())
        harness = ReclaimHarness("substation1", "substation2", taker=taker)
        harness.reachable["substation1"] = False
        harness.on_reclaim = reclaim
        harness.on_look = lambda _: seen[0] if seen else None
        async with worker.running():
            await eventually(lambda: worker.ids == ["charging"], "the worker has its job")
            async with running(taker, taker.run(lost=harness.shell.on_reclaimed_lost)):
                work = asyncio.gather(harness.reclaim.run(), watch())
                await eventually(lambda: len(handed) == 2, "the others are reclaimed")
                assert [each.id for each in handed] == ["a", "b"]
                await way.reopen()
                await eventually(lambda: len(handed) == 4, "they come again")
                assert all(each.redelivered for each in handed[2:])
                for each in handed:
                    each.ack()
                assert not harness.hand.holds("substation1")
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
            await waits_in(declarer, queue, 0)
        await eventually(lambda: not worker.link.connected, "the worker is gone")
        successor = links.Recorder(vhost.url("substation.substation1"), queue.name, ack=False)
        async with successor.running():
            await eventually(lambda: successor.ids, "what is left is delivered")
            await waits_in(declarer, queue, 0)
            assert successor.ids == worker.ids == ["charging"]
