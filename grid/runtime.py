"""Running a service: a page to look at, tasks in the background, an end that is orderly."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NoReturn

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, disable_created_metrics

from grid import logs
from grid.amqp import is_lost_while_connecting
from grid.connections import patient_for
from grid.errors import ConfigurationError
from grid.settings import Settings
from grid.telemetry import Problems, router

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
        task.add_done_callback(_report)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run(service: Callable[[], tuple[FastAPI, Settings, int]]) -> NoReturn:
    """Build a service and serve it until SIGTERM or SIGINT; settings that are wrong end it at once.

    ``service`` gives the app, its settings and its port. The exit status is 0 after SIGTERM, 1
    after a failure, which a supervisor takes as a reason to start it again.
    """
    try:
        app, settings, port = service()
    except ConfigurationError as error:
        sys.exit(f"cannot start: {error}")
    logs.configure(settings.log_level, settings.log_format)
    # process_start_time_seconds says as much, in one series
    disable_created_metrics()  # type: ignore[no-untyped-call]
    config = uvicorn.Config(
        app,
        host=settings.http_host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        http=patient_for(settings.http_timeout, settings.http_connections),
        timeout_graceful_shutdown=CONNECTIONS_SECONDS,
    )
    # uvicorn ends in good order, and then raises the signal again: it has done its work by then
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        failed = asyncio.run(_serve(uvicorn.Server(config)))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    sys.exit(1 if failed else 0)


async def _serve(server: uvicorn.Server) -> bool:
    """Serve until the end; tells whether that was a failure: any exception that nobody caught."""
    failed = False

    def end(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal failed
        if (error := context.get("exception")) is None:
            loop.default_exception_handler(context)
            return
        if is_lost_while_connecting(error):
            return  # its link tries again, and says so
        log.critical("ending: %s", context["message"], exc_info=error)
        failed = server.should_exit = True

    asyncio.get_running_loop().set_exception_handler(end)
    await server.serve()
    return failed or not server.started


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": "a part of the service failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)
