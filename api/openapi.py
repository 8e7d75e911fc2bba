"""The OpenAPI document: the answers that routes declare, and corrections to what FastAPI writes."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from api.auth import OPEN_PATHS
from api.middleware import BODY_BYTES, LIST_BYTES
from api.problems import MEDIA_TYPE, Problem

Responses = dict[int | str, dict[str, Any]]


def problem(status: int, description: str) -> Responses:
    """Return the declaration of an answer that is a problem document."""
    return {status: {"model": Problem, "description": description}}


INVALID: Final = problem(422, "A field or parameter is invalid; the answer names it.")
UNAVAILABLE: Final = problem(503, "RabbitMQ is not available: try again after Retry-After.")
UNKNOWN_JOB: Final = problem(404, "There is no such job.")
WITH_BODY: Final = {
    **INVALID,
    **UNAVAILABLE,
    **problem(413, f"The body is larger than {BODY_BYTES} bytes, or {LIST_BYTES} for a list."),
    **problem(415, "The body is not declared as JSON."),
}

SECURITY_SCHEME: Final = "key"
# answered by the middleware, before any route
_MALFORMED: Final = "The request is malformed, or a header that must be single is repeated."
_AUTHENTICATION: Final = {
    "401": ("An API key is required, or the key is not known.", "WWW-Authenticate"),
    "403": ("A browser may be sending this for another site's page.", None),
    "429": ("Too many requests with this key: try again after Retry-After.", "Retry-After"),
}
_NULL: Final = {"type": "null"}


def install(app: FastAPI, *, key_required: bool) -> None:
    """Correct an app's document; with ``key_required``, all but ``OPEN_PATHS`` need a key."""
    before = app.openapi

    def openapi() -> dict[str, Any]:
        document = before()
        for path, operations in document["paths"].items():
            for operation in operations.values():
                _declare_middleware(path, operation, key_required=key_required)
                for answer in operation["responses"].values():
                    _set_media_type(answer)
                for parameter in operation.get("parameters", ()):
                    parameter["schema"] = _without_null(parameter["schema"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _declare_middleware(path: str, operation: dict[str, Any], *, key_required: bool) -> None:
    """Document what the middleware answers before the route is called."""
    operation["responses"].setdefault("400", _problem_answer(_MALFORMED, None))
    if path in OPEN_PATHS:
        return
    if key_required:
        operation["security"] = [{SECURITY_SCHEME: []}]
    for status, (description, header) in _AUTHENTICATION.items():
        operation["responses"].setdefault(status, _problem_answer(description, header))


def _problem_answer(description: str, header: str | None) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {header: {"schema": {"type": "string"}}} if header else {},
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _set_media_type(answer: dict[str, Any]) -> None:
    """Set the media type of a documented error, which FastAPI takes to be plain JSON."""
    content = answer.get("content", {})
    if "Problem" in str(content) and "application/json" in content:
        content[MEDIA_TYPE] = content.pop("application/json")


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter's schema without null, which no header or query can hold."""
    kinds = [each for each in schema.get("anyOf", ()) if each != _NULL]
    if len(kinds) != 1:
        return schema
    return {**kinds[0], **{name: value for name, value in schema.items() if name != "anyOf"}}
