"""Running a service: its HTTP pages, background tasks, and an orderly shutdown.

An uncaught error ends the service, unless it is one that passes by itself.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn

import uvicorn
from prometheus_client import disable_created_metrics
from starlette.applications import Starlette

from grid import connection_limits, descriptors, logs
from grid.connection_limits import Limits
from grid.connections import http_protocol
from grid.errors import ConfigurationError
from grid.logs import LineHandler, LogThrottle
from grid.polling import event_loop
from grid.settings import Settings

log = logging.getLogger(__name__)

CONNECTIONS_SECONDS = 2  # how long an open HTTP connection may delay the shutdown
BACKLOG = 2048  # connections that wait to be accepted, as with uvicorn
YOUNG_OBJECTS: Final = 10_000  # new objects before the garbage collector runs
_PART_FAILED: Final = "a part of the service failed"


@asynccontextmanager
async def background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run tasks for as long as the context lasts; a task that fails ends the whole service.

    A supervisor then restarts it, which is better than a service that looks alive but does half its
    work.
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


def run(service: Callable[[], tuple[Starlette, Settings, int]]) -> NoReturn:
    """Build a service and serve it until SIGTERM or SIGINT; wrong settings end it at once.

    ``service`` returns the app, its settings and its port. The exit status is 0 after SIGTERM, 1
    after a failure, which a supervisor takes as a reason to restart it.
    """
    try:
        app, settings, port = service()
    except ConfigurationError as error:
        sys.exit(f"cannot start: {error}")
    handler = logs.configure(settings.log_level, settings.log_format)
    limits = _limits(settings)
    # process_start_time_seconds has the same, in one series
    disable_created_metrics()  # type: ignore[no-untyped-call]
    config = uvicorn.Config(
        app,
        host=settings.http_host,
        port=port,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing asks for the client's address or scheme
        lifespan="on",
        server_header=False,
        http=http_protocol(settings.http_timeout, limits),
        ws="none",
        backlog=limits.accepted_at_once,
        timeout_keep_alive=settings.http_keep_alive,  # type: ignore[arg-type]  # any number will do
        timeout_graceful_shutdown=CONNECTIONS_SECONDS,
    )
    end_answers = getattr(app.state, "end_answers", lambda: None)
    _spare_collector()
    # uvicorn shuts down in order, and then raises the signal again, which is to be ignored
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with asyncio.Runner(loop_factory=event_loop) as runner:
            failed = runner.run(_serve(_Server(config, end_answers), handler))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    sys.exit(1 if failed else 0)


def _spare_collector() -> None:
    """Run the garbage collector less often, and not over permanent objects.

    A job or a message is kept for long, and is no part of a cycle. Looking for cycles at every 700
    new objects takes a third of the time in which the api accepts a list.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


def _limits(settings: Settings) -> Limits:
    """Return how many HTTP connections there may be, after raising the limit on open files."""
    before, now = descriptors.raise_limit()
    limits = connection_limits.limits(
        now, settings.http_connections, settings.http_connections_per_address
    )
    log.info(
        "limits: %d open files (the soft limit was %d), %d HTTP connections, %d of one address",
        now,
        before,
        limits.total,
        limits.per_address,
    )
    if "http_connections" in settings.model_fields_set and limits.total < settings.http_connections:
        log.warning(
            "HTTP_CONNECTIONS=%d is too many for %d open files: raise the hard limit (ulimit -Hn)",
            settings.http_connections,
            now,
        )
    return limits


class _Server(uvicorn.Server):
    """A server whose kernel backlog is longer than what asyncio may accept in one go.

    asyncio uses its backlog for both, and one that is too short costs clients a second each.
    ``end_answers`` ends the answers that wait for what happens, some as long as the service lasts.
    """

    def __init__(self, config: uvicorn.Config, end_answers: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_answers = end_answers

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening."""
        await super().startup(sockets)
        for server in self.servers if self.started else ():
            for listening in server.sockets:
                same = socket.socket(fileno=listening.fileno())  # the same descriptor
                try:
                    same.listen(BACKLOG)
                finally:
                    same.detach()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop serving: first the answers that would not end by themselves are ended."""
        self._end_answers()
        await super().shutdown(sockets)


async def _serve(server: uvicorn.Server, lines: LineHandler) -> bool:
    """Serve until the end; return whether that was a failure: any uncaught exception."""
    handler, loop = _ExceptionHandler(server), asyncio.get_running_loop()
    loop.set_exception_handler(handler)
    with lines.joining(loop):
        await server.serve()
    return handler.failed or not server.started


class _ExceptionHandler:
    """A handler that ends the service after an uncaught exception, unless it passes by itself.

    Without free descriptors, asyncio stops accepting connections for a second, and a link to
    RabbitMQ tries again by itself. A connection that fails is closed by asyncio.
    """

    def __init__(self, server: uvicorn.Server) -> None:
        self.failed = False
        self._server = server
        self._exhausted = LogThrottle()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an exception that the loop reports."""
        if (error := context.get("exception")) is None:
            loop.default_exception_handler(context)
        elif self._is_accept_after_end(loop, context):
            pass  # the server is ending, so this does no harm
        elif descriptors.is_exhausted(error) and context["message"] != _PART_FAILED:
            # asyncio of Python 3.11 reports it up to a thousand times at once
            if self._exhausted.acquire(loop.time()):
                log.error(
                    "%s: %s: waiting until a descriptor or buffer is free",
                    context["message"],
                    error,
                )
        elif "transport" in context and "protocol" in context:
            log.error(
                "HTTP connection closed after an error: %s", context["message"], exc_info=error
            )
        else:
            log.critical(
                "the service ends after an unhandled error: %s", context["message"], exc_info=error
            )
            self.failed = self._server.should_exit = True

    def _is_accept_after_end(
        self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]
    ) -> bool:
        """Return whether asyncio would accept again at a socket that was closed while it paused."""
        callback = getattr(context.get("handle"), "_callback", None)
        return self._server.should_exit and callback == getattr(loop, "_start_serving", None)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": _PART_FAILED, "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)
