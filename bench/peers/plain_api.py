"""``POST /charge`` on FastAPI and aio-pika: ``AMQP_URL=… PORT=… python -m bench.peers.plain_api``.

A request is checked by the project's own model, published to the quorum queue with a confirm, and
answered in the same shape.

It leaves out: the event log and all that is read from it (states, decisions, lists), keys, rate
limits, limits of bodies and connections, idempotency, problem documents, traces, metrics, and an
answer for the case that RabbitMQ is away.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import aio_pika
import uvicorn
from aio_pika.abc import AbstractExchange
from fastapi import FastAPI

from api.schemas import ChargeIn
from bench.peers.answers import Accepted, Details
from grid import topology
from grid.events import State

CONFIRM_SECONDS = 5


def create(url: str) -> FastAPI:
    """Return the app, which is connected while its lifespan lasts."""
    exchanges: list[AbstractExchange] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        connection = await aio_pika.connect_robust(url)
        async with connection:
            channel = await connection.channel(publisher_confirms=True)
            exchanges.append(await channel.get_exchange(topology.REQUESTS_EXCHANGE, ensure=False))
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/charge", status_code=202)
    async def charge(wanted: ChargeIn) -> Accepted:
        request = wanted.request(uuid4().hex, time.time(), wanted.tenant)
        message = aio_pika.Message(
            request.encode(),
            message_id=request.id,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await exchanges[0].publish(message, topology.REQUESTS, timeout=CONFIRM_SECONDS)
        return Accepted(
            id=request.id,
            status=State.QUEUED,
            details=Details(routed_to=None, loads={}, reason=None),
        )

    return app


if __name__ == "__main__":
    uvicorn.run(
        create(os.environ["AMQP_URL"]),
        port=int(os.environ["PORT"]),
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
    )
