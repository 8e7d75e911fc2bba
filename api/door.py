"""Authentication: a request's key is checked before anything else of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from http import HTTPStatus
from math import ceil
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api import problems
from api.admission import Admission, Door, Outcome
from api.browser import misuse

NO_KEY: Final = "send a key with the header Authorization: Bearer <key>"
WRONG_KEY: Final = "the key of the header Authorization is not one that this api knows"
_SCHEME: Final = "bearer"
_ADMISSION: Final = "grid.admission"  # in the scope of a request that was admitted


class AtTheDoor:
    """Middleware that admits a request or answers 401, 403 or 429; ``now`` is a steady clock."""

    def __init__(
        self, app: ASGIApp, door: Door, registry: CollectorRegistry, now: Callable[[], float]
    ) -> None:
        self._app = app
        self._door = door
        self._now = now
        admissions = Counter(
            "api_admissions",
            "Requests at the door, by the name of their key and what became of them",
            ["key", "outcome"],
            registry=registry,
        )
        self._admissions = cache(admissions.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or reject it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        admission = self._door.admit(
            scope["path"], _bearer(headers), self._now(), partial(misuse, scope["method"], headers)
        )
        self._admissions(admission.name, admission.outcome).inc()
        if admission.outcome is Outcome.ADMITTED:
            scope[_ADMISSION] = admission
            await self._app(scope, receive, send)
        else:
            await _answer(admission)(scope, receive, send)


def admission_of(scope: Scope) -> Admission:
    """Return how the request of a scope was admitted: by whose key, if by any."""
    admission: Admission = scope[_ADMISSION]
    return admission


def _bearer(headers: Headers) -> bytes | None:
    """Return the bearer token of a request; None if it has none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    # headers are decoded as Latin-1, whatever their encoding
    return key.strip().encode("latin-1") or None if scheme.lower() == _SCHEME else None


def _answer(admission: Admission) -> Response:
    if admission.outcome is Outcome.MISUSED:
        return problems.respond(HTTPStatus.FORBIDDEN, admission.why)
    if admission.outcome is Outcome.TOO_OFTEN:
        seconds = ceil(admission.wait)
        return problems.respond(
            HTTPStatus.TOO_MANY_REQUESTS,
            f'the key "{admission.name}" asks too often: try again after {seconds} s',
            {"Retry-After": str(seconds)},
        )
    why = NO_KEY if admission.outcome is Outcome.NO_KEY else WRONG_KEY
    return problems.respond(HTTPStatus.UNAUTHORIZED, why, {"WWW-Authenticate": "Bearer"})
