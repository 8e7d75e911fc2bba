"""Straight to RabbitMQ: a real node, the load test's own user, no api."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import quote

import pytest

from grid import amqp, topology
from grid.errors import BrokerUnavailable
from grid.messages import decode
from load_test.publisher import AmqpPublisher, Clock, Sender, connected
from tests.broker import VirtualHost
from tests.grid.links import properties

pytestmark = pytest.mark.integration
CLOCK = Clock(time.monotonic, time.time, asyncio.sleep)


async def taken(vhost: VirtualHost) -> amqp.Delivery:
    """Return the first message in ``charge.requests``."""
    arrived: asyncio.Queue[amqp.Delivery] = asyncio.Queue()
    consumer = amqp.Consumer(
        "test",
        (vhost.url("dispatcher"),),
        lambda *_: None,
        queue=topology.REQUESTS,
        prefetch=1,
    )
    running = asyncio.create_task(consumer.run(deliver=arrived.put_nowait))
    try:
        return await asyncio.wait_for(arrived.get(), 10)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_publisher_reports_accepted_only_for_a_request_in_the_queue(
    vhost: VirtualHost,
) -> None:
    """A request that counts as accepted is in the queue, whole, with the id that was chosen."""
    async with connected((vhost.url("load_test"),)) as link:
        send = Sender(AmqpPublisher(link, CLOCK), lambda: "one", CLOCK)
        answer = await send.send({"vehicle_id": "EV-1"}, CLOCK.steady())
    assert (answer.job, answer.retries, answer.routed_to) == ("one", 0, None)
    message = await taken(vhost)
    request = decode(message.body)
    assert message.id == request.id == "one"
    assert request.vehicle_id == "EV-1"


async def test_publisher_sends_the_priority_as_a_property(vhost: VirtualHost) -> None:
    """RabbitMQ gets the priority as a property, without reading the body."""
    async with connected((vhost.url("load_test"),)) as link:
        send = Sender(AmqpPublisher(link, CLOCK), lambda: "one", CLOCK)
        await send.send({"priority": 7}, CLOCK.steady())
    (found,) = await asyncio.to_thread(properties, vhost.url("dispatcher"), topology.REQUESTS, 1)
    assert found.priority == 7


async def test_publisher_reports_a_returned_request_as_refused(vhost: VirtualHost) -> None:
    """RabbitMQ returns a message that no queue takes; the reason is reported."""
    path = f"/api/queues/{quote(vhost.name)}/{topology.REQUESTS}"
    await asyncio.to_thread(vhost.broker.request, "DELETE", path)
    async with connected((vhost.url("load_test"),)) as link:
        send = Sender(AmqpPublisher(link, CLOCK), lambda: "one", CLOCK, retry_timeout=0.2)
        answer = await send.send({}, CLOCK.steady())
    assert answer.job is None
    assert "unroutable" in answer.reason


async def test_publisher_reports_a_wrong_password_before_the_run(
    vhost: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that could not send anything does not begin, and names what to check."""
    monkeypatch.setattr("load_test.publisher._CONNECT_SECONDS", 1)
    wrong = vhost.url("load_test").replace("load_test:", "load_test:not-")
    with pytest.raises(BrokerUnavailable, match="AMQP_PASSWORD_FILE"):
        async with connected((wrong,)):
            pytest.fail("connected with a wrong password")
