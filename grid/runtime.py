"""Running a service: a page to look at, tasks in the background, an end that is orderly."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NoReturn

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, disable_created_metrics

from grid.errors import ConfigurationError
from grid.settings import Settings
from grid.telemetry import Problems, configure_logging, router

log = logging.getLogger(__name__)

CONNECTIONS_SECONDS = 2  # how long an open HTTP connection may delay the end


def operations_app(
    title: str,
    registry: CollectorRegistry,
    problems: Problems,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
) -> FastAPI:
    """Make the app of a service that serves nothing but what it shows of itself."""
    app = FastAPI(title=title, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(router(registry, problems))
    return app


@asynccontextmanager
async def background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run tasks for as long as the context lasts; a task that fails ends the whole service.

    A supervisor starts it again: better than a service that looks alive and does half its work.
    """
    tasks = [asyncio.create_task(each) for each in work]
    for task in tasks:
        task.add_done_callback(_end_if_failed)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def within(seconds: float, work: Coroutine[Any, Any, object]) -> bool:
    """Wait for work at most so long; tells whether it was done."""
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return False
    return True


def run(service: Callable[[], tuple[FastAPI, Settings, int]]) -> NoReturn:
    """Build a service and serve it until SIGTERM or SIGINT; settings that are wrong end it at once.

    ``service`` gives the app, its settings and its port.
    """
    try:
        app, settings, port = service()
    except ConfigurationError as error:
        sys.exit(f"cannot start: {error}")
    configure_logging(settings.log_level, settings.log_format)
    # process_start_time_seconds says as much, in one series
    disable_created_metrics()  # type: ignore[no-untyped-call]
    uvicorn.run(
        app,
        host=settings.http_host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=CONNECTIONS_SECONDS,
    )
    sys.exit(0)


def _end_if_failed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("ending: a part of the service failed", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)
