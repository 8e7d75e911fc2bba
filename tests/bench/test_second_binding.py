"""What a second binding does to promises: why a request is not its own event (decision 44)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from urllib.parse import quote

import pytest

from bench.node import RabbitMQ, VirtualHost
from bench.queues import Bound, up
from grid import topology
from grid.amqp import Outcome, Publisher, StreamReader, settle

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
LAST = b"last"


@pytest.fixture
def vhost(node: RabbitMQ) -> Iterator[VirtualHost]:
    """Make a virtual host in which requests are routed to the event log as well."""
    with node.vhost() as made:
        path = quote(made.name, safe="")
        node.request(
            "POST",
            f"/api/bindings/{path}/e/{topology.REQUESTS_EXCHANGE}/q/{topology.EVENTS}",
            {"routing_key": topology.REQUESTS},
        )
        yield made


async def test_second_binding_confirms_a_request_whose_queue_is_gone(vhost: VirtualHost) -> None:
    """``mandatory`` returns only what finds no queue at all, and the log is one."""
    _delete(vhost, topology.REQUESTS)
    assert await _published(vhost, 1) == [Outcome.CONFIRMED]
    assert await _logged(vhost) == [b"0"]


async def test_second_binding_logs_a_request_that_its_queue_refused(vhost: VirtualHost) -> None:
    """A client that is answered 503 would have its request charged all the same."""
    _delete(vhost, topology.REQUESTS)
    _make(vhost, {**topology.REQUESTS_QUEUE.arguments, "x-max-length": 1})
    outcomes = await _published(vhost, 10)
    assert Outcome.REFUSED in outcomes
    assert await _logged(vhost) == [str(each).encode() for each in range(10)]


async def test_second_binding_confirms_a_request_when_the_log_is_gone(vhost: VirtualHost) -> None:
    """It would have no event, and nobody would know."""
    _delete(vhost, topology.EVENTS)
    assert await _published(vhost, 1) == [Outcome.CONFIRMED]


def _delete(vhost: VirtualHost, queue: str) -> None:
    vhost.broker.request("DELETE", f"/api/queues/{quote(vhost.name, safe='')}/{queue}")


def _make(vhost: VirtualHost, arguments: dict[str, object]) -> None:
    path = quote(vhost.name, safe="")
    vhost.broker.request(
        "PUT",
        f"/api/queues/{path}/{topology.REQUESTS}",
        {"durable": True, "auto_delete": False, "arguments": arguments},
    )
    vhost.broker.request(
        "POST",
        f"/api/bindings/{path}/e/{topology.REQUESTS_EXCHANGE}/q/{topology.REQUESTS}",
        {"routing_key": topology.REQUESTS},
    )


async def _published(vhost: VirtualHost, number: int) -> list[Outcome]:
    """Publish requests one after the other, and return the answers."""
    publisher = Publisher("second-binding", [vhost.url()], _ignore)
    outcomes: list[Outcome] = []
    async with up(publisher):
        for each in range(number):
            publisher.publish(
                topology.REQUESTS_EXCHANGE,
                topology.REQUESTS,
                str(each).encode(),
                outcomes.append,
                id=str(each),
            )
            await publisher.drained()
    return outcomes


async def _logged(vhost: VirtualHost) -> list[bytes]:
    """Return what is in the event log, up to a message that is written now."""
    bodies: list[bytes] = []
    ended = asyncio.get_running_loop().create_future()

    def read(body: bytes, _: str) -> None:
        if body == LAST:
            settle(ended, None)
        else:
            bodies.append(body)

    reader = StreamReader("second-binding-log", [vhost.url()], _ignore, queue=topology.EVENTS)
    publisher = Publisher("second-binding-last", [vhost.url()], _ignore)
    async with up(Bound(reader.up, partial(reader.run, read=read)), publisher):
        publisher.publish(topology.EVENTS_EXCHANGE, "admin", LAST, _ignore_outcome, id="last")
        await ended
    return bodies


def _ignore(_name: str, _up: bool, _why: str) -> None:  # noqa: FBT001
    """Ignore a link that goes up and down."""


def _ignore_outcome(_: Outcome) -> None:
    """Ignore it: the message is read."""
