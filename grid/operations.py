"""The pages ``/metrics``, ``/healthz`` and ``/readyz``, and the app of a service without others.

That is one of Starlette's, which starts sooner than one of FastAPI's. The api has the same pages as
routes of FastAPI, which documents them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from grid.asgi import TrailingSlash
from grid.negotiation import prefers

PLAIN: Final = "text/plain"
OPENMETRICS: Final = "application/openmetrics-text"
Problems = Callable[[], list[str]]  # what keeps a service from being ready


def metrics_page(registry: CollectorRegistry, accept: Sequence[str]) -> Response:
    """Return a registry's metrics in the format that the headers Accept prefer.

    A client that prefers ``application/openmetrics-text``, as Prometheus does, gets that: the same
    figures, and the exemplars of histograms. Others get Prometheus's text format.
    """
    if prefers(",".join(accept), OPENMETRICS, PLAIN):
        page, kind = _openmetrics(registry), openmetrics.CONTENT_TYPE_LATEST
    else:
        page, kind = generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4
    return Response(page, media_type=kind, headers={"Vary": "Accept"})


def _openmetrics(registry: CollectorRegistry) -> bytes:
    # every name is valid as it is: to escape them takes half as long again
    page: bytes = openmetrics.generate_latest(  # type: ignore[no-untyped-call]
        registry, escaping=openmetrics.ALLOWUTF8
    )
    return page


def readiness_page(problems: list[str], degraded: list[str] | None = None) -> JSONResponse:
    """Return whether a service can do its work: 503 if problems keep it from it.

    What it is ``degraded`` by does not change that; None for a service that does not look.
    """
    status, code = "ready", HTTPStatus.OK
    if problems:
        status, code = "not ready", HTTPStatus.SERVICE_UNAVAILABLE
    page: dict[str, str | list[str]] = {"status": status, "problems": problems}
    if degraded is not None:
        page["degraded"] = degraded
    return JSONResponse(page, code)


def operations_app(
    registry: CollectorRegistry,
    problems: Problems,
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]],
) -> Starlette:
    """Return the app of a service that serves only its metrics and its health.

    ``/healthz`` answers as long as the service's loop runs; ``/readyz`` answers 503 with the
    problems while the service cannot do its work.
    """

    async def metrics(request: Request) -> Response:
        return metrics_page(registry, request.headers.getlist("accept"))

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        return readiness_page(problems())

    app = Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ],
        middleware=[Middleware(TrailingSlash)],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app
