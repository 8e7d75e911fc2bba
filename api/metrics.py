"""The metrics of the api: its own requests, and the jobs in the event log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.jobs.feed import Feed
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
        for status in ("202", "503"):  # so that their rates start from 0
            self.requests.labels("POST", "/charge", status)
        self.request_seconds = Histogram(
            "api_request_seconds",
            "Time an HTTP request took",
            ["route"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self.charging_seconds = Histogram(
            "api_request_to_charging_seconds",
            "Time from a request, its last replay or the start that it asked for, to its session",
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self.begin_seconds = Histogram(
            "api_free_connector_to_charging_seconds",
            "Time from when a connector was free for a request to the start of its session",
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


class LogCollector(Collector):
    """A collector of what the event log shows at this instant, and of how recent that is.

    Args:
        projection: what was read of the event log.
        feed: knows which jobs wait.
        accepted: returns how many requests were accepted since the start.
        offset: returns the offset of the event log's next message.
        clock: returns Unix seconds.
    """

    def __init__(
        self,
        projection: Projection,
        feed: Feed,
        *,
        accepted: Callable[[], int],
        offset: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._projection = projection
        self._feed = feed
        self._accepted = accepted
        self._offset = offset
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """Yield the figures of this instant."""
        now = self._clock()
        age = self._projection.substations.age(now)
        yield CounterMetricFamily(
            "api_accepted_requests",
            "Requests that RabbitMQ has confirmed, so that they were answered 202",
            self._accepted(),
        )
        yield GaugeMetricFamily(
            "api_oldest_waiting_request_seconds",
            "How long the request waits that waits longest for its substation; 0 if none waits",
            self._feed.oldest_wait(now),
        )
        yield GaugeMetricFamily(
            "api_event_log_offset",
            "Offset in the event log up to which it was read; it rises at least once a second",
            self._offset(),
        )
        yield GaugeMetricFamily(
            "api_snapshot_age_seconds",
            "Age of the dispatcher's last snapshot; one is due every 10 s",
            inf if age is None else age,
        )
