"""The api under uvicorn on a free port, with RabbitMQ scripted."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, NamedTuple

import aiohttp
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api import app
from api.intake import Intake
from api.log import EventLog
from api.projection import Projection
from api.telemetry import JobsCollector, Metrics
from deploy.local.ports import HOST
from grid import events
from grid.amqp import Outcome
from grid.event_log import EventWriter
from grid.events import MARKER, Event
from tests.fake_broker import FakePublisher

AT = 1_767_225_600.0  # 2026-01-01T00:00:00Z
PROBLEM = "application/problem+json"


class Answer(NamedTuple):
    """An answer over HTTP; ``body`` is its JSON, or its text."""

    status: int
    headers: dict[str, str]
    body: Any


class Bench:
    """An api that works; its clock stands still at ``AT``, its ids count up."""

    def __init__(self, *, decision_wait: float = 0, confirm_timeout: float = 5) -> None:
        self.publisher = FakePublisher(
            charge_requests=Outcome.CONFIRMED, charge_events=Outcome.CONFIRMED
        )
        self.registry = CollectorRegistry()
        self.problems: list[str] = []
        metrics = Metrics(self.registry)
        self.projection = Projection(1_000)
        self.registry.register(JobsCollector(self.projection))
        writer = EventWriter(self.publisher, "test")
        self.log = EventLog(self.projection, writer, metrics, lambda: AT)
        self.log.caught_up.set()
        ids = count(1)
        intake = Intake(
            self.publisher,
            self.log,
            confirm_timeout,
            clock=lambda: AT,
            new_id=lambda: f"job{next(ids)}",
        )
        self.app = app.create(
            intake,
            self.log,
            self.projection,
            metrics,
            self.registry,
            decision_wait=decision_wait,
            not_ready=lambda: self.problems,
            lifespan=_no_lifespan,
        )
        self.port = 0
        self._client: aiohttp.ClientSession

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Bench]:
        """Serve on a free port for as long as the context lasts."""
        with socket.create_server((HOST, 0)) as listening:
            self.port = listening.getsockname()[1]
            server = uvicorn.Server(uvicorn.Config(self.app, log_config=None, server_header=False))
            task = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                async with aiohttp.ClientSession(f"http://{HOST}:{self.port}") as self._client:
                    yield self
            finally:
                server.should_exit = True
                await task

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        data: Any = None,  # noqa: ANN401  # whatever aiohttp can send
    ) -> Answer:
        """Send a request: ``body`` as JSON, or ``data`` as it is."""
        sent = {"Content-Type": "application/json"} if body is not None or data is not None else {}
        skip = ["Content-Type"] if data is not None and headers == {} else None
        async with self._client.request(
            method,
            path,
            data=json.dumps(body) if body is not None else data,
            headers=(sent | headers)
            if headers is not None and skip is None
            else sent
            if not skip
            else {},
            skip_auto_headers=skip,
            allow_redirects=False,
        ) as answer:
            text = await answer.text()
            kind = answer.headers.get("Content-Type", "")
            return Answer(
                answer.status,
                dict(answer.headers),
                json.loads(text) if "json" in kind and text else text,
            )

    async def post(self, body: object = None, path: str = "/charge", **headers: str) -> Answer:
        """Ask for a charge; no body where ``body`` is None."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("POST", path, body, headers=named or None)

    async def get(self, path: str) -> Answer:
        """Get a page."""
        return await self.ask("GET", path)

    def hear(self, *found: Event) -> None:
        """Have events arrive from the stream."""
        self.log.read(events.encode(found))

    def count(self, name: str, **labels: str) -> float:
        """Give a metric's value."""
        return self.registry.get_sample_value(f"api_{name}", labels) or 0.0


def marker() -> Event:
    """Give a mark that some reader has set."""
    return Event(MARKER, AT, "mark")


@asynccontextmanager
async def _no_lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
