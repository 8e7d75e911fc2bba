"""The parts of the api, put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from uuid import uuid4

from fastapi import FastAPI

from api import app
from api.auth import Door, Rates
from api.intake import Intake
from api.jobs.event_log import EventLog
from api.jobs.projection import Projection
from api.metrics import JobsCollector, Metrics
from api.queue_watch import QueueWatch
from api.routes import substations
from api.settings import ApiSettings
from grid import provenance, topology
from grid.amqp import Declarer, Publisher, StreamReader
from grid.control_log import ControlLog
from grid.errors import STILL_READING
from grid.event_log import EventWriter
from grid.isolation import Isolation
from grid.runtime import background
from grid.telemetry import BrokerWatch, links_down, new_registry
from grid.trace import Chance


def build(
    settings: ApiSettings, clock: Callable[[], float], new_id: Callable[[], str], chance: Chance
) -> FastAPI:
    """Return an api that works while the app's lifespan lasts. ``clock`` returns Unix seconds."""
    urls = settings.broker_urls()
    registry = new_registry()
    watch = BrokerWatch(registry, logging.getLogger("api"))
    metrics = Metrics(registry)
    projection = Projection(
        settings.max_jobs, topology.EVENTS_MAX_AGE_SECONDS, topology.EVENTS_MAX_BYTES
    )
    registry.register(JobsCollector(projection))
    publisher = Publisher("api-requests", urls, watch)
    name = f"api-{uuid4().hex[:8]}"
    writer = EventWriter(publisher, name, provenance.API)
    isolation = Isolation(registry)
    log = EventLog(projection, writer, metrics, clock, isolation)
    reader = StreamReader("api-events", urls, watch, queue=topology.EVENTS)
    intake = Intake(
        publisher,
        log,
        settings.confirm_timeout,
        clock=clock,
        new_id=new_id,
        known=projection.known_substations,
    )
    # a link of its own: requests go on at a broker that was not given the controls yet
    setter = Publisher("api-controls-out", urls, watch)
    controls = ControlLog(setter, name, lambda *_: None)
    controls_reader = StreamReader("api-controls", urls, watch, queue=topology.CONTROLS)
    keys = settings.api_keys()
    door = Door(keys, closed=settings.closed, rates=Rates(settings.rate_limit))
    operating = substations.router(
        controls, projection.known_substations, settings.confirm_timeout, any_keys=bool(keys)
    )

    declarer = Declarer("api-queues", urls, watch)
    queues = QueueWatch(declarer, publisher)

    def problems() -> list[str]:
        behind = [] if log.caught_up.is_set() else [STILL_READING]
        blocked = ["RabbitMQ blocks publishers"] if publisher.blocked else []
        return links_down([publisher, reader]) + queues.problems() + blocked + behind

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with background(
            publisher.run(),
            reader.run(read=log.read),
            setter.run(),
            controls_reader.run(
                read=isolation.reading("a message of the controls", controls.read),
                forget=controls.forget,
            ),
            declarer.run(),
            log.mark(),
            log.pack(),
            controls.run(controls_reader.up),
            queues.run(),
        ):
            yield
            await writer.finish()

    return app.create(
        intake,
        log,
        projection,
        metrics,
        registry,
        operating=operating,
        door=door,
        now=monotonic,
        chance=chance,
        decision_wait=settings.decision_wait,
        not_ready=problems,
        lifespan=lifespan,
    )
