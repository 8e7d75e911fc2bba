"""The metrics of the api: its own requests, and the jobs in the event log."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.jobs.projection import Projection
from grid.events import State

REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
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
            "api_events_lost",
            "Events that could not be written to the event log",
            registry=registry,
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
