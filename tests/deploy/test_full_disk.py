"""RabbitMQ whose disk fills up under load: publishers stop in time, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest
from pika import BlockingConnection, URLParameters
from pika.exceptions import ChannelClosedByBroker

from deploy.rabbitmq.definitions import VHOST
from deploy.rabbitmq.disk import FREE_LIMIT
from deploy.rabbitmq.live import OwnBroker
from grid import topology
from grid.amqp import Outcome, Publisher, declare_topology
from grid.errors import BrokerUnavailable
from tests.broker import SUBSTATIONS, Broker, VirtualHost
from tests.grid.links import Recorder, Seen, eventually, running
from tests.small_disk import MEGABYTE, SmallDiskBroker, small_disk

pytestmark = pytest.mark.integration

DISK: Final = FREE_LIMIT + 400 * MEGABYTE
ABOVE: Final = 80 * MEGABYTE  # what is free beyond the limit when the load begins
NEVER_BELOW: Final = FREE_LIMIT // 2
PUBLISHERS, WINDOW, BODY_BYTES = 4, 25, 60_000
PAUSE_SECONDS: Final = 0.15  # between a message's confirm and the next one
POLL_INTERVAL: Final = 0.02
TIMEOUT: Final = 60.0
MESSAGES: Final = 5_000  # more than the 4,096 entries of a quorum queue's segment
REQUESTS_TO: Final = (topology.REQUESTS_EXCHANGE, topology.REQUESTS)


def short_of_disk(broker: OwnBroker) -> str:
    """Return what is said of the disk; RabbitMQ's figures are up to 5 s old."""
    until = time.monotonic() + TIMEOUT
    while (said := broker.short_of_disk()) is None:
        assert time.monotonic() < until, "nothing is said of the disk"
        time.sleep(0.2)
    return said


class Load:
    """Publishes on several connections, and knows what is confirmed.

    At most 40 MB/s, about twice what RabbitMQ takes of requests at best: on a machine that is busy
    it looks at its disk seconds late.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._ids = count()
        self._stopped = False
        self.confirmed: set[str] = set()
        self.publishers: list[Publisher] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Publish for as long as the context lasts; at its end all is answered."""
        async with AsyncExitStack() as stack:
            for number in range(PUBLISHERS):
                link = Publisher(f"load{number}", [self._broker.url("load_test")], Seen())
                self.publishers.append(await stack.enter_async_context(running(link)))
                for _ in range(WINDOW):
                    self._publish(link)
            yield
            self._stopped = True
            for each in self.publishers:
                await asyncio.wait_for(each.drained(), TIMEOUT)

    def _publish(self, link: Publisher) -> None:
        name = str(next(self._ids))

        def answer(outcome: Outcome) -> None:
            if outcome is Outcome.CONFIRMED:
                self.confirmed.add(name)
            if not self._stopped:
                asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._again, link)

        link.publish(*REQUESTS_TO, os.urandom(BODY_BYTES), answer, id=name)

    def _again(self, link: Publisher) -> None:
        if not self._stopped:
            self._publish(link)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDiskBroker]:
    """Start a node on a small file system, which goes with the test."""
    folder = tmp_path / "node"
    with (
        small_disk(folder / "data", DISK) as disk,
        closing(SmallDiskBroker(folder, disk)) as broker,
    ):
        broker.start()
        yield broker


async def lowest_until_still(broker: SmallDiskBroker, load: Load) -> int:
    """Wait until nothing is confirmed any more for 3 s; return the least that was free."""
    lowest, before, still = broker.disk.free(), -1, 0
    async with asyncio.timeout(TIMEOUT):
        while still < 3 / POLL_INTERVAL:
            still = still + 1 if len(load.confirmed) == before else 0
            before = len(load.confirmed)
            await asyncio.sleep(POLL_INTERVAL)
            lowest = min(lowest, broker.disk.free())
    return lowest


async def test_rabbitmq_stops_publishers_before_its_disk_is_full(small: SmallDiskBroker) -> None:
    """It starts again like that, goes on once there is room, and has all that it confirmed."""
    own = OwnBroker(small.node.ports.management, small.passwords, SUBSTATIONS)
    load, requests = Load(small), Recorder(small.url("dispatcher"), topology.REQUESTS)
    assert own.short_of_disk() is None
    small.disk.leave(FREE_LIMIT + ABOVE)
    async with load.running():
        assert await lowest_until_still(small, load) > NEVER_BELOW
        assert all(each.blocked for each in load.publishers)
        said = await asyncio.to_thread(short_of_disk, own)
        assert "takes no messages while it is less than 512 MB" in said
        await asyncio.to_thread(small.restart)
        assert await lowest_until_still(small, load) > NEVER_BELOW
        before = len(load.confirmed)
        small.disk.clear()
        await eventually(lambda: len(load.confirmed) > before + 100, "it goes on")
    async with requests.running():
        await eventually(lambda: load.confirmed <= set(requests.ids), "all confirmed are there")


async def load_definitions(vhost: VirtualHost) -> None:
    """Make what is missing as `make up` does at a node of ours."""
    broker = vhost.broker
    own = OwnBroker(broker.node.ports.management, broker.passwords, SUBSTATIONS)
    await asyncio.to_thread(own.load)


async def declare(vhost: VirtualHost) -> None:
    """Make what is missing as `python -m grid declare` does at another one.

    Again until it goes well: a node that has just started has its streams a moment later.
    """
    async with asyncio.timeout(TIMEOUT):
        while True:
            try:
                return await declare_topology([vhost.url()], Seen())
            except BrokerUnavailable:
                await asyncio.sleep(1)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VirtualHost, VirtualHost]]:
    """Run a node with two virtual hosts whose requests it cannot open; the first one is ``/``."""
    with (
        closing(Broker(tmp_path_factory.mktemp("broken"))) as broker,
        started(broker).vhost() as second,
    ):
        both = VirtualHost(broker, VHOST), second
        for each in both:
            asyncio.run(publish(each, MESSAGES))
        lose_first_segments(broker, both)
        yield both


def started(broker: Broker) -> Broker:
    """Start a node, and return it."""
    broker.start()
    return broker


@pytest.mark.parametrize(
    ("number", "make_again"),
    [
        pytest.param(0, load_definitions, id="load_definitions"),
        pytest.param(1, declare, id="declare"),
    ],
)
async def test_broken_rabbitmq_queue_can_be_deleted_and_declared_again(
    broken: tuple[VirtualHost, VirtualHost],
    number: int,
    make_again: Callable[[VirtualHost], Awaitable[None]],
) -> None:
    """As docs/reliability.md has it; without, what is published there is refused for good."""
    vhost = broken[number]
    with pytest.raises((BrokerUnavailable, TimeoutError)):
        await publish(vhost, 1)
    queue = f"/api/queues/{quote(vhost.name, safe='')}/{topology.REQUESTS}"
    await asyncio.to_thread(vhost.broker.request, "DELETE", queue)
    await make_again(vhost)
    await publish(vhost, 1)


async def publish(vhost: VirtualHost, number: int) -> None:
    """Publish so many requests, all of them confirmed; ends with an error where they are not."""
    async with running(Publisher("p", [vhost.url("load_test")], Seen())) as publisher:
        confirmed = (
            publisher.confirmed(*REQUESTS_TO, b"{}", id=str(each), timeout=20)
            for each in range(number)
        )
        await asyncio.gather(*confirmed)


def wait_until_open(vhosts: Iterable[VirtualHost]) -> None:
    """Wait until every queue answers: 3.10 that is stopped before may never open a stream again."""
    until = time.monotonic() + TIMEOUT
    for vhost in vhosts:
        left = [each.name for each in topology.QUEUES]
        with closing(BlockingConnection(URLParameters(vhost.url()))) as connection:
            while left:
                try:
                    connection.channel().queue_declare(left[-1], passive=True)
                except ChannelClosedByBroker:
                    assert time.monotonic() < until, f"{left} cannot be opened"
                    time.sleep(0.2)
                else:
                    left.pop()


def lose_first_segments(broker: Broker, vhosts: Collection[VirtualHost]) -> None:
    """Have the node start again with a gap in the log of the largest queue of each virtual host.

    As a full disk leaves it: ``gap_between_snapshot_and_first_index``.
    """
    wait_until_open(vhosts)
    broker.restart()  # which writes all of its write-ahead log to the segments
    wait_until_open(vhosts)
    broker.stop()
    by_size = sorted(
        (
            sorted(each.glob("*.segment"))
            for each in (broker.node.folder / "data").glob("*/quorum/*/*/")
        ),
        key=len,
    )
    for first, *others in by_size[-len(vhosts) :]:
        assert others, "the queue has one segment only"
        first.unlink()
    broker.start()
