"""A relay on ``grid.amqp`` that decides nothing: ``AMQP_URL=… python -m bench.round_robin``.

The same two publishes as ``bench.peers.pika_relay``, through the project's own links: what they
cost beyond bare pika, and what they save. It leaves out what that one does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from functools import partial
from itertools import cycle
from typing import Final

from bench.low_water import LowWater
from bench.node import SUBSTATIONS
from grid import topology
from grid.amqp import Consumer, Delivery, Outcome, Publisher

WINDOW: Final = 500


class Relay:
    """Passes requests on; ``consumer`` and ``publisher`` are its links."""

    def __init__(self, url: str) -> None:
        self.publisher = Publisher("relay-jobs", [url], _say)
        self.consumer = Consumer(
            "relay-requests",
            [url],
            _say,
            queue=topology.REQUESTS,
            prefetch=WINDOW,
            deliver=self._deliver,
            forget=lambda: sys.exit("the relay ends: the link to RabbitMQ broke"),
        )
        self._turn = cycle(SUBSTATIONS)
        self._low_water = LowWater(2)
        self._acknowledged = 0
        self._due = False

    async def run(self) -> None:
        """Relay until the task is cancelled."""
        await asyncio.gather(self.publisher.run(), self.consumer.run())

    def _deliver(self, delivery: Delivery) -> None:
        substation, job, tag = next(self._turn), delivery.id or "", delivery.tag
        self._low_water.begin(tag)
        event = {"kind": "assigned", "at": time.time(), "job": job, "substation": substation}
        content = json.dumps(event, separators=(",", ":")).encode()
        done = partial(self._on_confirm, tag)
        publish = self.publisher.publish
        publish(topology.EVENTS_EXCHANGE, "dispatcher", content, done, id=f"event-{job}")
        publish(
            topology.SUBSTATIONS_EXCHANGE,
            substation,
            delivery.body,
            done,
            id=job,
            headers=delivery.headers,
        )

    def _on_confirm(self, tag: int, outcome: Outcome) -> None:
        if outcome is not Outcome.CONFIRMED:
            sys.exit(f"the relay ends: a message was {outcome.value}")
        self._low_water.part_done(tag)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._acknowledge)

    def _acknowledge(self) -> None:
        self._due = False
        if self._low_water.done > self._acknowledged:
            self._acknowledged = self._low_water.done
            self.consumer.ack(self._acknowledged, multiple=True)


def _say(name: str, up: bool, why: str) -> None:  # noqa: FBT001
    sys.stdout.write(f"{name}: {'up' if up else 'down'}: {why}\n")
    sys.stdout.flush()


def main() -> None:
    """Relay until the process is ended."""
    asyncio.run(Relay(os.environ["AMQP_URL"]).run())


if __name__ == "__main__":
    main()
