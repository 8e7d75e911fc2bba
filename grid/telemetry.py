"""What every service exports of itself: its links to RabbitMQ, its process, its version."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Info
from prometheus_client.core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from grid.amqp import Link
from grid.version import version

PROCESS_SECONDS: Final = 5.0


class BrokerWatch:
    """The state of the links to RabbitMQ: logged when it changes, and exported as metrics."""

    def __init__(self, registry: CollectorRegistry, log: logging.Logger) -> None:
        self._log = log
        self._connected = Gauge(
            "grid_broker_connected", "Whether a link to RabbitMQ is up", ["link"], registry=registry
        )
        self._up: dict[str, bool] = {}
        self._lost = Counter(
            "grid_broker_reconnects",
            "Links to RabbitMQ that were lost and connected again",
            ["link"],
            registry=registry,
        )

    def __call__(self, link: str, up: bool, why: str) -> None:  # noqa: FBT001  # grid.amqp.Watch
        """Record a change of a link's state."""
        self._connected.labels(link).set(up)
        lost = self._lost.labels(link)
        if self._up.get(link) and not up:
            lost.inc()
        self._up[link] = up
        self._log.log(logging.INFO if up else logging.WARNING, "RabbitMQ link %s: %s", link, why)


def links_down(links: Sequence[Link]) -> list[str]:
    """Return the links to RabbitMQ that are down, as problems of readiness."""
    return [f"RabbitMQ link {link.name} is down" for link in links if not link.connected]


class ProcessMetrics(Collector):
    """A collector of the process's own figures, which are up to ``PROCESS_SECONDS`` old.

    To read them takes some 20 system calls, and a substation's page is read twice a second.
    ``now`` returns steady seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._process = ProcessCollector(registry=None)
        self._found: list[Metric] = []
        self._until = 0.0

    def collect(self) -> Iterable[Metric]:
        """Return the figures."""
        if not self._found or self._now() >= self._until:
            self._found = list(self._process.collect())
            self._until = self._now() + PROCESS_SECONDS
        return self._found


def new_registry() -> CollectorRegistry:
    """Return a registry for one service, with its process's metrics, its clock and its version."""
    registry = CollectorRegistry()
    registry.register(ProcessMetrics())
    clock = Gauge("grid_clock_seconds", "The service's clock, in Unix seconds", registry=registry)
    clock.set_function(time.time)
    Info("grid_build", "The version of the project", registry=registry).info({"version": version()})
    return registry
