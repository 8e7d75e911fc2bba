"""A system that works, as series of Prometheus, and what happens to it in a case of an alert.

Samples are 15 s apart; ``0+2x5`` are 0 and five more, each 2 above the last; ``_`` is no sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

LONG_MINUTES: Final = 30
LONG: Final = 1000  # samples, more than four hours
NOT_A_NUMBER: Final = " ".join(["NaN"] * LONG)

CLOCKS: Final = {
    f'grid_clock_seconds{{job="{job}", instance="{at}"}}': f"0+15x{LONG}"
    for job, at in (
        ("api", "a:7000"),
        ("dispatcher", "d:6000"),
        ("substation", "s1:9100"),
        ("substation", "s2:9100"),
    )
}
UP: Final = {
    'up{job="api", instance="a:7000"}': f"1x{LONG}",
    'up{job="dispatcher", instance="d:6000"}': f"1x{LONG}",
    'up{job="substation", instance="s1:9100", substation="s1"}': f"1x{LONG}",
    'up{job="substation", instance="s2:9100", substation="s2"}': f"1x{LONG}",
    'up{job="rabbitmq", instance="r:15692"}': f"1x{LONG}",
    'up{job="rabbitmq-queues", instance="r:15692"}': f"1x{LONG}",
    'up{job="prometheus", instance="localhost:9090"}': f"1x{LONG}",
}
# 40 requests a minute, each assigned, charged and completed, and none waits
WORK: Final = {
    'api_requests_total{route="/charge", method="POST", status="202"}': f"0+10x{LONG}",
    'api_requests_total{route="/charge", method="POST", status="503"}': f"0x{LONG}",
    'api_requests_total{route="/readyz", method="GET", status="503"}': f"0+10x{LONG}",
    "api_accepted_requests_total": f"0+10x{LONG}",
    "dispatcher_request_to_assignment_seconds_count": f"0+10x{LONG}",
    'dispatcher_request_to_assignment_seconds_bucket{le="1.0"}': f"0+10x{LONG}",
    "api_free_connector_to_charging_seconds_count": f"0+10x{LONG}",
    'api_free_connector_to_charging_seconds_bucket{le="10.0"}': f"0+10x{LONG}",
    'ev_charging_sessions_completed_total{substation="s1"}': f"0+5x{LONG}",
    'ev_charging_sessions_completed_total{substation="s2"}': f"0+5x{LONG}",
    'ev_charging_sessions_cancelled_total{substation="s1"}': f"0x{LONG}",
    'ev_charging_cancelled_deliveries_total{substation="s1"}': f"0x{LONG}",
    'ev_charging_expired_deliveries_total{substation="s1"}': f"0x{LONG}",
    "dispatcher_expired_total": f"0x{LONG}",
    "dispatcher_cancelled_total": f"0x{LONG}",
    'dispatcher_decisions_total{substation="s1"}': f"0+10x{LONG}",
}
HEALTHY: Final = {
    **UP,
    **CLOCKS,
    **WORK,
    "dispatcher_waiting_requests": f"0x{LONG}",
    "dispatcher_gauges_all_stale": f"0x{LONG}",
    "dispatcher_target_file_ok": f"1x{LONG}",
    "dispatcher_targets": f"2x{LONG}",
    'dispatcher_target_info{instance="d1", substation="s1", address="s1:9100"}': f"1x{LONG}",
    'dispatcher_target_info{instance="d1", substation="s2", address="s2:9100"}': f"1x{LONG}",
    'dispatcher_substation_eligible{substation="s1"}': f"1x{LONG}",
    'dispatcher_substation_eligible{substation="s2"}': f"1x{LONG}",
    'dispatcher_substation_drained{substation="s1"}': f"0x{LONG}",
    'dispatcher_substation_drained{substation="s2"}': f"0x{LONG}",
    'dispatcher_substation_ejected{substation="s1"}': f"0x{LONG}",
    'dispatcher_substation_ejected{substation="s2"}': f"0x{LONG}",
    'dispatcher_substation_limit{substation="s1"}': NOT_A_NUMBER,
    'dispatcher_substation_limit{substation="s2"}': NOT_A_NUMBER,
    'dispatcher_substation_gauge_age_seconds{substation="s1"}': f"0.5x{LONG}",
    'dispatcher_events_lost_total{instance="d:6000"}': f"0x{LONG}",
    'dispatcher_rescued_jobs_total{substation="s1"}': f"7x{LONG}",
    'dispatcher_reconciled_jobs_total{outcome="published"}': f"519x{LONG}",
    'dispatcher_reconciled_jobs_total{outcome="record lost"}': f"0x{LONG}",
    'ev_charging_load{substation="s1"}': f"2x{LONG}",
    'ev_charging_connectors{substation="s1"}': f"8x{LONG}",
    'api_jobs{status="queued"}': f"0x{LONG}",
    "api_oldest_waiting_request_seconds": f"0x{LONG}",
    "api_snapshot_age_seconds": f"4x{LONG}",
    'api_event_log_offset{instance="a:7000"}': f"0+15x{LONG}",
    'api_event_log_caught_up{instance="a:7000"}': f"1x{LONG}",
    'grid_broker_connected{job="api", instance="a:7000", link="requests"}': f"1x{LONG}",
    'grid_broker_connected{job="dispatcher", instance="d:6000", link="requests"}': f"1x{LONG}",
    'grid_broker_reconnects_total{job="api", instance="a:7000", link="requests"}': f"0x{LONG}",
    'rabbitmq_alarms_memory_used_watermark{instance="r:15692"}': f"0x{LONG}",
    'rabbitmq_alarms_free_disk_space_watermark{instance="r:15692"}': f"0x{LONG}",
    'rabbitmq_alarms_file_descriptor_limit{instance="r:15692"}': f"0x{LONG}",
    'rabbitmq_disk_space_available_bytes{instance="r:15692"}': f"1100000000x{LONG}",
    'rabbitmq_disk_space_available_limit_bytes{instance="r:15692"}': f"512000000x{LONG}",
    'rabbitmq_detailed_queue_messages{queue="charge.requests"}': f"0x{LONG}",
    'rabbitmq_detailed_queue_consumers{queue="charge.requests"}': f"1x{LONG}",
    'rabbitmq_detailed_queue_messages{queue="charge.parked"}': f"0x{LONG}",
    'rabbitmq_detailed_queue_consumers{queue="charge.parked"}': f"0x{LONG}",
    'rabbitmq_detailed_queue_messages{queue="charge.dead"}': f"0x{LONG}",
    'rabbitmq_detailed_queue_messages{queue="charge.events"}': f"0+1000x{LONG}",
    'rabbitmq_detailed_queue_messages{queue="substation.s1"}': f"4x{LONG}",
    'rabbitmq_detailed_queue_consumers{queue="substation.s1"}': f"1x{LONG}",
    'prometheus_sd_discovered_targets{config="substation", name="scrape"}': f"2x{LONG}",
    "prometheus_sd_file_read_errors_total": f"3x{LONG}",
}


class Firing(NamedTuple):
    """An alert that fires."""

    name: str
    severity: str
    labels: tuple[tuple[str, str], ...]

    def series(self) -> str:
        """Return its series, as Prometheus writes it."""
        labels = {"alertname": self.name, "alertstate": "firing", "severity": self.severity}
        pairs = ", ".join(
            f'{key}="{text}"' for key, text in {**labels, **dict(self.labels)}.items()
        )
        return f"ALERTS{{{pairs}}}"


class Said(NamedTuple):
    """What an alert says."""

    summary: str
    description: str


class Case(NamedTuple):
    """What happens, in which series, which alerts fire when, and what some of them say.

    A series of ``None`` is gone. ``says`` is by an alert's name and a time.
    """

    name: str
    series: Mapping[str, str | None]
    fires: Mapping[str, Sequence[Firing]]
    says: Mapping[tuple[str, str], Said] = {}

    @property
    def is_long(self) -> bool:
        """Return whether it takes more than half an hour."""
        minutes = (time.partition("m")[0] for time in self.fires if "m" in time)
        return any(int(each) > LONG_MINUTES for each in minutes)


def warning(name: str, **labels: str) -> Firing:
    """Return a warning that fires."""
    return Firing(name, "warning", tuple(labels.items()))


def critical(name: str, **labels: str) -> Firing:
    """Return a critical alert that fires."""
    return Firing(name, "critical", tuple(labels.items()))


def eligible(name: str) -> str:
    """Return the series of whether a substation is eligible."""
    return f'dispatcher_substation_eligible{{substation="{name}"}}'


def power_limit(name: str) -> str:
    """Return the series of the power limit of a substation."""
    return f'dispatcher_substation_power_limit_kw{{substation="{name}"}}'


def drained(name: str) -> str:
    """Return the series of whether a substation is drained."""
    return f'dispatcher_substation_drained{{substation="{name}"}}'


def ejected(name: str) -> str:
    """Return the series of whether a substation is ejected."""
    return f'dispatcher_substation_ejected{{substation="{name}"}}'


def page(name: str) -> str:
    """Return the series of whether Prometheus reads a substation's page."""
    return f'up{{job="substation", instance="{name}:9100", substation="{name}"}}'


def target(substation: str, address: str, dispatcher: str = "d1") -> str:
    """Return the series of a substation that the dispatcher has."""
    labels = f'instance="{dispatcher}", substation="{substation}", address="{address}"'
    return f"dispatcher_target_info{{{labels}}}"


def queue(name: str, what: str = "messages") -> str:
    """Return the series of a queue."""
    return f'rabbitmq_detailed_queue_{what}{{queue="{name}"}}'


def link(job: str, at: str) -> str:
    """Return the series of a service's connection to RabbitMQ."""
    return f'grid_broker_connected{{job="{job}", instance="{at}", link="requests"}}'


def reconciled(outcome: str) -> str:
    """Return the series of the jobs that were reconciled."""
    return f'dispatcher_reconciled_jobs_total{{outcome="{outcome}"}}'


API_UP: Final = 'up{job="api", instance="a:7000"}'
DISPATCHER_UP: Final = 'up{job="dispatcher", instance="d:6000"}'
RABBITMQ_UP: Final = 'up{job="rabbitmq", instance="r:15692"}'
QUEUES_UP: Final = 'up{job="rabbitmq-queues", instance="r:15692"}'
API_LINK: Final = link("api", "a:7000")
DISPATCHER_LINK: Final = link("dispatcher", "d:6000")
REQUESTS: Final = queue("charge.requests")
CONSUMERS: Final = queue("charge.requests", "consumers")
OLDEST: Final = "api_oldest_waiting_request_seconds"
ANSWERED: Final = 'api_requests_total{route="/charge", method="POST", status="202"}'
REFUSED: Final = 'api_requests_total{route="/charge", method="POST", status="503"}'
MEMORY: Final = 'rabbitmq_alarms_memory_used_watermark{instance="r:15692"}'
DISK: Final = 'rabbitmq_alarms_free_disk_space_watermark{instance="r:15692"}'
DESCRIPTORS: Final = 'rabbitmq_alarms_file_descriptor_limit{instance="r:15692"}'
FREE: Final = 'rabbitmq_disk_space_available_bytes{instance="r:15692"}'
RECONNECTS: Final = 'grid_broker_reconnects_total{job="api", instance="a:7000", link="requests"}'
LIMIT: Final = 'dispatcher_substation_limit{substation="s2"}'
NONE: Final[Sequence[Firing]] = ()
