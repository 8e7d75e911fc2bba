"""What a service exports of itself."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from grid.amqp import Link
from grid.telemetry import (
    PROCESS_SECONDS,
    BrokerWatch,
    ProcessMetrics,
    links_down,
    new_registry,
)
from tests.grid.links import Seen


def test_figures_of_the_process_are_read_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They take some 20 system calls, and a page may be read twice a second."""
    read: list[list[Metric]] = []

    def collect(_: ProcessCollector) -> list[Metric]:
        read.append([GaugeMetricFamily("process_reads", "Reads so far", len(read) + 1)])
        return read[-1]

    monkeypatch.setattr(ProcessCollector, "collect", collect)
    now, registry = [100.0], CollectorRegistry()
    registry.register(ProcessMetrics(lambda: now[0]))
    found = []
    for now[0] in (100.0, 100.5, 100.0 + PROCESS_SECONDS, 100.5 + PROCESS_SECONDS):
        found.append(registry.get_sample_value("process_reads"))
    assert found == [1, 1, 2, 2]


def test_metrics_registries_of_two_services_are_separate() -> None:
    """Each service has a registry of its own, not that of the process."""
    BrokerWatch(new_registry(), logging.getLogger("a"))
    BrokerWatch(new_registry(), logging.getLogger("b"))


def value(registry: CollectorRegistry, name: str, link: str) -> float | None:
    """Return a sample of one link."""
    return registry.get_sample_value(name, {"link": link})


def test_link_losses_are_counted_once_each() -> None:
    """Failed attempts do not count; only a link that was up can be lost."""
    registry = CollectorRegistry()
    watch = BrokerWatch(registry, logging.getLogger("test"))
    steps = [
        (False, "cannot connect", 0, 0),
        (True, "connected", 1, 0),
        (True, "RabbitMQ blocks publishers", 1, 0),
        (True, "connected", 1, 0),
        (False, "connection reset", 0, 1),
        (False, "cannot connect", 0, 1),
        (True, "connected", 1, 1),
        (False, "connection reset", 0, 2),
    ]
    for up, why, connected, lost in steps:
        watch("jobs", up, why)
        watch("events", True, "connected")  # noqa: FBT003
        assert value(registry, "grid_broker_connected", "jobs") == connected
        assert value(registry, "grid_broker_reconnects_total", "jobs") == lost
    assert value(registry, "grid_broker_reconnects_total", "events") == 0


def test_link_state_changes_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the link and the reason; a link that is down is a warning."""
    watch = BrokerWatch(CollectorRegistry(), logging.getLogger("test"))
    with caplog.at_level(logging.INFO):
        watch("jobs", False, "connection refused")  # noqa: FBT003
        watch("jobs", True, "connected")  # noqa: FBT003
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "RabbitMQ link jobs: connection refused"),
        ("INFO", "RabbitMQ link jobs: connected"),
    ]


async def test_readyz_names_links_that_are_down() -> None:
    """Readiness names each link that is down, and no other."""
    up, down = Link("up", ["amqp://a/"], Seen()), Link("down", ["amqp://a/"], Seen())
    up.up.set()
    assert links_down([up, down]) == ["RabbitMQ link down is down"]
