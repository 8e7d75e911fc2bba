"""Errors as RFC 9457 problem documents: what was wrong, and what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from api.schemas import Problem
from grid.errors import BrokerUnavailable, GridError, InvalidField
from grid.messages import shown

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1


class NotCaughtUp(GridError):
    """The event log has not been read to its end yet: what it holds is not all known."""


class NotFound(GridError):
    """There is nothing of that name."""


class PartlyAccepted(BrokerUnavailable):
    """RabbitMQ confirmed some requests of a list and not the others.

    ``accepted`` are the ids of those it has.
    """

    def __init__(self, accepted: list[str], cause: BrokerUnavailable) -> None:
        super().__init__(f"{len(accepted)} of the list were accepted, then: {cause}")
        self.accepted = accepted


def respond(
    status: HTTPStatus,
    detail: str,
    headers: Mapping[str, str] | None = None,
    *,
    errors: list[dict[str, str]] | None = None,
    accepted: list[str] | None = None,
) -> JSONResponse:
    """Make the answer of one problem."""
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
    errors = [{"field": _field(each), "problem": _problem(each)} for each in error.errors()]
    detail = "; ".join(f"{each['field']}: {each['problem']}" for each in errors)
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


async def _http(_: Request, error: HTTPException) -> JSONResponse:
    return respond(HTTPStatus(error.status_code), error.detail, error.headers)


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return respond(HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed; its log says how.")


def _field(error: Mapping[str, Any]) -> str:
    """Name the field as the client wrote it, without saying that it was in the body."""
    where = error["loc"]
    if error["type"] == "json_invalid":
        return str(where[0])  # the rest is a position in text that has no fields
    return ".".join(str(part) for part in where[1:]) or str(where[0])


def _problem(error: Mapping[str, Any]) -> str:
    if error["type"] in ("missing", "json_invalid"):
        return str(error.get("ctx", {}).get("error", error["msg"]))
    return f"{error['msg']}, got {shown(error.get('input'))}"


_ANSWERS: Final[dict[type[Exception], Callable[..., Coroutine[Any, Any, JSONResponse]]]] = {
    RequestValidationError: _invalid,
    InvalidField: _invalid_field,
    BrokerUnavailable: _unavailable,
    NotCaughtUp: _unavailable,
    NotFound: _not_found,
    HTTPException: _http,
    Exception: _unforeseen,
}
