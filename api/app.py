"""The api, put together: its parts, its middleware and its routes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic
from uuid import uuid4

from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry

from api import docs, openapi, problems
from api.auth import Authenticator, RateLimit
from api.canceller import Canceller
from api.intake import Intake
from api.jobs.event_log import EventLog
from api.jobs.feed import Feed
from api.jobs.projection import Projection
from api.metrics import JobsCollector, LogCollector, Metrics
from api.middleware import (
    Authentication,
    BodyLimit,
    RepeatedHeaders,
    RequestMetrics,
    SecurityHeaders,
    UnexpectedErrors,
)
from api.parked import ParkedJobs
from api.queue_watch import QueueWatch
from api.routes import cancel, events, jobs, page, stats, substations
from api.routes import parked as parked_routes
from api.routes.charge import ChargeRoutes
from api.routes.dependencies import check_json, operator
from api.settings import ApiSettings
from grid import provenance, telemetry, topology
from grid.amqp import Declarer, Publisher, StreamReader
from grid.asgi import NO_TELEMETRY, HeadAsGet, TrailingSlash
from grid.control_log import ControlLog
from grid.errors import STILL_READING
from grid.event_log import EventWriter
from grid.events import MARKER, Event, State
from grid.isolation import Isolation
from grid.parked.queue import ParkedQueue
from grid.runtime import background
from grid.summary import summarise
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
    reader = StreamReader("api-events", urls, watch, queue=topology.EVENTS)
    feed = Feed(projection, clock=clock, now=monotonic, offset=lambda: reader.position)
    log = EventLog(projection, writer, metrics, clock, isolation, feed=feed)
    intake = Intake(
        publisher,
        log,
        settings.confirm_timeout,
        clock=clock,
        new_id=new_id,
        substations=lambda: projection.substations,
    )
    registry.register(
        LogCollector(
            projection,
            feed,
            accepted=lambda: intake.accepted,
            offset=lambda: reader.position,
            clock=clock,
        )
    )
    # a link of its own: requests are accepted also at a broker that has no stream of controls yet
    setter = Publisher("api-controls-out", urls, watch)
    controls = ControlLog(setter, name, lambda *_: None)
    controls_reader = StreamReader("api-controls", urls, watch, queue=topology.CONTROLS)
    authenticator = Authenticator(
        settings.api_keys(),
        key_required=settings.key_required,
        rate_limit=RateLimit(settings.rate_limit),
    )
    declarer = Declarer("api-queues", urls, watch)
    queues = QueueWatch(declarer, publisher)

    def not_ready() -> list[str]:
        behind = [] if log.caught_up.is_set() else [STILL_READING]
        blocked = ["RabbitMQ blocks publishers"] if publisher.blocked else []
        return links_down([publisher, reader]) + queues.problems() + blocked + behind

    def degraded() -> list[str]:
        """Return that substations cannot be drained or limited, if that is so."""
        return links_down([setter, controls_reader])

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
            summarise(
                logging.getLogger("api"),
                lambda: {"accepted": intake.accepted},
                lambda: f"{projection.by_status[State.QUEUED]} wait",
            ),
            feed.run(
                not_ready,
                lambda: publisher.blocked_reason,
                lambda: writer.write(Event(MARKER, clock(), job=name)),
            ),
        ):
            yield
            await writer.finish()

    return create(
        intake,
        log,
        projection,
        metrics,
        registry,
        feed=feed,
        controls=controls,
        canceller=Canceller(log, setter, settings.confirm_timeout, clock),
        parked=ParkedJobs(lambda: ParkedQueue(urls, lambda *_: None, clock, provenance.API)),
        authenticator=authenticator,
        clock=clock,
        now=monotonic,
        chance=chance,
        decision_wait=settings.decision_wait,
        control_timeout=settings.confirm_timeout,
        not_ready=not_ready,
        degraded=degraded,
        lifespan=lifespan,
    )


def create(
    intake: Intake,
    log: EventLog,
    projection: Projection,
    metrics: Metrics,
    registry: CollectorRegistry,
    *,
    feed: Feed,
    controls: ControlLog,
    canceller: Canceller,
    parked: ParkedJobs,
    authenticator: Authenticator,
    clock: Callable[[], float],
    now: Callable[[], float],
    chance: Chance,
    decision_wait: float,
    control_timeout: float,
    not_ready: telemetry.Problems,
    degraded: telemetry.Problems,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
) -> FastAPI:
    """Return the app of these parts.

    Args:
        clock: returns Unix seconds.
        now: returns the seconds of a steady clock, for the rate limit.
        chance: returns random bits, for new spans and the ids of errors.
        decision_wait: how many seconds the answer to a request waits for the decision.
        control_timeout: how many seconds RabbitMQ may take to confirm an operator's change.
        not_ready: returns what keeps the api from being ready.
        degraded: returns what it cannot do though it is ready, besides what the event log shows.
    """
    app = FastAPI(
        title="Smart grid dispatcher",
        description="Sends charge requests to the least-loaded substation.",
        version="1",
        servers=[{"url": "/", "description": "The api that serves this document."}],
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    json_body = [Depends(check_json)]
    charge_routes = ChargeRoutes(intake, log, projection, decision_wait, clock=clock, chance=chance)
    app.router.routes += charge_routes.routes(
        openapi.WITH_BODY, tags=["charging"], dependencies=json_body
    )
    app.include_router(jobs.router(log, projection, clock))
    app.include_router(cancel.router(canceller, projection, clock))
    app.include_router(stats.router(log, projection, clock))
    app.include_router(events.router(log, feed, not_ready))
    app.include_router(page.router())
    app.state.end_streams = feed.end
    app.include_router(substations.router(log, projection, clock))
    operator_key = operator(has_keys=authenticator.has_keys)
    app.include_router(
        parked_routes.router(parked, operator_key),
        responses=openapi.WITH_BODY,
        dependencies=json_body,
    )
    app.include_router(
        substations.control_router(
            controls,
            projection.known_substations,
            control_timeout,
            operator_key,
        ),
        responses=openapi.WITH_BODY,
        dependencies=json_body,
    )
    app.include_router(
        telemetry.router(registry, not_ready, lambda: degraded() + silence(projection, clock()))
    )
    app.include_router(docs.router())
    _add_middleware(app, metrics, registry, authenticator=authenticator, now=now, chance=chance)
    problems.install(app)
    openapi.install(app, key_required=authenticator.key_required)
    return app


def silence(projection: Projection, now: float) -> list[str]:
    """Return that requests are accepted and not charged, if the event log shows it."""
    found = projection.substations
    if (problem := found.silence(now)) is not None:
        return [f"{problem}: requests are accepted and wait"]
    if not any(each.eligible for each in found.rows(now)):
        return ["no substation is eligible: requests are accepted and wait; see /substations"]
    return []


def _add_middleware(
    app: FastAPI,
    metrics: Metrics,
    registry: CollectorRegistry,
    *,
    authenticator: Authenticator,
    now: Callable[[], float],
    chance: Chance,
) -> None:
    """Add the middleware, the innermost first."""
    app.add_middleware(HeadAsGet)
    app.add_middleware(BodyLimit)
    app.add_middleware(UnexpectedErrors, new_id=lambda: f"{chance(64):016x}")
    app.add_middleware(Authentication, authenticator=authenticator, registry=registry, now=now)
    app.add_middleware(RepeatedHeaders)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestMetrics, metrics=metrics)
    app.add_middleware(TrailingSlash)
