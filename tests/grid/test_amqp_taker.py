"""Getting single messages from a real RabbitMQ: none is lost, none is a consumer's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from grid import topology
from grid.amqp import Declarer, Delivery, Publisher, Taker
from grid.errors import BrokerUnavailable
from tests.broker import VirtualHost
from tests.grid import links
from tests.grid.gate import gate
from tests.grid.links import Seen, eventually, running, started, waits_in

pytestmark = pytest.mark.integration

QUEUE = topology.substation_queue("substation1")
OTHER = topology.substation_queue("substation2")


@pytest.fixture
async def declarer(vhost: VirtualHost) -> AsyncIterator[Declarer]:
    """Yield a link that declares, with the queues of two substations declared."""
    async with running(Declarer("declarer", [vhost.url()], Seen())) as link:
        for each in (QUEUE, OTHER):
            assert (await link.queue(each)).ready == 0
        yield link


async def send(vhost: VirtualHost, *ids: str, queue: topology.Queue = QUEUE) -> None:
    """Put messages into a substation's queue."""
    async with running(Publisher("publisher", [vhost.url()], Seen())) as link:
        for each in ids:
            headers = {"x-of": each}
            body = each.encode()
            link.publish(queue.exchange, queue.key, body, lambda _: None, id=each, headers=headers)
        await asyncio.wait_for(link.drained(), 20)


def taker(vhost: VirtualHost) -> Taker:
    """Return a taker with the dispatcher's permissions."""
    return Taker("taker", [vhost.url("dispatcher")], Seen())


async def taken(link: Taker, queue: str = QUEUE.name) -> Delivery:
    """Get a message that must be there, and return it."""
    found = await link.take(queue)
    assert found is not None
    return found


@pytest.mark.usefixtures("declarer")
async def test_taker_gets_messages_one_by_one_in_order(vhost: VirtualHost) -> None:
    """Each is whole and not redelivered; after the last there is none."""
    await send(vhost, "a", "b")
    async with running(taker(vhost)) as link:
        first, second = await taken(link), await taken(link)
        assert await link.take(QUEUE.name) is None
        assert await link.take(QUEUE.name) is None
    assert (first.id, first.body, first.redelivered, first.headers["x-of"]) == (
        "a",
        b"a",
        False,
        "a",
    )
    assert second.id == "b"
    assert second is not first


async def test_taker_removes_what_is_acknowledged_and_requeues_the_rest(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """An acknowledged message is gone; a requeued one can be taken again at once."""
    await send(vhost, "a", "b", "c")
    async with running(taker(vhost)) as link:
        a, b, c = [await taken(link) for _ in range(3)]
        await waits_in(declarer, QUEUE, 0)
        b.ack()
        a.requeue()
        again = await taken(link)
        assert (again.id, again.redelivered) == ("a", True)
        again.ack()
        c.ack()
        assert await link.take(QUEUE.name) is None  # by now RabbitMQ has applied them
    await waits_in(declarer, QUEUE, 0)


@pytest.mark.usefixtures("declarer")
async def test_taker_requeues_unacknowledged_messages_when_its_link_breaks(
    vhost: VirtualHost,
) -> None:
    """The service is told that the link was lost; RabbitMQ has the messages again."""
    await send(vhost, "a", "b", "c")
    forgotten: list[bool] = []
    async with gate(vhost.url("dispatcher")) as proxy:
        link = Taker("taker", [proxy.url], Seen())
        async with running(link, link.run(lost=lambda: forgotten.append(True))):
            for _ in range(2):
                await taken(link)
            assert forgotten == []
            await proxy.reopen()
            await eventually(lambda: forgotten and link.connected, "the link is back")
            found = [await taken(link) for _ in range(3)]
            assert await link.take(QUEUE.name) is None
    assert sorted(str(each.id) for each in found) == ["a", "b", "c"]
    assert sorted(str(each.id) for each in found if each.redelivered) == ["a", "b"]


async def test_taker_does_not_get_a_message_in_another_consumers_hands(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """A job that a living consumer has not acknowledged stays with it; ready ones are taken."""
    await send(vhost, "charging", "waiting")
    worker = links.Recorder(vhost.url("substation.substation1"), QUEUE.name, ack=False, prefetch=1)
    async with worker.running(), running(taker(vhost)) as link:
        await eventually(lambda: worker.ids == ["charging"], "the consumer has its job")
        found = await taken(link)
        assert found.id == "waiting"
        assert await link.take(QUEUE.name) is None
        found.ack()
        assert await link.take(QUEUE.name) is None  # by now RabbitMQ has applied it
        await send(vhost, "last")
        worker.deliveries[0].ack()
        await eventually(lambda: worker.ids == ["charging", "last"], "its next job is delivered")
    await waits_in(declarer, QUEUE, 1)


async def test_taker_reports_a_missing_queue_and_reconnects(
    vhost: VirtualHost, declarer: Declarer
) -> None:
    """The error says so, and the link comes back by itself, with all its messages requeued."""
    await send(vhost, "a")
    async with running(taker(vhost)) as link:
        await taken(link)
        with pytest.raises(BrokerUnavailable, match=r"cannot take from substation\.x: .*NOT_FOUND"):
            await link.take("substation.x")
        await eventually(lambda: link.connected, "the link is back")
        assert (await taken(link)).redelivered
    await waits_in(declarer, QUEUE, 1)


async def test_taker_fails_at_once_while_its_link_is_down() -> None:
    """Taking fails without waiting for a message that cannot come."""
    link = Taker("taker", ["amqp://127.0.0.1:1/"], Seen())
    async with started(link):
        with pytest.raises(BrokerUnavailable, match=r"cannot take from a: not connected"):
            await link.take("a")


@pytest.mark.usefixtures("declarer")
async def test_taker_answers_concurrent_requests_each_from_its_own_queue(
    vhost: VirtualHost,
) -> None:
    """Requests on one link wait for each other; each gets the answer of its own queue."""
    await send(vhost, "a1", "a2")
    await send(vhost, "b1", queue=OTHER)
    async with running(taker(vhost)) as link:
        names = [QUEUE.name, OTHER.name, OTHER.name, QUEUE.name, QUEUE.name]
        found = await asyncio.gather(*map(link.take, names))
    assert [each and each.id for each in found] == ["a1", "b1", None, "a2", None]


@pytest.mark.usefixtures("declarer")
@pytest.mark.parametrize("ids", [["a"], []], ids=["full", "empty"])
async def test_taker_requeues_a_message_that_comes_too_late(
    vhost: VirtualHost, ids: list[str]
) -> None:
    """A message that comes too late is requeued, and the next request gets its own answer."""
    await send(vhost, *ids)
    async with running(taker(vhost)) as link:
        late = asyncio.create_task(link.take(QUEUE.name))
        await asyncio.sleep(0)  # begun
        await asyncio.sleep(0)  # and asked
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        found = await asyncio.gather(*[link.take(QUEUE.name) for _ in range(2)])
    assert [each.id for each in found if each] == ids
    assert all(each.redelivered for each in found if each)


@pytest.mark.usefixtures("declarer")
async def test_taker_fails_all_requests_when_its_link_breaks(vhost: VirtualHost) -> None:
    """All that wait for an answer get an error when the link breaks; the next link works."""
    async with (
        gate(vhost.url("dispatcher")) as proxy,
        running(Taker("taker", [proxy.url], Seen())) as link,
    ):
        proxy.dropping_answers = True
        asked = [asyncio.create_task(link.take(QUEUE.name)) for _ in range(3)]
        await asyncio.sleep(0.05)
        await proxy.reopen()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each) for each in answers] == [BrokerUnavailable] * 3
        await send(vhost, "a")
        await eventually(lambda: link.connected, "the link is back")
        assert (await taken(link)).id == "a"
