"""How long a consumer may act on what it was delivered."""

from __future__ import annotations

import asyncio
import gc

import pytest

from grid import topology
from grid.amqp import Consumer, Declarer, Delivery, Taker
from grid.amqp.lease import LEASE_SECONDS, Lease
from tests.broker import VirtualHost
from tests.grid.gate import gate
from tests.grid.links import Seen, eventually, running

QUEUE = topology.substation_queue("substation1")


def test_lease_holds_from_when_the_question_was_asked() -> None:
    """The answer may have come late: what was true when it was given may not be true any more."""
    now = 100.0
    lease = Lease(lambda: now)
    assert not lease.holds
    lease.renew(now)
    now += LEASE_SECONDS
    assert lease.holds
    asked_at = now
    now += LEASE_SECONDS + 1
    assert not lease.holds
    lease.renew(asked_at)
    assert not lease.holds


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["consumer", "taker"])
async def test_link_lapses_while_rabbitmq_says_nothing_and_holds_again(
    kind: str, vhost: VirtualHost
) -> None:
    """A way that is frozen and thawed, as a process that is held: the same link goes on."""

    def ignore(_: Delivery) -> None:
        pass

    async with running(Declarer("declarer", [vhost.url()], Seen())) as declarer:
        await declarer.queue(QUEUE)
    async with gate(vhost.url()) as way:
        urls, seen = [way.through(vhost.url())], Seen()
        link = (
            Consumer("c", urls, seen, queue=QUEUE.name, prefetch=5, leased=True)
            if kind == "consumer"
            else Taker("t", urls, seen, leased=True)
        )
        async with running(link, **({"deliver": ignore} if kind == "consumer" else {})):
            assert not link.lapsed
            await asyncio.sleep(2 * LEASE_SECONDS)
            assert not link.lapsed
            way.freeze()
            await eventually(lambda: link.lapsed, "the lease lapses")
            assert link.connected
            way.thaw()
            await eventually(lambda: not link.lapsed, "the lease holds again")
            assert seen.reasons() == ["connected"]
        assert not link.lapsed


@pytest.mark.integration
async def test_link_whose_channel_closes_leaves_no_error_behind(vhost: VirtualHost) -> None:
    """Whoever asks RabbitMQ now and then finds the channel closed before the link is told."""
    unhandled: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    async with running(Declarer("declarer", [vhost.url()], Seen())) as declarer:
        await declarer.queue(QUEUE)
    link = Consumer(
        "c",
        [vhost.url()],
        Seen(),
        queue=QUEUE.name,
        prefetch=5,
        leased=True,
    )
    async with running(link, deliver=lambda _: None, idle=lambda: True):
        assert link._channel is not None  # noqa: SLF001
        link._channel.close()  # noqa: SLF001
        await asyncio.sleep(2.5)
    gc.collect()
    assert unhandled == []
