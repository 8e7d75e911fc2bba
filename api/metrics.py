"""The api's metrics: its own requests, and the jobs in the event log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.jobs.projection import Projection
from grid.events import State

REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
WAIT_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """The metrics that the api counts itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "api_requests",
            "HTTP requests answered",
            ["method", "route", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "api_request_seconds",
            "Time an HTTP request took",
            ["route"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self.charging_seconds = Histogram(
            "api_request_to_charging_seconds",
            "Time from a request to the start of its session",
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self.duplicates = Counter(
            "api_duplicate_completions", "Completions beyond a job's first", registry=registry
        )
        self.events_lost = Counter(
            "api_events_lost", "Events that RabbitMQ did not take", registry=registry
        )
        self.caught_up = Gauge(
            "api_event_log_caught_up",
            "Whether the event log was read to its end",
            registry=registry,
        )


class JobsCollector(Collector):
    """A collector of how many jobs are in each state."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection

    def collect(self) -> Iterable[Metric]:
        """Yield the figures of this instant."""
        family = GaugeMetricFamily("api_jobs", "Jobs known, by state", labels=["status"])
        for state in State:
            family.add_metric([state], self._projection.by_status[state])
        yield family


class RequestMetrics:
    """Middleware that counts and times every request by its route, not by its path."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._app = app
        self._clock = clock
        # cached: prometheus_client converts all labels to text and locks, each time it is called
        self._requests = cache(metrics.requests.labels)
        self._request_seconds = cache(metrics.request_seconds.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and record its outcome."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = self._clock(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            # a client may send any word as a method, and each would stay a series for ever
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._requests(method, route, status).inc()
            self._request_seconds(route).observe(self._clock() - began)
