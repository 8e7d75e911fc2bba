"""Errors as problem documents (RFC 9457): what was wrong, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api import problem_types as types
from api.errors import (
    AlreadyEnded,
    ImpossibleRequest,
    KeyReused,
    MalformedJson,
    NotCaughtUp,
    NotJson,
    PartlyAccepted,
    TooManyStreams,
    UnknownJob,
    UnknownSubstation,
)
from api.problem_types import ProblemType
from grid.errors import BrokerUnavailable, InvalidField
from grid.messages import shown

_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 1
MAX_ERRORS: Final = 20  # fields that one answer names: a body can hold very many invalid ones
MAX_VALUE: Final = 80  # characters of an invalid value that an answer repeats
MAX_FIELD_NAME: Final = 200  # characters of a field's name: it may be the client's own


class FieldProblem(BaseModel):
    """What is wrong with one field, parameter or header."""

    field: str
    problem: str


class Problem(BaseModel):
    """A problem document (RFC 9457): what was wrong, and what to do."""

    model_config = ConfigDict(
        defer_build=True,  # it is only documented, by every route
        json_schema_extra={
            "example": {
                "type": types.INVALID_FIELD.uri,
                "code": types.INVALID_FIELD.code,
                "title": types.INVALID_FIELD.status.phrase,
                "status": types.INVALID_FIELD.status,
                "detail": "priority: Input should be less than or equal to 9, got 10",
                "errors": [
                    {
                        "field": "priority",
                        "problem": "Input should be less than or equal to 9, got 10",
                    }
                ],
            }
        },
    )

    type: str = Field(description="The address of a page about this type of problem.")
    code: str = Field(description="The type of problem, for programs: the page's last part.")
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = Field(
        default=None, description="What is wrong, field by field."
    )
    accepted: list[str] | None = Field(
        default=None, description="Of a list: the ids of the requests that were accepted."
    )


def respond(
    kind: ProblemType,
    detail: str,
    headers: Mapping[str, str] | None = None,
    *,
    errors: Sequence[tuple[str, str]] = (),
    accepted: list[str] | None = None,
) -> JSONResponse:
    """Return the answer for one problem; ``errors`` are fields, and what is wrong with each."""
    problem = Problem(
        type=kind.uri,
        code=kind.code,
        title=kind.status.phrase,
        status=kind.status,
        detail=detail,
        errors=[FieldProblem(field=field, problem=text) for field, text in errors] or None,
        accepted=accepted,
    )
    return JSONResponse(
        problem.model_dump(exclude_none=True), kind.status, headers, media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Answer every error of an app with a problem document."""
    for error, answer in _ANSWERS.items():
        app.exception_handler(error)(answer)


async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    found = error.errors()
    errors = [(_field(each), _problem(each)) for each in found[:MAX_ERRORS]]
    more = f"; and {len(found) - MAX_ERRORS} more" if len(found) > MAX_ERRORS else ""
    detail = "; ".join(f"{field}: {text}" for field, text in errors) + more
    is_json = all(each["type"] != "json_invalid" for each in found)
    kind = types.INVALID_FIELD if is_json else types.MALFORMED_JSON
    return respond(kind, detail, errors=errors)


async def _invalid_field(_: Request, error: InvalidField) -> JSONResponse:
    kind = _INVALID_FIELDS.get(type(error), types.INVALID_FIELD)
    return respond(kind, str(error), errors=[(error.field, error.problem)])


async def _unavailable(_: Request, error: Exception) -> JSONResponse:
    return respond(
        _UNAVAILABLE.get(type(error), types.UNAVAILABLE),
        f"{error}. Try again after {RETRY_AFTER_SECONDS} s.",
        {"Retry-After": str(RETRY_AFTER_SECONDS)},
        accepted=error.accepted if isinstance(error, PartlyAccepted) else None,
    )


async def _unknown_job(_: Request, error: Exception) -> JSONResponse:
    return respond(types.UNKNOWN_JOB, str(error))


async def _unknown_substation(_: Request, error: Exception) -> JSONResponse:
    return respond(types.UNKNOWN_SUBSTATION, str(error))


async def _already_ended(_: Request, error: Exception) -> JSONResponse:
    return respond(types.ALREADY_ENDED, str(error))


async def _not_json(_: Request, error: Exception) -> JSONResponse:
    return respond(types.NOT_JSON, str(error))


async def _http(request: Request, error: HTTPException) -> JSONResponse:
    method, path = request.method, request.url.path
    if isinstance(error.__cause__, ValueError | RecursionError):  # reading the body
        return await _invalid_field(request, MalformedJson("body", f"not JSON: {error.__cause__}"))
    kind = _BY_STATUS.get(error.status_code)
    if kind is None:  # raised by a library; none is known to
        raise error
    detail = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {shown(path)}; /docs lists the routes",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{shown(path)} does not support the method {shown(method)}",
    }.get(HTTPStatus(error.status_code), error.detail)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return respond(kind, detail, headers)


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
        return f"there is no such {'parameter' if error['loc'][0] == 'query' else 'field'}"
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


_INVALID_FIELDS: Final[Mapping[type[InvalidField], ProblemType]] = {
    ImpossibleRequest: types.IMPOSSIBLE_REQUEST,
    KeyReused: types.KEY_REUSED,
    MalformedJson: types.MALFORMED_JSON,
}
_UNAVAILABLE: Final[Mapping[type[Exception], ProblemType]] = {
    NotCaughtUp: types.NOT_CAUGHT_UP,
    PartlyAccepted: types.PARTLY_ACCEPTED,
    TooManyStreams: types.TOO_MANY_STREAMS,
}
_BY_STATUS: Final[Mapping[int, ProblemType]] = {
    each.status: each
    for each in (
        types.MALFORMED_REQUEST,
        types.KEY_REQUIRED,
        types.SCOPE_REQUIRED,
        types.UNKNOWN_PATH,
        types.METHOD_NOT_ALLOWED,
        types.BODY_TOO_LARGE,
        types.NOT_JSON,
    )
}
_ANSWERS: Final[dict[type[Exception], Callable[..., Coroutine[Any, Any, JSONResponse]]]] = {
    RequestValidationError: _invalid,
    InvalidField: _invalid_field,
    BrokerUnavailable: _unavailable,
    NotCaughtUp: _unavailable,
    TooManyStreams: _unavailable,
    UnknownJob: _unknown_job,
    UnknownSubstation: _unknown_substation,
    AlreadyEnded: _already_ended,
    NotJson: _not_json,
    HTTPException: _http,
}
