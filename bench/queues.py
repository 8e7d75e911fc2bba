"""Filling queues before a measurement, and reading their length during one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, Protocol

from bench.node import SUBSTATIONS
from bench.processes import NotMeasured
from grid import topology
from grid.amqp import Declarer, Outcome, Publisher
from grid.messages import ChargeRequest

WINDOW: Final = 2000  # messages without a confirm
UP_SECONDS: Final = 20.0
AT: Final = 1_790_000_000.0
# as the api sends it where its caller has not asked for a request to be recorded: a job whose flag
# is 01 is a line in the log of each service
TRACE: Final = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}


class Message(NamedTuple):
    """A message to publish."""

    exchange: str
    key: str
    id: str
    body: bytes


def requests(number: int) -> Iterable[Message]:
    """Return so many charge requests, as the api publishes them."""
    for each in range(number):
        request = ChargeRequest(
            f"{each:032x}", AT, vehicle_id=f"EV-{each}", requested_energy_kwh=40.5
        )
        yield Message(topology.REQUESTS_EXCHANGE, topology.REQUESTS, request.id, request.encode())


def jobs(substation: str, number: int) -> Iterable[Message]:
    """Return so many jobs, as the dispatcher sends them to a substation."""
    for each in requests(number):
        yield each._replace(exchange=topology.SUBSTATIONS_EXCHANGE, key=substation)


class Bound(NamedTuple):
    """A link with its callbacks: its ``run``, to be called without arguments."""

    up: asyncio.Event
    run: Callable[[], Coroutine[Any, Any, None]]


class Runs(Protocol):
    """A link that is up from some time on while it runs."""

    @property
    def up(self) -> asyncio.Event:
        """Return an event that is set while it is up."""

    async def run(self) -> None:
        """Run until the task is cancelled."""


@asynccontextmanager
async def up(*links: Runs) -> AsyncIterator[None]:
    """Keep links up while the context lasts."""
    tasks = [asyncio.create_task(each.run()) for each in links]
    try:
        async with asyncio.timeout(UP_SECONDS):
            for each in links:
                await each.up.wait()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def fill(url: str, messages: Iterable[Message]) -> None:
    """Publish messages, and wait until RabbitMQ has confirmed them all."""
    publisher = Publisher("bench-fill", [url], _ignore)
    refused: list[Outcome] = []

    def done(outcome: Outcome) -> None:
        if outcome is not Outcome.CONFIRMED:
            refused.append(outcome)

    async with up(publisher):
        for number, each in enumerate(messages):
            publisher.publish(each.exchange, each.key, each.body, done, id=each.id, headers=TRACE)
            if number % 100 == 0:
                await asyncio.sleep(0)
                while publisher.backlog > WINDOW:  # noqa: ASYNC110 - it has no event for that
                    await asyncio.sleep(0.001)
        await publisher.drained()
    if refused:
        raise NotMeasured(f"RabbitMQ did not take {len(refused)} messages: {refused[0].value}")


async def ready(declarer: Declarer) -> int:
    """Return how many requests and jobs are ready."""
    queues = [topology.REQUESTS_QUEUE, *map(topology.substation_queue, SUBSTATIONS)]
    return sum([(await declarer.queue(each)).ready for each in queues])


def _ignore(_name: str, _up: bool, _why: str) -> None:  # noqa: FBT001
    """Ignore a link that goes up and down."""
