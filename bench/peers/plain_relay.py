"""A relay on aio-pika: ``AMQP_URL=… python -m bench.peers.plain_relay``.

It passes requests on to three queues in turn, with confirms, and acknowledges each after that.

It leaves out: any decision, reading a request, the event log, recognising a job that was sent
before, the wait queue, metrics, traces and an explanation.
"""

from __future__ import annotations

import asyncio
import os
from itertools import cycle
from typing import Final

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from bench.node import SUBSTATIONS
from grid import topology

WINDOW: Final = 500


async def main() -> None:
    """Relay until the process is ended."""
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.set_qos(prefetch_count=WINDOW)
        exchange = await channel.get_exchange(topology.SUBSTATIONS_EXCHANGE, ensure=False)
        requests = await channel.get_queue(topology.REQUESTS, ensure=False)
        turn = cycle(SUBSTATIONS)

        async def relay(request: AbstractIncomingMessage) -> None:
            async with request.process():
                job = aio_pika.Message(
                    request.body,
                    message_id=request.message_id,
                    headers=request.headers,
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                )
                await exchange.publish(job, next(turn))

        await requests.consume(relay)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
