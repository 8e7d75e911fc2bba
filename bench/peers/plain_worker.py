"""A worker on aio-pika that sleeps and acknowledges: ``python -m bench.peers.plain_worker``.

Its variables are ``AMQP_URL``, ``SUBSTATION_ID``, ``CONNECTORS`` and ``CHARGE_SECONDS``. When it is
ended, it writes when each job began into the file ``BEGAN``, a line of JSON each.

It leaves out: events, metrics, recognising a second copy of a job, its own limit on sessions (the
prefetch is one), power, departures, and finishing its sessions before it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from grid import messages, topology


async def main() -> None:
    """Work until the process is told to end."""
    seconds = float(os.environ["CHARGE_SECONDS"])
    began: list[tuple[str, float]] = []
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    async def charge(job: AbstractIncomingMessage) -> None:
        async with job.process():
            request = messages.decode(job.body)
            began.append((request.id, time.time()))
            await asyncio.sleep(seconds)

    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=int(os.environ["CONNECTORS"]))
        name = topology.substation_queue(os.environ["SUBSTATION_ID"]).name
        queue = await channel.get_queue(name, ensure=False)
        await queue.consume(charge)
        await ended.wait()
    lines = "".join(f"{json.dumps(each)}\n" for each in began)
    await asyncio.to_thread(Path(os.environ["BEGAN"]).write_text, lines)


if __name__ == "__main__":
    asyncio.run(main())
