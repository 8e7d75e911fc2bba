"""RabbitMQ in trouble: killed with messages on their way, and under a memory alarm."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.local.rabbitmq import SCRIPT
from grid import topology
from grid.amqp import Outcome, Publisher
from grid.errors import BrokerUnavailable
from tests.broker import DECLARED_FOR_GOOD_SECONDS, Broker, VirtualHost
from tests.grid.links import Listener, Seen, Taker, eventually, running

pytestmark = pytest.mark.integration

REQUESTS = (topology.REQUESTS, topology.REQUESTS)
EVENTS = (topology.EVENTS, topology.EVENTS)
IN_FLIGHT = 300


class Flood:
    """Publishes as fast as RabbitMQ answers, with many messages in flight, until told to stop."""

    def __init__(self, publisher: Publisher, where: tuple[str, str]) -> None:
        self._publisher = publisher
        self._where = where
        self.answers: dict[str, list[Outcome]] = {}
        self.going = True

    async def run(self) -> None:
        """Publish."""
        while self.going:
            while self._publisher.backlog < IN_FLIGHT:
                self._publish()
            await asyncio.sleep(0.001)

    @property
    def sent(self) -> set[str]:
        """The ids of what was published."""
        return set(self.answers)

    def _publish(self) -> None:
        name = str(len(self.answers))
        answers = self.answers[name] = []
        self._publisher.publish(*self._where, name.encode(), answers.append, id=name)


async def test_a_broker_that_is_killed_loses_nothing(broker: Broker, vhost: VirtualHost) -> None:
    """Killed with hundreds of messages in flight: each is answered once, and each arrives."""
    seen = Seen()
    jobs = Publisher("jobs", [vhost.url()], seen)
    log = Publisher("log", [vhost.url()], seen)
    taker = Taker(vhost.url("dispatcher"), topology.REQUESTS, ack=False, prefetch=50)
    reader = Listener(vhost.url("api"), topology.EVENTS, "first")
    floods = [Flood(jobs, REQUESTS), Flood(log, EVENTS)]
    async with running(jobs), running(log), running(taker.link), running(reader.link):
        await asyncio.sleep(DECLARED_FOR_GOOD_SECONDS)
        running_floods = [asyncio.create_task(each.run()) for each in floods]
        await eventually(lambda: len(reader.bodies) > 1_000, "it is in full swing")
        await asyncio.to_thread(broker.kill)
        await eventually(lambda: not (jobs.connected or log.connected), "the loss is noticed")
        for each in floods:
            each.going = False
        await asyncio.gather(*running_floods)
        assert jobs.backlog >= IN_FLIGHT
        assert log.backlog >= IN_FLIGHT
        await asyncio.to_thread(broker.start)
        await asyncio.wait_for(asyncio.gather(jobs.drained(), log.drained()), 60)
        for each in floods:
            assert all(answers == [Outcome.CONFIRMED] for answers in each.answers.values())
        last = set(map(str.encode, floods[1].sent))
        await eventually(lambda: set(reader.bodies) == last, "every event is read")
        assert taker.forgotten_after == [50]
    everything = Taker(vhost.url("dispatcher"), topology.REQUESTS)
    async with running(everything.link):
        await eventually(lambda: set(everything.ids) == floods[0].sent, "every job arrives")


@contextmanager
def memory_alarm(broker: Broker) -> Iterator[None]:
    """Put the node under a memory alarm."""

    def limit(*words: str) -> None:
        command = [str(SCRIPT.with_name("rabbitmqctl")), "-n", "grid@localhost"]
        environment = {"PATH": os.environ["PATH"], **broker.node.environment()}
        subprocess.run(  # noqa: S603
            [*command, "set_vm_memory_high_watermark", *words],
            env=environment,
            check=True,
            capture_output=True,
        )

    limit("absolute", "1")
    try:
        yield
    finally:
        limit("0.4")


async def test_an_alarm_stops_publishing_only(broker: Broker, vhost: VirtualHost) -> None:
    """Under an alarm publishers wait and show it, consumers go on, and afterwards all is sent."""
    seen = Seen()
    taker = Taker(vhost.url("dispatcher"), topology.REQUESTS, ack=False)
    publisher = Publisher("publisher", [vhost.url()], seen)
    answers: list[Outcome] = []
    alarm = memory_alarm(broker)
    async with running(publisher), running(taker.link):
        await publisher.confirmed(*REQUESTS, b"", id="before", timeout=10)
        await eventually(lambda: taker.ids == ["before"], "a job is taken")
        await asyncio.to_thread(alarm.__enter__)
        try:
            # it blocks a connection only once that publishes
            publisher.publish(*REQUESTS, b"", lambda _: None, id="last")
            await eventually(lambda: publisher.blocked, "RabbitMQ says that it blocks")
            publisher.publish(*REQUESTS, b"", answers.append, id="under")
            with pytest.raises(BrokerUnavailable, match="not confirmed given-up"):
                await publisher.confirmed(*REQUESTS, b"", id="given-up", timeout=0.1)
            assert answers == []
            taker.link.requeue(taker.deliveries[0].tag)
            await eventually(lambda: taker.ids.count("before") == 2, "consuming goes on")
            assert publisher.connected
        finally:
            await asyncio.to_thread(alarm.__exit__, None, None, None)
        await asyncio.wait_for(publisher.drained(), 10)
        assert answers == [Outcome.CONFIRMED]
        assert not publisher.blocked
    assert seen.calls == [
        ("publisher", True, "connected"),
        ("publisher", True, "RabbitMQ blocks publishers"),
        ("publisher", True, "connected"),
    ]
