"""A long event log and many requests that wait, written past the api, for which it takes long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from time import time
from typing import Any, Final
from uuid import uuid4

from grid import events, provenance, topology
from grid.amqp import Outcome, Publisher
from grid.events import Event, State
from grid.messages import ChargeRequest

JOBS_A_MESSAGE: Final = 100
SUBSTATION: Final = "substation1"
_DECISION: Final[dict[str, Any]] = {
    "policy": "least-loaded",
    "reason": "lowest utilisation after placing it: 0.25, drawn among 3",
    "candidates": [
        {
            "substation": f"substation{number}", "load": 3.0, "connectors": 50.0,
            "utilisation": 0.06, "gauge": 3.0, "gauge_age_seconds": 0.21, "outstanding": 0.0,
            "power_kw": 22.2, "rated_power_kw": 600.0, "state": "available", "limit": None,
            "eligible": True, "reason": None,
        }
        for number in (1, 2, 3)
    ],
}  # fmt: skip


async def write_past(urls: list[str], jobs: int) -> None:
    """Write what happened to so many jobs that have ended."""
    async with _publisher(urls) as publish:
        for some in _split(jobs):
            ids = [uuid4().hex for _ in range(some)]
            at = time() - 60
            requests = [ChargeRequest(job, at) for job in ids]
            await publish.events(provenance.API, map(_queued, requests))
            decided = {"requested_at": at, **_DECISION}
            await publish.events(
                provenance.DISPATCHER,
                (Event(State.ASSIGNED, at, job, SUBSTATION, 1, detail=decided) for job in ids),
            )
            await publish.events(
                provenance.substation_writer(SUBSTATION),
                (
                    Event(kind, at + 1, job, SUBSTATION, 1)
                    for job in ids
                    for kind in (State.CHARGING, State.COMPLETED)
                ),
            )


async def write_waiting(urls: list[str], jobs: int) -> None:
    """Publish so many requests, with their records."""
    async with _publisher(urls) as publish:
        for some in _split(jobs):
            requests = [ChargeRequest(uuid4().hex, time()) for _ in range(some)]
            await asyncio.gather(*map(publish.request, requests))
            await publish.events(provenance.API, map(_queued, requests))


def _queued(request: ChargeRequest) -> Event:
    return Event(State.QUEUED, request.requested_at, request.id, detail=request.fields())


def _split(jobs: int) -> Iterator[int]:
    for first in range(0, jobs, JOBS_A_MESSAGE):
        yield min(JOBS_A_MESSAGE, jobs - first)


class _Publishing:
    """Publishes, and waits until RabbitMQ has it."""

    def __init__(self, link: Publisher) -> None:
        self._link = link

    async def request(self, request: ChargeRequest) -> None:
        """Publish a request."""
        await self._publish(
            topology.REQUESTS_EXCHANGE, topology.REQUESTS, request.encode(), request.id
        )

    async def events(self, writer: str, several: Iterable[Event]) -> None:
        """Publish events as a writer of them."""
        body = events.encode(several)
        await self._publish(topology.EVENTS_EXCHANGE, writer, body, uuid4().hex)

    async def _publish(self, exchange: str, key: str, body: bytes, id: str) -> None:
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._link.publish(exchange, key, body, answer.set_result, id=id)
        assert await answer is Outcome.CONFIRMED


@asynccontextmanager
async def _publisher(urls: list[str]) -> AsyncIterator[_Publishing]:
    """Run a link that publishes while the context lasts."""
    link = Publisher("backlog", urls, lambda *_: None)
    task = asyncio.create_task(link.run())
    try:
        await link.up.wait()
        yield _Publishing(link)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
