"""The dispatcher's metrics: counters, and the load tracker read when the page is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scheduling.explain import Candidate

DECISION_BUCKETS = (5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 1e-2)
WAIT_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """What the dispatcher counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, labels: Iterable[str] = ()) -> Counter:
            return Counter(f"dispatcher_{name}", text, list(labels), registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"dispatcher_{name}", text, buckets=buckets, registry=registry)

        self.decisions = counter("decisions", "Requests sent to a substation", ["substation"])
        self.refused = counter(
            "refused_jobs", "Jobs that a substation's queue did not take", ["substation"]
        )
        self.reconciled = counter(
            "reconciled_jobs",
            "Accepted jobs that were in no queue and in nobody's hands, by what was done",
            ["outcome"],
        )
        self.expired = counter("expired", "Requests whose departure passed while they waited")
        self.reclaimed = counter(
            "rescued_jobs",
            "Jobs taken back that waited at a substation in vain",
            ["substation"],
        )
        self.parked = counter("parked", "Messages that cannot be processed, parked", ["reason"])
        self.redelivered = counter("redelivered", "Requests delivered again by RabbitMQ")
        self.duplicates = counter(
            "duplicate_requests", "Requests dropped since their job had been sent already"
        )
        self.events_lost = counter("events_lost", "Events that RabbitMQ did not take")
        self.scrapes = counter(
            "scrapes", "Metrics pages asked for, by how it ended", ["substation", "outcome"]
        )
        self.targets = Gauge(
            "dispatcher_targets", "Substations in the target file in force", registry=registry
        )
        self.target_file_ok = Gauge(
            "dispatcher_target_file_ok",
            "Whether the target file could be taken over as it is now",
            registry=registry,
        )
        self.decision_seconds = histogram(
            "decision_seconds", "Time a decision took", DECISION_BUCKETS
        )
        self.wait_seconds = histogram(
            "request_to_assignment_seconds",
            "Time from the api's taking a request to its being sent to a substation",
            WAIT_BUCKETS,
        )


class LoadCollector(Collector):
    """What the dispatcher knows of each substation, as of the moment it is asked."""

    def __init__(
        self,
        candidates: Callable[[], list[Candidate]],
        waiting: Callable[[], int],
        blind: Callable[[], bool],
    ) -> None:
        self._candidates = candidates
        self._waiting = waiting
        self._blind = blind

    def collect(self) -> Iterable[Metric]:
        """Return the figures of this instant."""
        candidates = self._candidates()
        yield GaugeMetricFamily(
            "dispatcher_waiting_requests",
            "Requests held until a substation has room",
            self._waiting(),
        )
        yield GaugeMetricFamily(
            "dispatcher_load_spread",
            "Largest less smallest load of the eligible substations",
            _spread([each.load for each in candidates if each.problem is None]),
        )
        yield GaugeMetricFamily(
            "dispatcher_gauges_all_stale",
            "Whether no substation's gauges are current, so that the load tracker alone decides",
            self._blind(),
        )
        yield _family("load", "Sessions in progress and on their way", candidates, "load")
        yield _family("utilisation", "Share of places or power taken", candidates, "utilisation")
        yield _family(
            "outstanding", "Jobs sent that no session shows yet", candidates, "outstanding"
        )
        yield _family("gauge_age_seconds", "Age of the load gauge", candidates, "gauge_age")
        yield _family("power_kw", "Power drawn and on its way", candidates, "power_kw")
        yield _family("drained", "Whether an operator drains it", candidates, "drained")
        yield _family("ejected", "Whether it is left out for failing", candidates, "ejected")
        eligible = _labelled("eligible", "Whether jobs may be sent there")
        for each in candidates:
            eligible.add_metric([each.substation], each.problem is None)
        yield eligible


def _labelled(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"dispatcher_substation_{name}", text, labels=["substation"])


def _family(name: str, text: str, candidates: list[Candidate], field: str) -> GaugeMetricFamily:
    family = _labelled(name, text)
    for each in candidates:
        value = getattr(each, field)
        family.add_metric([each.substation], float("nan") if value is None else value)
    return family


def _spread(loads: list[float]) -> float:
    return max(loads) - min(loads) if loads else 0.0
