"""The api under uvicorn on a free port, with RabbitMQ scripted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from random import Random
from typing import Any, NamedTuple, cast

import aiohttp
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from uvicorn.server import ServerState

from api import app
from api.auth import ApiKeys, Authenticator, RateLimit
from api.canceller import Canceller
from api.firing import Observed
from api.intake import Intake
from api.jobs.event_log import EventLog
from api.jobs.feed import Feed
from api.jobs.projection import Projection
from api.metrics import JobsCollector, Metrics
from api.parked import ParkedJobs
from api.view import View
from deploy.local.ports import HOST
from grid import events, provenance, topology
from grid.amqp import Delivery, Outcome, Publication
from grid.connection_limits import Limits
from grid.connections import http_protocol
from grid.control_log import ControlLog
from grid.errors import BrokerUnavailable
from grid.event_log import EventWriter
from grid.events import Event, State
from grid.isolation import Isolation
from grid.parked.queue import ParkedMessage, ParkedQueue
from grid.parking import Parked
from grid.trace import Sampler, Span
from tests.fake_broker import FakePublisher

AT = 1_767_225_600.0  # 2026-01-01T00:00:00Z
PROBLEM = "application/problem+json"
JSON = ("Content-Type", "application/json")
REQUESTS = topology.REQUESTS
CONNECTIONS = Limits(total=1_000, per_address=1_000, waiting=100, accepted_at_once=100)
FULL = {
    "vehicle_id": "bus-7",
    "requested_energy_kwh": 40.5,
    "requested_power_kw": 22,
    "departure_time": "2026-06-01T08:00:00+02:00",
    "priority": 9,
    "eligible_substations": ["s1", "s2"],
    "tenant": "depot-7",
    "max_wait_seconds": 1800,
    "earliest_start": "2026-06-01T01:00:00+02:00",
    "reserve": True,
}


class Answer(NamedTuple):
    """An answer over HTTP; ``body`` is its JSON, or its text."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Controls(FakePublisher):
    """A publisher whose confirmed messages are read back from the stream at once."""

    def __init__(self) -> None:
        super().__init__(charge_controls=Outcome.CONFIRMED)
        self.log = ControlLog(self, "test", lambda *_: None)
        self.log.caught_up.set()

    def _answer_one(self, publication: Publication, outcome: Outcome) -> None:
        super()._answer_one(publication, outcome)
        if outcome is Outcome.CONFIRMED:
            self.log.read(publication.body)


class FakeParkedQueue:
    """Parked messages, and what is done with them."""

    def __init__(self) -> None:
        self.parked: list[Parked] = []
        self.done: list[tuple[str, str]] = []
        self.is_away = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Do nothing, unless RabbitMQ is away."""
        if self.is_away:
            raise BrokerUnavailable("RabbitMQ gave no connection in 15 s")
        yield

    async def messages(self) -> AsyncIterator[ParkedMessage]:
        """Yield what is parked."""
        for each in self.parked:
            yield ParkedMessage(cast(Delivery, None), each)

    async def replay(self, message: ParkedMessage) -> None:
        """Record a replay."""
        self.done.append((message.parked.id, "replayed"))

    async def discard(self, message: ParkedMessage, why: str) -> None:
        """Record a discard."""
        self.done.append((message.parked.id, why))


class Bench:
    """A running api: its clocks stand still at ``at`` and ``now``, its ids count up."""

    def __init__(
        self,
        *,
        decision_wait: float = 0,
        confirm_timeout: float = 5,
        keys: ApiKeys | None = None,
        closed: bool = False,
        rate: float | None = None,
        max_jobs: int = 1_000,
        sampler: Sampler | None = None,
        charge_speed: float | None = None,
    ) -> None:
        self.now = 0.0
        self.at = AT
        self.publisher = FakePublisher(
            charge_requests=Outcome.CONFIRMED,
            charge_events=Outcome.CONFIRMED,
            charge_cancellations=Outcome.CONFIRMED,
        )
        self.registry = CollectorRegistry()
        self.spans: list[Span] = []
        self.problems: list[str] = []
        self.degraded: list[str] = []
        metrics = Metrics(self.registry)
        self.projection = Projection(max_jobs, charge_speed=charge_speed)
        self.registry.register(JobsCollector(self.projection))
        writer = EventWriter(self.publisher, "test", provenance.API)
        self.offset = 0  # of the event log
        self.observed = Observed()  # what Prometheus says
        self.feed = Feed(
            self.projection,
            clock=lambda: self.at,
            now=lambda: self.now,
            offset=lambda: self.offset,
            prometheus=lambda: self.observed,
        )
        self.log = EventLog(
            self.projection,
            writer,
            metrics,
            lambda: self.at,
            Isolation(self.registry),
            feed=self.feed,
        )
        self.log.caught_up.set()
        self.controls = Controls()
        self.parked = FakeParkedQueue()
        ids = count(1)
        self.intake = Intake(
            self.publisher,
            self.log,
            confirm_timeout,
            clock=lambda: self.at,
            new_id=lambda: f"job{next(ids)}",
            reason_never=lambda allowed, power_kw: self.projection.substations.reason_never(
                allowed, power_kw, self.feed.last_heard
            ),
        )
        self.app = app.create(
            View(self.log, self.projection, self.feed, lambda: self.at),
            app.Commands(
                self.intake,
                Canceller(self.log, self.publisher, confirm_timeout, lambda: self.at),
                ParkedJobs(lambda: cast(ParkedQueue, self.parked)),
                self.controls.log,
                control_timeout=confirm_timeout,
                decision_wait=decision_wait,
            ),
            app.Monitoring(
                self.registry,
                metrics,
                lambda: self.problems,
                lambda: self.degraded,
                self.spans.append,
                sampler,
            ),
            Authenticator(
                keys or ApiKeys(),
                key_required=closed,
                rate_limit=RateLimit(rate) if rate else None,
            ),
            now=lambda: self.now,
            chance=Random(1).getrandbits,  # noqa: S311
            lifespan=_no_lifespan,
        )
        self.port = 0
        self._client: aiohttp.ClientSession

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Bench]:
        """Serve on a free port for as long as the context lasts."""
        kind = http_protocol(20, CONNECTIONS)
        config = uvicorn.Config(
            self.app,
            log_config=None,
            server_header=False,
            http=kind,
            timeout_keep_alive=75,  # as in service: a test may pause for longer than uvicorn's 5 s
        )
        config.load()
        # without uvicorn.Server, whose end takes a tenth of a second
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: kind(config=config, server_state=state, app_state={}),
            HOST,
            0,
        )
        self.port = server.sockets[0].getsockname()[1]
        async with (
            server,
            aiohttp.ClientSession(f"http://{HOST}:{self.port}") as self._client,
        ):
            yield self

    async def ask(
        self,
        method: str,
        path: str,
        data: Any = None,  # noqa: ANN401  # whatever aiohttp can send
        headers: Iterable[tuple[str, str]] = (),
    ) -> Answer:
        """Send a request as it is: no header that describes the body is added."""
        async with self._client.request(
            method,
            path,
            data=data,
            headers=list(headers),
            skip_auto_headers=["Content-Type"],
            allow_redirects=False,
        ) as answer:
            text = await answer.text()
            has_json = "json" in answer.content_type and text
            return Answer(answer.status, answer.headers, json.loads(text) if has_json else text)

    async def post(self, body: object = None, path: str = "/charge", **headers: str) -> Answer:
        """Send JSON, or no body at all."""
        data = None if body is None else json.dumps(body)
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return await self.ask("POST", path, data, [*named, *([JSON] if body is not None else [])])

    async def get(self, path: str) -> Answer:
        """Get a page."""
        return await self.ask("GET", path)

    async def first_event(self, path: str) -> Any:  # noqa: ANN401  # JSON
        """Return the data of the first event of a stream."""
        async with self._client.get(path) as answer:
            async for line in answer.content:
                if line.startswith(b"data: "):
                    return json.loads(line.removeprefix(b"data: "))
        raise AssertionError("the stream ended before its first event")

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until ``holds`` returns true while a request is in progress."""
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110  # what it waits for sets no event
                await asyncio.sleep(0.001)

    def hear(self, *found: Event, writer: str = provenance.DISPATCHER) -> None:
        """Have events arrive from the stream, by default from a writer that may write any event."""
        self.log.read(events.encode(found), writer)

    def count(self, name: str, **labels: str) -> float:
        """Return a metric's value."""
        return self.registry.get_sample_value(f"api_{name}", labels) or 0.0


@asynccontextmanager
async def _no_lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield


def problem(answer: Answer, status: int) -> dict[str, Any]:
    """Check that an answer is a problem document with this status, and return it."""
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.body["status"] == status
    assert answer.body["title"]
    assert answer.body["detail"]
    found: dict[str, Any] = answer.body
    return found


def assigned(job: str, substation: str = "s1", **loads: float) -> Event:
    """Return the event of a decision as the dispatcher writes it."""
    candidates = [{"substation": name, "load": load} for name, load in loads.items()]
    detail = {"requested_at": AT, "reason": "lightest", "candidates": candidates}
    return Event(State.ASSIGNED, AT + 1, job, substation, 1, detail=detail)
