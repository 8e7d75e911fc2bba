"""The dispatcher's metrics: counters, and the load tracker read at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dispatcher.recognition import DropReason
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
        self.sent_to = cache(self.decisions.labels)  # looking a label up takes longer than to count
        self.refused = counter(
            "refused_jobs", "Jobs that a substation's queue refused", ["substation"]
        )
        self.resent = counter(
            "resent_jobs",
            "Jobs sent again to the same substation because they had not begun there although its "
            "queue was empty",
            ["substation"],
        )
        self.reconciled = counter(
            "reconciled_jobs",
            "Accepted jobs that were in no queue and held by no dispatcher, by outcome",
            ["outcome"],
        )
        self.expired = counter(
            "expired", "Requests whose departure or longest wait passed while they waited"
        )
        self.cancelled = counter(
            "cancelled", "Requests cancelled by their clients while they waited"
        )
        self.reclaimed = counter(
            "rescued_jobs",
            "Jobs reclaimed from the queue of a substation that does not consume them",
            ["substation"],
        )
        self.parked = counter(
            "parked", "Messages parked because they cannot be processed", ["reason"]
        )
        self.flood_requeued = counter(
            "flood_requeued", "Requests of tenants that flood that went behind those of others"
        )
        self.promises = counter(
            "promises",
            "Starts that jobs asked for: granted, refused, moved, or withdrawn",
            ["outcome"],
        )
        self.redelivered = counter("redelivered", "Requests redelivered by RabbitMQ")
        self.duplicates = counter(
            "duplicate_requests",
            "Requests delivered for the first time and dropped, since their job is in hand, was "
            "sent, or has ended: a client or a link sent them twice",
        )
        self.dropped = counter(
            "dropped",
            "Deliveries dropped, redelivered ones and messages from the queues of substations as "
            "well, since their job is in hand, was sent, or has ended (reasons: in_hand, sent, "
            "ended)",
            ["reason"],
        )
        for reason in DropReason:
            self.dropped.labels(reason)  # so that its rate starts from 0
        self.events_lost = counter("events_lost", "Events that RabbitMQ refused")
        self.scrapes = counter(
            "scrapes",
            "Scrapes of a substation's metrics page, by outcome",
            ["substation", "outcome"],
        )
        self.targets = Gauge(
            "dispatcher_targets", "Substations in the target file that is in use", registry=registry
        )
        self.target_info = Gauge(
            "dispatcher_target_info",
            "1 for each substation of the target file that is in use, with its address",
            ["substation", "address"],
            registry=registry,
        )
        self.target_file_ok = Gauge(
            "dispatcher_target_file_ok",
            "Whether the target file is valid and in use",
            registry=registry,
        )
        self.decision_seconds = histogram(
            "decision_seconds", "Time that one decision takes", DECISION_BUCKETS
        )
        self.wait_seconds = histogram(
            "request_to_assignment_seconds",
            "Time from the acceptance of a request to its dispatch to a substation",
            WAIT_BUCKETS,
        )

    def sent(self) -> dict[str, float]:
        """Return how many jobs were sent to each substation."""
        (family,) = self.decisions.collect()
        totals = (each for each in family.samples if each.name.endswith("_total"))
        return {each.labels["substation"]: each.value for each in totals}


class LoadCollector(Collector):
    """What the dispatcher knows of each substation at the time of a scrape."""

    def __init__(
        self,
        candidates: Callable[[], list[Candidate]],
        waiting: Callable[[], int],
        blind: Callable[[], bool],
        *,
        takeovers: Callable[[], int],
        promised: Callable[[], int],
    ) -> None:
        self._candidates = candidates
        self._waiting = waiting
        self._blind = blind
        self._takeovers = takeovers
        self._promised = promised

    def collect(self) -> Iterable[Metric]:
        """Return the current figures."""
        candidates = self._candidates()
        yield GaugeMetricFamily(
            "dispatcher_waiting_requests",
            "Requests that wait for a substation with capacity",
            self._waiting(),
        )
        yield GaugeMetricFamily(
            "dispatcher_promised_starts",
            "Starts that are promised, and have not begun",
            self._promised(),
        )
        yield GaugeMetricFamily(
            "dispatcher_load_spread",
            "Highest minus lowest load of the eligible substations",
            _spread([each.load for each in candidates if each.problem is None]),
        )
        yield GaugeMetricFamily(
            "dispatcher_gauges_all_stale",
            "Whether no substation's gauges are current, so that the load tracker alone decides",
            self._blind(),
        )
        yield CounterMetricFamily(
            "dispatcher_takeovers",
            "How often this dispatcher became the active one, its first request included",
            self._takeovers(),
        )
        yield _family("load", "Sessions in progress and jobs in flight", candidates, "load")
        yield _family(
            "utilisation", "Share of connectors or of rated power in use", candidates, "utilisation"
        )
        yield _family(
            "outstanding",
            "Jobs in flight: sent, and not visible in any reading yet",
            candidates,
            "outstanding",
        )
        yield _family("gauge_age_seconds", "Age of the load gauge", candidates, "gauge_age")
        yield _family(
            "power_kw", "Power drawn, and power of the jobs in flight", candidates, "power_kw"
        )
        yield _family("drained", "Whether an operator drains the substation", candidates, "drained")
        yield _family(
            "limit", "Sessions at most, as set by an operator; NaN if not", candidates, "limit"
        )
        limits = _labelled(
            "power_limit_kw", "The power limit that holds now, as set by an operator; NaN if none"
        )
        for each in candidates:
            kw = float("nan") if each.power_limit is None else each.power_limit.kw
            limits.add_metric([each.substation], kw)
        yield limits
        yield _family(
            "ejected",
            "Whether the substation is ejected after repeated failures",
            candidates,
            "ejected",
        )
        eligible = _labelled("eligible", "Whether jobs may be sent to the substation")
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
