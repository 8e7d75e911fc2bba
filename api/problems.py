"""Errors as RFC 9457 problem documents: what was wrong, and what to do."""

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

from api.auth import OPEN_PATHS
from grid.errors import BrokerUnavailable, GridError, InvalidField
from grid.messages import shown

SCHEME: Final = "key"  # the security scheme's name in the OpenAPI document
_AT_THE_DOOR: Final = {
    "401": ("A key is needed, or the key is not known.", "WWW-Authenticate"),
    "403": ("A browser may be asking for a page from elsewhere.", None),
    "429": ("The key asks too often: try again after Retry-After.", "Retry-After"),
}

_REPEATED: Final = "It is no HTTP, or a header came more than once that must be single."

_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1
ERRORS_MOST = 20  # fields that one answer names: a body can hold very many wrong ones
VALUE_MOST = 80  # characters of a wrong value that an answer repeats
FIELD_MOST = 200  # characters of a field's name: it may be the client's own


class NotCaughtUp(GridError):
    """The event log has not been read to its end yet: what it holds is not all known."""


class NotFound(GridError):
    """There is nothing of that name."""


class NotJson(GridError):
    """A body is not declared as JSON."""


class PartlyAccepted(BrokerUnavailable):
    """RabbitMQ confirmed some requests of a list and not the others.

    ``accepted`` are the ids of those it has.
    """

    def __init__(self, accepted: list[str], cause: BrokerUnavailable) -> None:
        super().__init__(f"{len(accepted)} of the list were accepted, then: {cause}")
        self.accepted = accepted


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

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


def install(app: FastAPI, closed: bool) -> None:  # noqa: FBT001
    """Answer every error of an app with a problem document, and declare that in OpenAPI.

    ``closed`` says that every path but ``OPEN_PATHS`` needs a key.
    """
    for kind, answer in _ANSWERS.items():
        app.exception_handler(kind)(answer)
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        for path, operations in document["paths"].items():
            for operation in operations.values():
                _declare_door(path, operation, closed)
                for answer in operation["responses"].values():
                    _declare(answer)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _declare_door(path: str, operation: dict[str, Any], closed: bool) -> None:  # noqa: FBT001
    """Document what the middleware answers before the app is called."""
    operation["responses"].setdefault("400", _problem_answer(_REPEATED, None))
    if path in OPEN_PATHS:
        return
    if closed:
        operation["security"] = [{SCHEME: []}]
    for status, (description, header) in _AT_THE_DOOR.items():
        operation["responses"].setdefault(status, _problem_answer(description, header))


def _problem_answer(description: str, header: str | None) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {header: {"schema": {"type": "string"}}} if header else {},
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _declare(answer: dict[str, Any]) -> None:
    """Set the media type of a documented error, which FastAPI takes to be plain JSON."""
    content = answer.get("content", {})
    if "Problem" in str(content) and "application/json" in content:
        content[MEDIA_TYPE] = content.pop("application/json")


async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    found = error.errors()
    errors = [{"field": _field(each), "problem": _problem(each)} for each in found[:ERRORS_MOST]]
    more = f"; and {len(found) - ERRORS_MOST} more" if len(found) > ERRORS_MOST else ""
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


async def _not_json(_: Request, error: Exception) -> JSONResponse:
    return respond(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error))


async def _http(request: Request, error: HTTPException) -> JSONResponse:
    method, path = request.method, request.url.path
    if isinstance(error.__cause__, ValueError | RecursionError):  # reading the body
        return await _invalid_field(request, InvalidField("body", f"not JSON: {error.__cause__}"))
    detail = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {shown(path)}; /docs shows what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{shown(path)} does not know the method {shown(method)}",
    }.get(HTTPStatus(error.status_code), error.detail)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return respond(HTTPStatus(error.status_code), detail, headers)


def _methods(request: Request) -> set[str]:
    """Return the methods of a path, HEAD with GET; Starlette names only its first route's."""

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
    return (".".join(str(part) for part in where[1:]) or str(where[0]))[:FIELD_MOST]


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
    return text if len(text) <= VALUE_MOST else f"{text[:VALUE_MOST]}…"


_ANSWERS: Final[dict[type[Exception], Callable[..., Coroutine[Any, Any, JSONResponse]]]] = {
    RequestValidationError: _invalid,
    InvalidField: _invalid_field,
    BrokerUnavailable: _unavailable,
    NotCaughtUp: _unavailable,
    NotFound: _not_found,
    NotJson: _not_json,
    HTTPException: _http,
}
