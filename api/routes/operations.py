"""``/metrics``, ``/healthz`` and ``/readyz``."""

from __future__ import annotations

from typing import Final, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, Field

from grid.operations import Problems, metrics_page, readiness_page

_VARIES: Final = {
    "description": "The answer depends on the header Accept.",
    "schema": {"type": "string"},
}


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


def router(registry: CollectorRegistry, problems: Problems, degraded: Problems) -> APIRouter:
    """Return the routes.

    ``/healthz`` answers as long as the api's loop runs; ``/readyz`` answers 503 with the problems
    while the api cannot do its work; what it is ``degraded`` by does not change that.
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
        return metrics_page(registry, request.headers.getlist("accept"))

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
        response_model=Readiness,
        responses={
            503: {"model": Readiness, "description": "Not ready; the body lists the problems."}
        },
    )
    async def readyz() -> Response:
        """Return whether the service can do its work, and the problems that keep it from it."""
        return readiness_page(problems(), degraded())

    return routes
