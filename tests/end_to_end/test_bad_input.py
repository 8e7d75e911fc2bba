from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from grid import topology
from grid.amqp import Consumer, Delivery, Publisher
from grid.messages import ChargeRequest
from tests.broker import VirtualHost
from tests.system import QUICK, System

pytestmark = pytest.mark.e2e

GOOD = json.loads(ChargeRequest("good", 1.0).encode())
BAD: Mapping[str, bytes] = {
    "not-json": b"\xff{",
    "no-object": b"[1, 2]",
    "no-id": json.dumps({**GOOD, "id": None}).encode(),
    "wrong-version": json.dumps({**GOOD, "version": 2}).encode(),
    "wrong-type": json.dumps({**GOOD, "priority": "high"}).encode(),
    "oversized": b"x" * 100_000,
    "nobody": json.dumps({**GOOD, "id": "nobody", "eligible_substations": ["nowhere"]}).encode(),
}


def ignore(*_: object) -> None:
    """Do nothing."""


async def publish(url: str, messages: Mapping[str, bytes]) -> None:
    """Publish messages to charge.requests, past the api."""
    publisher = Publisher("test", [url], ignore)
    task = asyncio.create_task(publisher.run())
    for name, body in messages.items():
        await publisher.confirmed(
            topology.REQUESTS_EXCHANGE, topology.REQUESTS, body, id=name, timeout=10
        )
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def parked(url: str, count: int) -> dict[str, Delivery]:
    """Read so many messages from charge.parked."""
    found: dict[str, Delivery] = {}
    enough = asyncio.Event()

    def take(delivery: Delivery) -> None:
        found[str(delivery.id)] = delivery
        if len(found) == count:
            enough.set()

    consumer = Consumer("test", [url], ignore, queue=topology.PARKED, prefetch=50)
    task = asyncio.create_task(consumer.run(deliver=take))
    await asyncio.wait_for(enough.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return found


async def test_what_cannot_be_processed_is_parked(vhost: VirtualHost, tmp_path: Path) -> None:
    """Each bad message is parked unchanged, with its reason; good ones are completed."""
    with System(vhost, tmp_path, substations=1, environment=QUICK) as system:
        good = ChargeRequest("direct", 1_700_000_000.0).encode()
        await publish(vhost.url("admin"), {**BAD, "direct": good})
        found = await parked(vhost.url("admin"), len(BAD))
        assert {name: each.body for name, each in found.items()} == BAD
        assert all(each.headers["x-parked-reason"] for each in found.values())
        assert "version is 2" in found["wrong-version"].headers["x-parked-reason"]
        assert "nowhere" in found["nobody"].headers["x-parked-reason"]
        system.wait_completed({"direct"})
        shown = [each for each in system.all_charges() if each["status"] == "parked"]
        assert {each["id"] for each in shown} == set(BAD)
        assert all(each["reason"] for each in shown)
