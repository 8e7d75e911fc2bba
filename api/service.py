"""The parts of the api, put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

from fastapi import FastAPI

from api import app
from api.intake import Intake
from api.log import EventLog
from api.projection import Projection
from api.settings import ApiSettings
from api.telemetry import JobsCollector, Metrics
from grid import topology
from grid.amqp import Publisher, StreamReader
from grid.event_log import EventWriter
from grid.events import STILL_READING
from grid.runtime import background
from grid.telemetry import BrokerWatch, links_down, new_registry


def build(settings: ApiSettings, clock: Callable[[], float], new_id: Callable[[], str]) -> FastAPI:
    """Wire an api; it works while the app's lifespan lasts. ``clock`` gives Unix seconds."""
    urls = settings.broker_urls()
    registry = new_registry()
    watch = BrokerWatch(registry, logging.getLogger("api"))
    metrics = Metrics(registry)
    projection = Projection(settings.max_jobs, topology.EVENTS_MAX_AGE_SECONDS)
    registry.register(JobsCollector(projection))
    publisher = Publisher("api-requests", urls, watch)
    writer = EventWriter(publisher, f"api-{uuid4().hex[:8]}")
    log = EventLog(projection, writer, metrics, clock)
    reader = StreamReader(
        "api-events", urls, watch, queue=topology.EVENTS, start="first", read=log.read
    )
    intake = Intake(
        publisher,
        log,
        settings.confirm_timeout,
        clock=clock,
        new_id=new_id,
        known=projection.known_substations,
    )

    def problems() -> list[str]:
        behind = [] if log.caught_up.is_set() else [STILL_READING]
        blocked = ["RabbitMQ blocks publishers"] if publisher.blocked else []
        return links_down([publisher, reader]) + blocked + behind

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with background(publisher.run(), reader.run(), log.mark()):
            yield
            await writer.finish()

    return app.create(
        intake,
        log,
        projection,
        metrics,
        registry,
        decision_wait=settings.decision_wait,
        not_ready=problems,
        lifespan=lifespan,
    )
