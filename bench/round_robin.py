"""A relay on ``grid.amqp`` that decides nothing: ``AMQP_URL=… python -m bench.round_robin``.

The same two publishes as ``bench.peers.pika_relay``, through the project's own links: it shows what
those cost beyond bare pika, and what they save. As in the dispatcher, the requests, the jobs and
the events have a link each: RabbitMQ serves a channel by one process. It leaves out what that one
leaves out.
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

from bench.node import SUBSTATIONS
from grid import topology
from grid.amqp import Consumer, Delivery, Outcome, Publisher

WINDOW: Final = 500
MESSAGES: Final = 2  # that a request becomes
GAP_SECONDS: Final = 0.01  # as the dispatcher's


class Relay:
    """A relay that passes requests on; ``consumer``, ``jobs`` and ``events`` are its links."""

    def __init__(self, url: str) -> None:
        self.jobs = Publisher("relay-jobs", [url], _say)
        self.events = Publisher("relay-events", [url], _say)
        self.consumer = Consumer(
            "relay-requests",
            [url],
            _say,
            queue=topology.REQUESTS,
            prefetch=WINDOW,
            gap_seconds=GAP_SECONDS,
        )
        self._turn = cycle(SUBSTATIONS)

    async def run(self) -> None:
        """Relay until the task is cancelled."""
        await asyncio.gather(
            self.jobs.run(),
            self.events.run(),
            self.consumer.run(deliver=self._deliver, lost=_end),
        )

    def _deliver(self, delivery: Delivery) -> None:
        substation, job = next(self._turn), delivery.id or ""
        event = {"kind": "assigned", "at": time.time(), "job": job, "substation": substation}
        content = json.dumps(event, separators=(",", ":")).encode()
        done = partial(_on_confirm, delivery, [])
        self.events.publish(
            topology.EVENTS_EXCHANGE, "dispatcher", content, done, id=f"event-{job}"
        )
        self.jobs.publish(
            topology.SUBSTATIONS_EXCHANGE,
            substation,
            delivery.body,
            done,
            id=job,
            headers=delivery.headers,
        )


def _on_confirm(delivery: Delivery, confirmed: list[Outcome], outcome: Outcome) -> None:
    """Acknowledge a request once both of its messages are confirmed."""
    if outcome is not Outcome.CONFIRMED:
        sys.exit(f"the relay ends: a message was {outcome.value}")
    confirmed.append(outcome)
    if len(confirmed) == MESSAGES:
        delivery.ack()


def _end() -> None:
    sys.exit("the relay ends: the link to RabbitMQ broke")


def _say(name: str, up: bool, why: str) -> None:  # noqa: FBT001
    sys.stdout.write(f"{name}: {'up' if up else 'down'}: {why}\n")
    sys.stdout.flush()


def main() -> None:
    """Relay until the process is ended."""
    asyncio.run(Relay(os.environ["AMQP_URL"]).run())


if __name__ == "__main__":
    main()
