"""The middleware of the api, from the outermost to the innermost; ``api.app`` installs it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from math import ceil
from time import perf_counter
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problem_types as types
from api import problems
from api.auth import HEADERS_READ, Authenticator, AuthResult, Outcome
from api.metrics import Metrics
from grid.messages import shown
from grid.trace import Record, Span, Trace

log = logging.getLogger(__name__)

_TRACE: Final = "api.trace"  # in the scope of a request that its trace's caller wants recorded
METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


def note_trace(scope: Scope, trace: Trace) -> None:
    """Note a request's trace for its metrics, if it is to be recorded."""
    if trace.sampled:
        scope[_TRACE] = trace


class RequestMetrics:
    """Middleware that counts and times every request by its route, not by its path.

    ``record`` gets the spans of requests that are recorded. ``clock`` returns Unix seconds, ``now``
    those of a steady clock.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        record: Record | None,
        clock: Callable[[], float],
        now: Callable[[], float] = perf_counter,
    ) -> None:
        self._app = app
        self._record = record
        self._clock = clock
        self._now = now
        # cached: prometheus_client converts all labels to text and locks, each time it is called
        self._requests = cache(metrics.requests.labels)
        self._request_seconds = cache(metrics.request_seconds.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and record its outcome."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = self._now(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            # a client may send any word as a method, and each would stay a series for ever
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._requests(method, route, status).inc()
            took = self._now() - began
            trace: Trace | None = scope.get(_TRACE)
            self._request_seconds(route).observe(took, None if trace is None else trace.exemplar)
            if trace is not None and self._record is not None:
                ended = self._clock()
                self._record(_span(trace, method, route, status, ended=ended, seconds=took))


def _span(
    trace: Trace, method: str, route: str, status: int, *, ended: float, seconds: float
) -> Span:
    """Return the span of a request, with the attributes that OpenTelemetry names for HTTP."""
    return Span(
        f"{method} {route}",
        "server",
        trace,
        ended - seconds,
        ended,
        {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        },
        HTTPStatus(status).phrase if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "",
    )


# Security headers: a browser must trust nothing beyond the answer itself. Source: OWASP's HTTP
# headers cheat sheet.
ALLOW_NOTHING: Final = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": ALLOW_NOTHING,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_SECURITY_LINES: Final = [
    (name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()
]
_SECURITY_NAMES: Final = frozenset(name for name, _ in _SECURITY_LINES)


class SecurityHeaders:
    """Middleware that adds the security headers that an answer does not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and complete the headers of its answer."""

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                lines = message.get("headers", [])
                missing = _SECURITY_LINES
                if given := _SECURITY_NAMES.intersection(name for name, _ in lines):
                    missing = [each for each in _SECURITY_LINES if each[0] not in given]
                message["headers"] = [*lines, *missing]
            await send(message)

        await self._app(scope, receive, complete)


# If two readers use different values of one header, a request can get past the check of the first.
# So lists are joined, and other headers that this api reads are rejected if they are repeated; the
# server rejects a repeated Host, Content-Length or Transfer-Encoding (``grid.connections``).
# Sources: RFC 9110, 5.2 and 5.3; RFC 7240 for Prefer; W3C Trace Context.
SINGLE: Final = {
    b"authorization": "Authorization",
    b"content-type": "Content-Type",
    b"idempotency-key": "Idempotency-Key",
    b"origin": "Origin",
    b"sec-fetch-site": "Sec-Fetch-Site",
}
LISTS: Final = frozenset({b"prefer", b"tracestate"})
# ignored if repeated: no request is rejected over its trace
_IGNORED: Final = frozenset({b"traceparent"})


class RepeatedHeaders:
    """Middleware that answers 400 if a header that must be single is repeated."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with the lines of each list joined into one."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        lines: list[tuple[bytes, bytes]] = scope["headers"]
        names = [name for name, _ in lines]
        if len(set(names)) < len(names):
            repeated = {name for name, count in Counter(names).items() if count > 1}
            if wrong := sorted(SINGLE[name] for name in repeated & SINGLE.keys()):
                detail = f"send the header {' and '.join(wrong)} once: it has one value"
                await problems.respond(types.REPEATED_HEADER, detail)(scope, receive, send)
                return
            scope["headers"] = _joined(lines, repeated)
        await self._app(scope, receive, send)


def _joined(lines: list[tuple[bytes, bytes]], repeated: set[bytes]) -> list[tuple[bytes, bytes]]:
    """Return the lines with each list in one, and without what is to be ignored."""
    rest = [each for each in lines if each[0] not in repeated & (LISTS | _IGNORED)]
    lists = {
        each: b",".join(value for name, value in lines if name == each)
        for each in sorted(repeated & LISTS)
    }
    return [*rest, *lists.items()]


NO_KEY: Final = "send a key with the header Authorization: Bearer <key>"
UNKNOWN_KEY: Final = "the key of the header Authorization is not one that this api knows"
_HEADERS_READ: Final = {name.encode(): name for name in HEADERS_READ}
_AUTH_RESULT: Final = "api.auth"  # in the scope of a request that was admitted


class Authentication:
    """Middleware that admits a request or answers 401, 403 or 429; ``now`` is a steady clock."""

    def __init__(
        self,
        app: ASGIApp,
        authenticator: Authenticator,
        registry: CollectorRegistry,
        now: Callable[[], float],
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._now = now
        admissions = prometheus_client.Counter(
            "api_admissions",
            "Requests by the name of their API key and the outcome of authentication",
            ["key", "outcome"],
            registry=registry,
        )
        self._admissions = cache(admissions.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or reject it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {
            _HEADERS_READ[name]: value.decode("latin-1")
            for name, value in scope["headers"]
            if name in _HEADERS_READ
        }
        result = self._authenticator.authenticate(
            scope["method"], scope["path"], headers, self._now()
        )
        self._admissions(result.key_name, result.outcome).inc()
        if result.outcome is Outcome.ADMITTED:
            scope[_AUTH_RESULT] = result
            await self._app(scope, receive, send)
        else:
            await _rejection(result)(scope, receive, send)


def auth_result(scope: Scope) -> AuthResult:
    """Return the decision on an admitted request: with whose key it came, if with any."""
    result: AuthResult = scope[_AUTH_RESULT]
    return result


def _rejection(result: AuthResult) -> Response:
    if result.outcome is Outcome.CROSS_ORIGIN:
        return problems.respond(types.CROSS_ORIGIN, result.reason)
    if result.outcome is Outcome.RATE_LIMITED:
        seconds = ceil(result.retry_after)
        return problems.respond(
            types.RATE_LIMITED,
            f'too many requests with the key "{result.key_name}": try again after {seconds} s',
            {"Retry-After": str(seconds)},
        )
    has_none = result.outcome is Outcome.NO_KEY
    kind, detail = (types.KEY_REQUIRED, NO_KEY) if has_none else (types.UNKNOWN_KEY, UNKNOWN_KEY)
    return problems.respond(kind, detail, {"WWW-Authenticate": "Bearer"})


class UnexpectedErrors:
    """Middleware that answers 500 to an unexpected error, and logs it once.

    Starlette would answer outside of all other middleware, and the server would log it again.
    """

    def __init__(self, app: ASGIApp, new_id: Callable[[], str]) -> None:
        self._app = app
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; an error after the answer has begun can only end the connection."""
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, note)
        except Exception as error:
            if scope["type"] != "http" or begun:
                raise
            name = self._new_id()
            path = shown(scope["path"])  # it may contain a line break
            log.error("%s %s failed: %s", scope["method"], path, name, exc_info=error)
            detail = f"The server failed; its log says how, under {name}."
            await problems.respond(types.INTERNAL_ERROR, detail)(scope, receive, send)


# The limit counts a body as it arrives, not as its header claims.
# If a connection is closed while its client still sends, it is reset and the answer is lost. So
# most of a body that is too large is read after all, and discarded.
BODY_BYTES: Final = 64 * 1024
LIST_BYTES: Final = 1024 * 1024
MAX_DRAIN_BYTES: Final = 16 * 1024 * 1024
DRAIN_TIMEOUT: Final = 2.0


class BodyLimit:
    """Middleware that answers 413 to a body that is too large for its path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; reading more of it than the limit fails."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = LIST_BYTES if scope["path"] == "/charges" else BODY_BYTES
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limit:
                await _drain(receive, message)
                raise HTTPException(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"the body is longer than {limit} bytes: send less at once",
                    {"Connection": "close"},
                )
            return message

        await self._app(scope, counted, send)


async def _drain(receive: Receive, message: Message) -> None:
    """Read and discard the rest of a body, up to a size and a time."""
    drained = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_TIMEOUT):
            while message.get("more_body") and drained < MAX_DRAIN_BYTES:
                message = await receive()
                drained += len(message.get("body", b""))
