"""Consuming from a real RabbitMQ: redelivery, settling, and a consumer that comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest
from pika.channel import Channel

from grid import topology
from grid.amqp import Consumer, Declarer, Delivery, Publisher, frames
from tests.broker import VirtualHost
from tests.grid.gate import gate
from tests.grid.links import Recorder, Seen, eventually, running, waits_in

pytestmark = pytest.mark.integration

QUEUE = topology.substation_queue("substation1")


@pytest.fixture
async def declarer(vhost: VirtualHost) -> AsyncIterator[Declarer]:
    """Yield a link that declares, with the substation's queue declared."""
    async with running(Declarer("declarer", [vhost.url()], Seen())) as link:
        assert (await link.queue(QUEUE)).ready == 0
        yield link


async def send(vhost: VirtualHost, *ids: str) -> None:
    """Put messages into the substation's queue."""
    async with running(Publisher("publisher", [vhost.url()], Seen())) as link:
        for each in ids:
            link.publish(QUEUE.exchange, QUEUE.key, each.encode(), lambda _: None, id=each)
        await asyncio.wait_for(link.drained(), 20)


def recorder(vhost: VirtualHost, *, ack: bool = False, prefetch: int = 100) -> Recorder:
    """Return a recorder of the substation's queue."""
    return Recorder(vhost.url("substation.substation1"), QUEUE.name, ack=ack, prefetch=prefetch)


async def test_consumer_gets_no_more_than_the_prefetch(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """A prefetch above the limit of one consumer is split, and neither exceeded nor cut."""
    await send(vhost, *map(str, range(2_100)))
    one = recorder(vhost, prefetch=2_050)
    async with one.running():
        await eventually(lambda: len(one.deliveries) == 2_050, "the prefetch is delivered")
        await waits_in(declarer, QUEUE, 50)
        for each in one.deliveries[:10]:
            each.ack()
        await eventually(lambda: len(one.deliveries) == 2_060, "as many more as acknowledged")
        await waits_in(declarer, QUEUE, 40)
    assert len(set(one.ids)) == 2_060


@pytest.mark.usefixtures("declarer")
async def test_consumer_gets_unacknowledged_deliveries_again_after_its_link_broke(
    vhost: VirtualHost,
) -> None:
    """When the link breaks, the service is told to forget its jobs before they are redelivered."""
    await send(vhost, "a", "b", "c")
    async with gate(vhost.url("substation.substation1")) as proxy:
        one = Recorder(proxy.url, QUEUE.name, ack=False)
        async with one.running():
            await eventually(lambda: one.ids == ["a", "b", "c"], "all are delivered")
            assert one.forgotten_after == []
            await proxy.reopen()
            await eventually(lambda: len(one.ids) == 6, "all are delivered again")
            # the first messages come before RabbitMQ confirms the consumer
            await eventually(lambda: one.link.connected, "the link is up")
    assert sorted(map(str, one.ids[3:])) == ["a", "b", "c"]
    assert [each.redelivered for each in one.deliveries] == [False] * 3 + [True] * 3
    assert one.forgotten_after == [3], one.seen.calls
    assert (one.seen.ups()[0], one.seen.ups()[-1]) == (True, True)


async def test_consumer_does_not_get_what_was_acknowledged(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """What was acknowledged, singly or up to a tag, is not delivered to the next consumer."""
    await send(vhost, "a", "b", "c", "d")
    one = recorder(vhost)
    async with one.running():
        await eventually(lambda: len(one.ids) == 4, "all are delivered")
        for number in (0, 1, 3):
            one.deliveries[number].ack()
    other = recorder(vhost)
    async with other.running():
        await eventually(lambda: other.ids, "the rest is delivered")
        await waits_in(declarer, QUEUE, 0)
    assert other.ids == ["c"]


@pytest.mark.usefixtures("declarer")
async def test_consumer_gets_a_requeued_delivery_again(vhost: VirtualHost) -> None:
    """``requeue`` returns one delivery to its queue; the others are unaffected."""
    await send(vhost, "a", "b")
    one = recorder(vhost)
    async with one.running():
        await eventually(lambda: one.ids == ["a", "b"], "both are delivered")
        one.deliveries[0].requeue()
        await eventually(lambda: len(one.ids) == 3, "one comes back")
    assert (one.deliveries[2].id, one.deliveries[2].redelivered) == ("a", True)


@pytest.mark.usefixtures("declarer")
async def test_rejected_delivery_is_dead_lettered(vhost: VirtualHost) -> None:
    """``reject`` dead-letters one delivery to ``charge.dead``, whole, with queue and reason."""
    await send(vhost, "bad")
    dead = Recorder(vhost.url("dispatcher"), topology.DEAD)
    one = recorder(vhost)
    async with one.running(), dead.running():
        await eventually(lambda: one.deliveries, "it is delivered")
        one.deliveries[0].reject()
        await eventually(lambda: dead.deliveries, "it is dead-lettered")
    (found,) = dead.deliveries
    assert (found.id, found.body) == ("bad", b"bad")
    (death,) = found.headers["x-death"]
    assert (death["reason"], death["queue"]) == ("rejected", QUEUE.name)


async def test_stopped_consumer_can_still_settle_its_deliveries(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """After ``stop`` nothing new arrives; what was delivered can be acknowledged or returned."""
    await send(vhost, "a", "b")
    one = recorder(vhost)
    async with one.running():
        await eventually(lambda: len(one.ids) == 2, "both are delivered")
        one.link.stop()
        one.deliveries[0].ack()
        one.deliveries[1].requeue()
        await send(vhost, "c")
        assert one.link.connected
    other = recorder(vhost)
    async with other.running():
        await eventually(lambda: len(other.ids) == 2, "the others are delivered elsewhere")
        await waits_in(declarer, QUEUE, 0)
    assert one.ids == ["a", "b"]
    assert sorted(map(str, other.ids)) == ["b", "c"]


async def test_consumer_waits_for_a_deleted_queue_to_be_declared_again(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """RabbitMQ cancels the consumer of a deleted queue; it consumes again once there is one."""
    one = recorder(vhost, ack=True)
    async with one.running():
        path = f"/api/queues/{quote(vhost.name)}/{QUEUE.name}"
        await asyncio.to_thread(vhost.broker.request, "DELETE", path)
        # a queue may still exist for a moment after its consumers were cancelled
        await eventually(lambda: "NOT_FOUND" in one.seen.reasons()[-1], "no queue is found")
        assert one.forgotten_after
        assert one.gone_after == [0], "it is told that the queue is gone, and then to forget"
        await declarer.queue(QUEUE)
        await eventually(lambda: one.link.connected, "the consumer is back")
        await send(vhost, "a")
        await eventually(lambda: one.ids == ["a"], "it takes again")
    assert "cancelled the consumer of substation.substation1" in one.seen.reasons()[1]


async def test_consumer_whose_channel_is_closed_for_a_double_settlement_starts_afresh(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """A second frame for one delivery closes the channel; unsettled messages are redelivered."""
    await send(vhost, "a", "b", "last")
    one = recorder(vhost, prefetch=1)  # so the next comes once an acknowledgement was applied
    async with one.running():
        await eventually(lambda: one.ids == ["a"], "the first is delivered")
        one.deliveries[0].ack()
        await eventually(lambda: one.ids == ["a", "b"], "the next is delivered")
        one.link._acknowledger._send(frames.ack(1, 1))  # noqa: SLF001  # the first, once more
        await eventually(lambda: len(one.ids) == 3, "the unsettled one comes again")
        one.deliveries[2].ack()
        await eventually(lambda: len(one.ids) == 4, "the last is delivered")
    assert one.ids == ["a", "b", "b", "last"]
    assert "PRECONDITION_FAILED" in one.seen.reasons()[1]
    await waits_in(declarer, QUEUE, 1)


async def test_delivery_settled_twice_does_not_close_its_link(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """Only the first settlement is sent, so RabbitMQ has no reason to close the channel."""
    await send(vhost, "a", "b", "c")
    one = recorder(vhost, prefetch=3)
    async with one.running():
        await eventually(lambda: len(one.ids) == 3, "all are delivered")
        for _ in range(2):
            one.deliveries[0].ack()
            one.deliveries[2].ack()
            one.deliveries[2].requeue()
            await asyncio.sleep(0)
        await waits_in(declarer, QUEUE, 0)
        assert one.link.unsettled == 1
        one.deliveries[1].requeue()
        one.deliveries[1].reject()
        await eventually(lambda: len(one.ids) == 4, "the one that was given back comes again")
        await send(vhost, "d", "e", "last")
        one.deliveries[3].ack()  # there is room for the last once RabbitMQ has applied this
        await eventually(lambda: len(one.ids) == 7, "the last is delivered")
    assert one.ids == ["a", "b", "c", "b", "d", "e", "last"]
    assert one.seen.reasons() == ["connected"]
    await waits_in(declarer, QUEUE, 3)


async def test_only_one_consumer_of_requests_is_active(vhost: VirtualHost) -> None:
    """A second dispatcher is on standby, and gets everything once the first one's link is lost."""
    second = Recorder(vhost.url("dispatcher"), topology.REQUESTS, ack=False)
    async with gate(vhost.url("dispatcher")) as proxy:
        first = Recorder(proxy.url, topology.REQUESTS, ack=False)
        async with (
            running(Publisher("publisher", [vhost.url()], Seen())) as publisher,
            first.running(),
            second.running(),
        ):
            for each in ("a", "b", "c"):
                await publisher.confirmed(
                    topology.REQUESTS_EXCHANGE, topology.REQUESTS, b"", id=each, timeout=20
                )
            await eventually(lambda: first.ids == ["a", "b", "c"], "the first has them all")
            assert second.ids == []
            await proxy.close()
            await eventually(lambda: len(second.ids) == 3, "the second has them all")
    assert sorted(map(str, second.ids)) == ["a", "b", "c"]


async def test_delivery_over_which_the_callback_fails_is_dead_lettered(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """The message is dead-lettered, not requeued for ever; the loop's handler ends the service."""
    errors: list[object] = []
    handler = lambda _, context: errors.append(context["exception"])  # noqa: E731
    asyncio.get_running_loop().set_exception_handler(handler)
    taken: list[str | None] = []

    def deliver(delivery: Delivery) -> None:
        if delivery.id == "poison":
            raise KeyError("some mistake")
        taken.append(delivery.id)
        if delivery.id != "last":
            delivery.ack()

    url = [vhost.url("substation.substation1")]
    link = Consumer("consumer", url, Seen(), queue=QUEUE.name, prefetch=1)
    await send(vhost, "a", "poison", "b", "last")
    async with running(link, link.run(deliver=deliver)):
        await eventually(lambda: taken == ["a", "b", "last"], "the others are taken")
    await waits_in(declarer, QUEUE, 1)
    assert list(map(repr, errors)) == ["KeyError('some mistake')"]
    dead = Recorder(vhost.url(), topology.DEAD)
    async with dead.running():
        await eventually(lambda: dead.ids == ["poison"], "it is dead-lettered")


class Forsaken(Consumer):
    """A consumer that RabbitMQ counts but does not serve: its first link gets no messages."""

    async def _consume(self, channel: Channel, prefetch: int) -> str:
        if self.opened > 1:
            return await super()._consume(channel, prefetch)
        return "nobody"

    async def _set_up(self, channel: Channel) -> None:
        self.opened += 1
        await super()._set_up(channel)

    opened = 0


@asynccontextmanager
async def forsaken(
    vhost: VirtualHost, seen: Seen, came: list[str | None], *, busy: bool
) -> AsyncIterator[None]:
    """Run a consumer that RabbitMQ forgot."""
    url = [vhost.url("substation.substation1")]
    link = Forsaken("forsaken", url, seen, queue=QUEUE.name, prefetch=5)
    deliver = lambda delivery: came.append(delivery.id)  # noqa: E731
    async with running(link, link.run(deliver=deliver, idle=lambda: not busy and not came)):
        yield


@pytest.mark.usefixtures("declarer")
async def test_consumer_reconnects_when_messages_wait_and_none_is_delivered(
    vhost: VirtualHost,
) -> None:
    """If it has nothing in hand and gets nothing though messages wait, its link is made anew."""
    held: list[str | None] = []
    counted = Consumer(
        "counted",
        [vhost.url("substation.substation1")],
        Seen(),
        queue=QUEUE.name,
        prefetch=1,
    )
    seen = Seen()
    came: list[str | None] = []
    async with running(counted, counted.run(deliver=lambda delivery: held.append(delivery.id))):
        await send(vhost, "x")
        await eventually(lambda: held == ["x"], "the one that is counted has all it may have")
        await send(vhost, "a", "b")
        async with forsaken(vhost, seen, came, busy=False):
            await eventually(lambda: came == ["a", "b"], "both are brought")
    assert seen.reasons()[:2] == [
        "connected",
        "RabbitMQ brings nothing of substation.substation1, though messages wait",
    ]


@pytest.mark.usefixtures("declarer")
async def test_consumer_reconnects_when_rabbitmq_no_longer_lists_it(vhost: VirtualHost) -> None:
    """Also with jobs in hand and an empty queue: no one sends to a queue without a consumer."""
    seen = Seen()
    came: list[str | None] = []
    async with forsaken(vhost, seen, came, busy=True):
        await eventually(lambda: len(seen.reasons()) > 2, "the link is made anew")
        await send(vhost, "a")
        await eventually(lambda: came == ["a"], "it is brought")
    assert seen.reasons()[:2] == [
        "connected",
        "RabbitMQ knows no consumer of substation.substation1",
    ]


@pytest.mark.usefixtures("declarer")
async def test_consumer_with_nothing_to_do_keeps_its_link(
    vhost: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an empty queue nor one whose messages are all unacknowledged is a reason for it."""
    monkeypatch.setattr("grid.amqp.consumer.CHECK_INTERVAL", 0.05)
    seen = Seen()
    came: list[str | None] = []
    link = Consumer(
        "patient",
        [vhost.url("substation.substation1")],
        seen,
        queue=QUEUE.name,
        prefetch=1,
    )
    deliver = lambda delivery: came.append(delivery.id)  # noqa: E731
    async with running(link, link.run(deliver=deliver, idle=lambda: not came)):
        await asyncio.sleep(0.3)
        await send(vhost, "a", "b")
        await eventually(lambda: came == ["a"], "the first is brought")
        await asyncio.sleep(0.3)
    assert seen.reasons()[0] == "connected"
    assert not [why for why in seen.reasons() if "RabbitMQ" in why]
