"""The api, put together: its parts, its middleware and its routes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Final
from uuid import uuid4

from fastapi import Depends, FastAPI
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CollectorRegistry

from api import docs, openapi, problems
from api.auth import Authenticator, RateLimit
from api.canceller import Canceller
from api.firing import Observed
from api.intake import Intake
from api.jobs.event_log import OWN_EVENTS, EventLog
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
from api.prometheus import poller
from api.queue_watch import QueueWatch
from api.routes import (
    cancel,
    events,
    jobs,
    operations,
    page,
    power_limits,
    stats,
    substations,
)
from api.routes import parked as parked_routes
from api.routes.charge import ChargeRoutes, Shortcuts
from api.routes.dependencies import check_json, operator
from api.settings import ApiSettings
from api.view import View
from grid import provenance, topology
from grid.amqp import Declarer, Publisher, StreamReader
from grid.asgi import HeadAsGet, TrailingSlash
from grid.control_log import ControlLog
from grid.errors import STILL_READING
from grid.event_log import EventWriter
from grid.events import MARKER, Event, State
from grid.isolation import Isolation
from grid.operations import Problems
from grid.parked.queue import ParkedQueue
from grid.runtime import background
from grid.spans import spans_of
from grid.summary import summarise
from grid.telemetry import BrokerWatch, links_down, new_registry
from grid.trace import Chance, Record, Sampler
from grid.version import version

# FastAPI looks for providers at each request, and makes exporters itself where a variable says so.
# Metrics are pages for Prometheus, and spans are made without it (``grid.spans``).
NO_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def build(
    settings: ApiSettings, clock: Callable[[], float], new_id: Callable[[], str], chance: Chance
) -> FastAPI:
    """Return an api that works while the app's lifespan lasts. ``clock`` returns Unix seconds."""
    urls = settings.broker_urls()
    registry = new_registry()
    watch = BrokerWatch(registry, logging.getLogger("api"))
    metrics = Metrics(registry)
    name = f"api-{uuid4().hex[:8]}"
    spans = spans_of(settings, "api", name)
    projection = Projection(
        settings.max_jobs,
        topology.EVENTS_MAX_AGE_SECONDS,
        topology.EVENTS_MAX_BYTES,
        settings.charge_speed,
    )
    registry.register(JobsCollector(projection))
    publisher = Publisher("api-requests", urls, watch)
    writer = EventWriter(publisher, name, provenance.API, remembered=OWN_EVENTS)
    isolation = Isolation(registry)
    reader = StreamReader("api-events", urls, watch, queue=topology.EVENTS)
    prometheus = poller(settings.prometheus_url, isolation) if settings.prometheus_url else None
    feed = Feed(
        projection,
        clock=clock,
        now=monotonic,
        offset=lambda: reader.position,
        prometheus=prometheus.observed if prometheus else Observed,
    )
    log = EventLog(projection, writer, metrics, clock, isolation, feed=feed)
    intake = Intake(
        publisher,
        log,
        settings.confirm_timeout,
        clock=clock,
        new_id=new_id,
        reason_never=lambda allowed, power_kw: projection.substations.reason_never(
            allowed, power_kw, feed.last_heard
        ),
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
            *([prometheus.run(feed.followed)] if prometheus else []),
            spans.run(),
        ):
            yield
            await writer.finish()

    return create(
        View(log, projection, feed, clock),
        Commands(
            intake,
            Canceller(log, setter, settings.confirm_timeout, clock),
            ParkedJobs(lambda: ParkedQueue(urls, lambda *_: None, clock, provenance.API)),
            controls,
            control_timeout=settings.confirm_timeout,
            decision_wait=settings.decision_wait,
        ),
        Monitoring(registry, metrics, not_ready, degraded, spans.record, settings.sampler),
        authenticator,
        now=monotonic,
        chance=chance,
        lifespan=lifespan,
    )


@dataclass(frozen=True, slots=True)
class Commands:
    """What carries out the commands of clients and operators.

    ``control_timeout`` is how many seconds RabbitMQ may take to confirm an operator's change,
    ``decision_wait`` how many the answer to a request waits for the decision.
    """

    intake: Intake
    canceller: Canceller
    parked: ParkedJobs
    controls: ControlLog
    control_timeout: float
    decision_wait: float


@dataclass(frozen=True, slots=True)
class Monitoring:
    """What is said of the service itself.

    ``not_ready`` returns what keeps it from being ready, ``degraded`` what it cannot do though it
    is ready, besides what the event log shows. ``record`` gets spans, and ``sampler`` decides which
    traces have any; None is as clients ask.
    """

    registry: CollectorRegistry
    metrics: Metrics
    not_ready: Problems
    degraded: Problems
    record: Record | None = None
    sampler: Sampler | None = None


def create(
    view: View,
    commands: Commands,
    monitoring: Monitoring,
    authenticator: Authenticator,
    *,
    now: Callable[[], float],
    chance: Chance,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
) -> FastAPI:
    """Return the app of these parts.

    Args:
        view: what answers are made from.
        commands: what carries out what is asked for.
        monitoring: what ``/readyz`` and ``/metrics`` show.
        authenticator: admits requests.
        now: returns the seconds of a steady clock, for the rate limit.
        chance: returns random bits, for new spans and the ids of errors.
        lifespan: in which the parts work.
    """
    app = FastAPI(
        title="Smart grid dispatcher",
        description="Sends charge requests to the least-loaded substation.",
        version=version(),
        servers=[{"url": "/", "description": "The api that serves this document."}],
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    json_body = [Depends(check_json)]
    charge_routes = ChargeRoutes(
        commands.intake, view, commands.decision_wait, chance, monitoring.sampler
    ).routes(openapi.WITH_BODY, tags=["charging"], dependencies=json_body)
    app.router.routes += charge_routes
    app.add_middleware(Shortcuts, routes=charge_routes)
    app.include_router(jobs.router(view))
    app.include_router(cancel.router(commands.canceller, view))
    app.include_router(stats.router(view))
    app.include_router(events.router(view, monitoring.not_ready))
    app.include_router(page.router())
    app.state.end_answers = view.end_answers
    app.include_router(substations.router(view))
    known_substations = view.projection.known_substations
    app.include_router(power_limits.readers(commands.controls, known_substations, view.clock))
    operator_key = operator(has_keys=authenticator.has_keys)
    for routes in (
        parked_routes.router(commands.parked, operator_key),
        substations.control_router(
            commands.controls,
            known_substations,
            commands.control_timeout,
            operator_key,
        ),
        power_limits.router(
            commands.controls,
            known_substations,
            view.clock,
            commands.control_timeout,
            operator_key,
        ),
    ):
        app.include_router(routes, responses=openapi.WITH_BODY, dependencies=json_body)
    app.include_router(
        operations.router(
            monitoring.registry,
            monitoring.not_ready,
            lambda: monitoring.degraded() + silence(view),
        )
    )
    app.include_router(docs.router())
    _add_middleware(app, monitoring, authenticator, view.clock, now=now, chance=chance)
    problems.install(app)
    openapi.install(app, key_required=authenticator.key_required)
    return app


def silence(view: View) -> list[str]:
    """Return that requests are accepted and not charged, if the event log shows it."""
    if not view.log.caught_up.is_set():
        return [f"{STILL_READING}: whether requests wait is not known yet"]
    found, heard = view.projection.substations, view.feed.last_heard
    if (problem := found.silence(heard)) is not None:
        return [f"{problem}: requests are accepted and wait"]
    if not any(each.eligible for each in found.rows(heard)):
        return ["no substation is eligible: requests are accepted and wait; see /substations"]
    return []


def _add_middleware(
    app: FastAPI,
    monitoring: Monitoring,
    authenticator: Authenticator,
    clock: Callable[[], float],
    *,
    now: Callable[[], float],
    chance: Chance,
) -> None:
    """Add the middleware, the innermost first."""
    app.add_middleware(HeadAsGet)
    app.add_middleware(BodyLimit)
    app.add_middleware(UnexpectedErrors, new_id=lambda: f"{chance(64):016x}")
    app.add_middleware(
        Authentication, authenticator=authenticator, registry=monitoring.registry, now=now
    )
    app.add_middleware(RepeatedHeaders)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(
        RequestMetrics, metrics=monitoring.metrics, record=monitoring.record, clock=clock
    )
    app.add_middleware(TrailingSlash)
