"""What every service exposes: metrics, liveness and readiness."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Info
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from pydantic import BaseModel, Field

from grid.amqp import Link
from grid.negotiation import prefers
from grid.version import version

PROCESS_SECONDS: Final = 5.0
PLAIN: Final = "text/plain"
OPENMETRICS: Final = "application/openmetrics-text"
Problems = Callable[[], list[str]]  # what keeps a service from being ready


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


class Liveness(BaseModel):
    """That the process answers."""

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """Whether the service can do its work."""

    status: Literal["ready", "not ready"]
    problems: list[str] = Field(description="What keeps the service from being ready.")
    degraded: list[str] = Field(
        default=[], description="What it cannot do, or does not see, though it is."
    )


_VARIES: Final = {
    "description": "The answer depends on the header Accept.",
    "schema": {"type": "string"},
}


def _openmetrics(registry: CollectorRegistry) -> bytes:
    # every name is valid as it is: to escape them takes half as long again
    page: bytes = openmetrics.generate_latest(  # type: ignore[no-untyped-call]
        registry, escaping=openmetrics.ALLOWUTF8
    )
    return page


def router(
    registry: CollectorRegistry, problems: Problems, degraded: Problems | None = None
) -> APIRouter:
    """Return the routes ``/metrics``, ``/healthz`` and ``/readyz``.

    ``/healthz`` answers as long as the service's loop runs; ``/readyz`` answers 503 with the
    problems while the service cannot do its work; what it is ``degraded`` by does not change that.
    """
    routes = APIRouter(tags=["operations"])

    @routes.get(
        "/metrics",
        summary="Get the metrics",
        operation_id="getMetrics",
        response_description="The metrics as they are now.",
        response_class=PlainTextResponse,
        responses={200: {"headers": {"Vary": _VARIES}}},
    )
    async def metrics(request: Request) -> Response:
        """Return the metrics in Prometheus's text format.

        A client that prefers `application/openmetrics-text`, as Prometheus does, gets that: the
        same figures, and the exemplars of histograms, which name traces.
        """
        accept = ",".join(request.headers.getlist("accept"))
        if prefers(accept, OPENMETRICS, PLAIN):
            page, kind = _openmetrics(registry), openmetrics.CONTENT_TYPE_LATEST
        else:
            page, kind = generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4
        return Response(page, media_type=kind, headers={"Vary": "Accept"})

    @routes.get(
        "/healthz",
        summary="Check liveness",
        operation_id="getLiveness",
        response_description="The process answers.",
    )
    async def healthz() -> Liveness:
        """Return 200 as long as the process answers."""
        return Liveness()

    @routes.get(
        "/readyz",
        summary="Check readiness",
        operation_id="getReadiness",
        response_description="Ready; `degraded` lists what the service cannot do or see even so.",
        response_model_exclude_unset=True,
        responses={
            503: {"model": Readiness, "description": "Not ready; the body lists the problems."}
        },
    )
    async def readyz(response: Response) -> Readiness:
        """Return whether the service can do its work, and the problems that keep it from it."""
        missing = problems()
        if missing:
            response.status_code = 503
        status: Literal["ready", "not ready"] = "not ready" if missing else "ready"
        if degraded is None:
            return Readiness(status=status, problems=missing)
        return Readiness(status=status, problems=missing, degraded=degraded())

    return routes
