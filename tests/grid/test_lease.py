"""How long a consumer may act on what it was delivered."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import cast

import pytest
from pika.channel import Channel
from pika.exceptions import ChannelWrongStateError

from grid import topology
from grid.amqp import Consumer, Declarer, Delivery, Taker, renewal
from grid.amqp.lease import LEASE_SECONDS, Lease
from tests.broker import VirtualHost
from tests.grid.gate import gate
from tests.grid.links import Seen, eventually, running

QUEUE = topology.substation_queue("substation1")


def test_lease_counts_from_the_question_not_the_answer() -> None:
    """The answer may be late, and no longer true when it arrives."""
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
async def test_lease_lapses_while_rabbitmq_is_silent_and_is_renewed_after(
    kind: str, vhost: VirtualHost
) -> None:
    """A proxy that is frozen and thawed, like a stopped process: the same link goes on."""

    def ignore(_: Delivery) -> None:
        pass

    async with running(Declarer("declarer", [vhost.url()], Seen())) as declarer:
        await declarer.queue(QUEUE)
    async with gate(vhost.url()) as proxy:
        urls, seen = [proxy.through(vhost.url())], Seen()
        link: Consumer | Taker
        if kind == "consumer":
            link = Consumer("c", urls, seen, queue=QUEUE.name, prefetch=5, leased=True)
            run = link.run(deliver=ignore)
        else:
            link = Taker("t", urls, seen, leased=True)
            run = link.run()
        async with running(link, run):
            assert not link.lapsed
            await asyncio.sleep(2 * LEASE_SECONDS)
            assert not link.lapsed
            proxy.freeze()
            await eventually(lambda: link.lapsed, "the lease lapses")
            assert link.connected
            proxy.thaw()
            await eventually(lambda: not link.lapsed, "the lease holds again")
            assert seen.reasons() == ["connected"]
        assert not link.lapsed


@pytest.mark.integration
async def test_lease_leaves_no_error_when_its_channel_closes(vhost: VirtualHost) -> None:
    """The renewal finds the channel closed before the link does."""
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
    async with running(link, link.run(deliver=lambda _: None, idle=lambda: True)):
        assert link._channel is not None  # noqa: SLF001
        link._channel.close()  # noqa: SLF001
        await asyncio.sleep(2.5)
    gc.collect()
    assert unhandled == []


class FakeChannel:
    """Keeps the callbacks of what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Callable[[object], None]] = []
        self.is_open = True

    def basic_qos(self, *, prefetch_count: int, callback: Callable[[object], None]) -> None:
        """Accept a question."""
        assert prefetch_count == 1
        if not self.is_open:
            raise ChannelWrongStateError("it is closed")
        self.asked.append(callback)


class Renewing:
    """A renewal whose questions come quickly, and whose lease has a scripted time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(renewal, "RENEW_SECONDS", 0.005)
        self.now = 100.0
        self.lease = Lease(lambda: self.now)
        self.lease.renew(self.now)
        self.channel = FakeChannel()
        self.broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.renewal = renewal.Renewal(self.lease, cast(Channel, self.channel), self.broken)

    async def question(self) -> Callable[[object], None]:
        """Wait for the next question."""
        await eventually(lambda: bool(self.channel.asked), "it asks")
        return self.channel.asked.pop()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, in which the process runs now and then."""
        until = self.now + seconds
        while self.now < until:
            self.now += LEASE_SECONDS / 4
            await asyncio.sleep(0.02)


async def test_lease_counts_from_a_late_answer_if_the_process_kept_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer cannot have been in a buffer."""
    one = Renewing(monkeypatch)
    answer = await one.question()
    await one.pass_time(2 * LEASE_SECONDS)
    assert not one.lease.holds
    answer(None)
    assert one.lease.holds
    await one.question()
    one.renewal.stop()


async def test_lease_counts_from_the_question_if_the_process_was_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer may have been in a buffer meanwhile."""
    one = Renewing(monkeypatch)
    answer = await one.question()
    one.now += 2 * LEASE_SECONDS
    answer(None)
    assert not one.lease.holds
    (await one.question())(None)
    assert one.lease.holds
    one.renewal.stop()


async def test_link_ends_where_a_renewal_has_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second question is sent before the first is answered."""
    monkeypatch.setattr(renewal, "ANSWER_SECONDS", 0.05)
    one = Renewing(monkeypatch)
    assert await asyncio.wait_for(one.broken, 5) == "RabbitMQ has not answered in 0.05 s"
    assert len(one.channel.asked) == 1


async def test_renewal_that_was_stopped_renews_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its channel is gone: a late answer says nothing about the next channel."""
    one = Renewing(monkeypatch)
    answer = await one.question()
    one.renewal.stop()
    one.now += 2 * LEASE_SECONDS
    answer(None)
    assert not one.lease.holds


async def test_renewal_ends_with_its_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The link reports the closed channel; the renewal only ends."""
    one = Renewing(monkeypatch)
    (await one.question())(None)
    one.channel.is_open = False
    await asyncio.sleep(0.05)
    assert not one.broken.done()
    assert one.channel.asked == []
