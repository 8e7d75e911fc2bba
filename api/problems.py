"""Errors as problem documents (RFC 9457): what was wrong, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.errors import AlreadyEnded, NotCaughtUp, NotFound, NotJson
from grid.errors import BrokerUnavailable, InvalidField
from grid.messages import shown

_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 1
MAX_ERRORS: Final = 20  # fields that one answer names: a body can hold very many invalid ones
MAX_VALUE: Final = 80  # characters of an invalid value that an answer repeats
MAX_FIELD_NAME: Final = 200  # characters of a field's name: it may be the client's own


class Problem(BaseModel):
    """A problem document (RFC 9457): what was wrong, and what to do."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None
    accepted: list[str] | None = None


def respond(
    status: HTTPStatus,
    detail: str,
    headers: Mapping[str, str] | None = None,
    *,
    errors: list[dict[str, str]] | None = None,
    accepted: list[str] | None = None,
) -> JSONResponse:
    """Return the answer for one problem."""
    problem = Problem(
        title=status.phrase, status=status, detail=detail, errors=errors, accepted=accepted
    )
    return JSONResponse(
        problem.model_dump(exclude_none=True), status, headers, media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Answer every error of an app with a problem document."""
    for kind, answer in _ANSWERS.items():
        app.exception_handler(kind)(answer)


async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    found = error.errors()
    errors = [{"field": _field(each), "problem": _problem(each)} for each in found[:MAX_ERRORS]]
    more = f"; and {len(found) - MAX_ERRORS} more" if len(found) > MAX_ERRORS else ""
    detail = "; ".join(f"{each['field']}: {each['problem']}" for each in errors) + more
    return respond(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


async def _invalid_field(_: Request, error: InvalidField) -> JSONResponse:
    errors = [{"field": error.field, "problem": error.problem}]
    return respond(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), errors=errors)


async def _unavailable(_: Request, error: Exception) -> JSONResponse:
    return respond(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{error}. Try again after {RETRY_AFTER_SECONDS} s.",
        {"Retry-After": str(RETRY_AFTER_SECONDS)},
        accepted=getattr(error, "accepted", None),
    )


async def _not_found(_: Request, error: Exception) -> JSONResponse:
    return respond(HTTPStatus.NOT_FOUND, str(error))


async def _already_ended(_: Request, error: Exception) -> JSONResponse:
    return respond(HTTPStatus.CONFLICT, str(error))


async def _not_json(_: Request, error: Exception) -> JSONResponse:
    return respond(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error))


async def _http(request: Request, error: HTTPException) -> JSONResponse:
    method, path = request.method, request.url.path
    if isinstance(error.__cause__, ValueError | RecursionError):  # reading the body
        return await _invalid_field(request, InvalidField("body", f"not JSON: {error.__cause__}"))
    detail = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {shown(path)}; /docs lists the routes",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{shown(path)} does not support the method {shown(method)}",
    }.get(HTTPStatus(error.status_code), error.detail)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return respond(HTTPStatus(error.status_code), detail, headers)


def _methods(request: Request) -> set[str]:
    """Return the methods of a path, HEAD with GET; Starlette returns only its first route's."""

    def is_known(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(each.matches(scope)[0] is Match.FULL for each in request.app.routes)

    known = set(filter(is_known, _METHODS))
    return known | {"HEAD"} if "GET" in known else known


def _field(error: Mapping[str, Any]) -> str:
    """Return the field as the client wrote it, without saying that it was in the body."""
    where = error["loc"]
    if error["type"] == "json_invalid":
        return str(where[0])  # the rest is a position in text that is not JSON
    return (".".join(str(part) for part in where[1:]) or str(where[0]))[:MAX_FIELD_NAME]


def _problem(error: Mapping[str, Any]) -> str:
    kind, value = error["type"], error.get("input")
    if kind == "json_invalid":
        return f"not JSON: {error['ctx']['error']} at character {error['loc'][-1]}"
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "there is no such field"
    if kind == "model_attributes_type":
        return f"must be a JSON object, got {_json(value)}"
    return f"{error['msg'].removeprefix('Value error, ')}, got {_json(value)}"


def _json(value: object) -> str:
    """Return a value as the client wrote it, in JSON, cut if it is long."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        return shown(value)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


_ANSWERS: Final[dict[type[Exception], Callable[..., Coroutine[Any, Any, JSONResponse]]]] = {
    RequestValidationError: _invalid,
    InvalidField: _invalid_field,
    BrokerUnavailable: _unavailable,
    NotCaughtUp: _unavailable,
    NotFound: _not_found,
    AlreadyEnded: _already_ended,
    NotJson: _not_json,
    HTTPException: _http,
}
