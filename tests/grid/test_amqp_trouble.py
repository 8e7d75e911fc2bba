"""RabbitMQ in trouble: killed with messages in flight, and under a memory alarm."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from deploy.local.rabbitmq import SCRIPT
from grid import provenance, topology
from grid.amqp import Outcome, Publisher
from grid.errors import BrokerUnavailable
from grid.event_log import EventWriter
from grid.events import Event, State, decode
from tests.broker import DECLARED_FOR_GOOD_SECONDS, Broker, VirtualHost
from tests.grid.links import (
    POLL_SECONDS,
    TIMEOUT,
    Listener,
    Recorder,
    Seen,
    eventually,
    running,
)

pytestmark = pytest.mark.integration

REQUESTS = (topology.REQUESTS_EXCHANGE, topology.REQUESTS)
IN_FLIGHT = 300


class Flood:
    """A sender as fast as its confirms, with many messages in flight, until told to stop."""

    def __init__(self, send: Callable[[str, Callable[[object], None]], object]) -> None:
        self._send = send
        self.answers: dict[str, list[object]] = {}
        self._answered = 0
        self.going = True

    @property
    def in_flight(self) -> int:
        """Return how many messages have no outcome yet."""
        return len(self.answers) - self._answered

    async def run(self) -> None:
        """Send."""
        while self.going:
            while self.in_flight < IN_FLIGHT:
                name = f"job-{len(self.answers)}"
                self.answers[name] = []
                self._send(name, partial(self._note, name))
            await asyncio.sleep(0.001)

    def _note(self, name: str, answer: object) -> None:
        self._answered += 1
        self.answers[name].append(answer)


async def test_messages_in_flight_survive_a_killed_broker(
    broker: Broker, vhost: VirtualHost
) -> None:
    """Killed with hundreds of messages in flight: each is answered once, and each arrives."""
    seen = Seen()
    jobs = Publisher("jobs", [vhost.url()], seen)
    log = Publisher("log", [vhost.url()], seen)
    writer = EventWriter(log, "test", provenance.API)
    recorder = Recorder(vhost.url("dispatcher"), topology.REQUESTS, ack=False, prefetch=50)
    reader = Listener(vhost.url("api"), topology.EVENTS, "first")
    published = Flood(lambda name, done: jobs.publish(*REQUESTS, b"", done, id=name))
    written = Flood(lambda name, done: writer.write(Event(State.QUEUED, 1, job=name), done))
    async with running(jobs), running(log), recorder.running(), reader.running():
        await asyncio.sleep(DECLARED_FOR_GOOD_SECONDS)
        floods = [asyncio.create_task(each.run()) for each in (published, written)]
        await eventually(
            lambda: min(len(published.answers), len(written.answers)) > 5 * IN_FLIGHT,
            "it is in full swing",
        )
        await asyncio.to_thread(broker.kill)
        await eventually(lambda: not (jobs.connected or log.connected), "the loss is noticed")
        published.going = written.going = False
        await asyncio.gather(*floods)
        await asyncio.to_thread(broker.start)
        await eventually(lambda: published.in_flight == written.in_flight == 0, "all is answered")
        assert set(map(tuple, published.answers.values())) == {(Outcome.CONFIRMED,)}
        assert set(map(tuple, written.answers.values())) == {(True,)}
        await eventually(lambda: jobs_of(reader.bodies) == set(written.answers), "all is read")
        assert recorder.forgotten_after[0] == 50
    everything = Recorder(vhost.url("dispatcher"), topology.REQUESTS)
    async with everything.running():
        await eventually(lambda: set(everything.ids) == set(published.answers), "all arrives")


def jobs_of(bodies: list[bytes]) -> set[str]:
    """Return the jobs named in messages of the event log."""
    return {event.job for body in bodies for event in decode(body)}


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


async def test_resource_alarm_blocks_publishers_and_not_consumers(
    broker: Broker, vhost: VirtualHost
) -> None:
    """Under an alarm publishers wait and show it, consumers go on, and afterwards all is sent."""
    seen = Seen()
    recorder = Recorder(vhost.url("dispatcher"), topology.REQUESTS, ack=False)
    publisher = Publisher("publisher", [vhost.url()], seen)
    answers: list[Outcome] = []
    alarm = memory_alarm(broker)
    async with running(publisher), recorder.running():
        await publisher.confirmed(*REQUESTS, b"", id="before", timeout=10)
        await eventually(lambda: recorder.ids == ["before"], "a job is taken")
        await asyncio.to_thread(alarm.__enter__)
        try:
            async with asyncio.timeout(TIMEOUT):
                # RabbitMQ blocks a connection, and says so, only once it publishes
                while not publisher.blocked:
                    publisher.publish(*REQUESTS, b"", lambda _: None, id="last")
                    await asyncio.sleep(POLL_SECONDS)
            publisher.publish(*REQUESTS, b"", answers.append, id="under")
            with pytest.raises(BrokerUnavailable, match="not confirmed given-up"):
                await publisher.confirmed(*REQUESTS, b"", id="given-up", timeout=0.1)
            assert answers == []
            recorder.deliveries[0].requeue()
            await eventually(lambda: recorder.ids.count("before") == 2, "consuming goes on")
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
