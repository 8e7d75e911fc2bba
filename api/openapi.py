"""The OpenAPI document: the answers that routes declare, and corrections to what FastAPI writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Union

from fastapi import FastAPI

from api.answers import EXAMPLE
from api.auth import OPEN_PATHS
from api.middleware import BODY_BYTES, LIST_BYTES
from api.problems import MEDIA_TYPE, Problem

Responses = dict[int | str, dict[str, Any]]


def problem(status: int, description: str) -> Responses:
    """Return the declaration of an answer that is a problem document."""
    return {status: {"model": Problem, "description": description}}


_HEADERS: Final = {
    "Allow": "The methods of the path.",
    "Content-Disposition": "The name of the file.",
    "Idempotency-Replayed": "`true` if the same request was accepted before.",
    "Location": "The address of the job.",
    "Preference-Applied": "`respond-async` if the answer did not wait for the decision.",
    "Retry-After": "After how many seconds to try again.",
    "Vary": "The answer depends on the header Accept.",
    "WWW-Authenticate": "How to send a key.",
    "traceresponse": "W3C Trace Context: the span of this request.",
}


def header(*names: str, status: int = 200) -> Responses:
    """Return the declaration of an answer's headers."""
    return {status: {"headers": _headers(*names)}}


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in names}


_JSON: Final = "application/json"
_STREAM: Final = "text/event-stream"


def stream(description: str, events: Mapping[str, Any]) -> Responses:
    """Return the declaration of server-sent events: their names, and the types of their data.

    ``itemSchema`` is of OpenAPI 3.2; FastAPI writes it as well. Other programs read a text.
    """
    items = [
        {
            "type": "object",
            "required": ["event", "data", "id"],
            "properties": {
                "event": {"const": name},
                "data": {"type": "string", "contentMediaType": _JSON},
                "id": {"type": "string"},
            },
        }
        for name in events
    ]
    content = {_STREAM: {"schema": {"type": "string"}, "itemSchema": {"oneOf": items}}}
    # FastAPI adds the types to the document, in their order; ``_set_item_types`` moves them
    data: Any = Union[tuple(events.values())]  # noqa: UP007  # | joins just two
    return {200: {"description": description, "content": content, "model": data}}


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
_MALFORMED: Final = "The request or its JSON is malformed, or a single header is repeated."
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
        if app.openapi_schema is not None:
            return app.openapi_schema  # which was corrected when it was made
        document = before()
        # FastAPI would leave out what is null in it
        document["components"]["schemas"]["Charge"]["example"] = EXAMPLE
        for path, operations in document["paths"].items():
            for operation in operations.values():
                _declare_middleware(path, operation, key_required=key_required)
                for status, answer in operation["responses"].items():
                    _set_media_type(answer)
                    _set_item_types(answer)
                    if status == "503" and path not in OPEN_PATHS:
                        answer["headers"] = _headers("Retry-After")
                for parameter in operation.get("parameters", ()):
                    _simplify(parameter)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _declare_middleware(path: str, operation: dict[str, Any], *, key_required: bool) -> None:
    """Document what the middleware answers before the route is called, and the key it checks.

    An operation whose route documents a key needs one in any case.
    """
    operation["responses"].setdefault("400", _problem_answer(_MALFORMED, None))
    key = {SECURITY_SCHEME: list[str]()}
    if path in OPEN_PATHS:
        operation["security"] = []
        return
    if key_required:
        operation["security"] = [key]
    operation.setdefault("security", [{}, key])
    for status, (description, header) in _AUTHENTICATION.items():
        answer = operation["responses"].setdefault(status, _problem_answer(description, header))
        if header:
            answer["headers"] = _headers(header)


def _problem_answer(description: str, header: str | None) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _headers(header) if header else {},
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _set_media_type(answer: dict[str, Any]) -> None:
    """Set the media type of a documented error, which FastAPI takes to be its route's own."""
    content = answer.get("content", {})
    for kind in [kind for kind, shape in content.items() if "Problem" in str(shape)]:
        content[MEDIA_TYPE] = content.pop(kind)


def _set_item_types(answer: dict[str, Any]) -> None:
    """Add the types of a stream's data, which FastAPI takes to be an answer of its own."""
    content = answer.get("content", {})
    if _STREAM in content:
        items, types = (
            content[_STREAM]["itemSchema"]["oneOf"],
            content.pop(_JSON)["schema"]["anyOf"],
        )
        for item, data in zip(items, types, strict=True):
            item["properties"]["data"]["contentSchema"] = data


def _simplify(parameter: dict[str, Any]) -> None:
    """Document a parameter as a client sends it.

    No header or query can hold null. What a parameter means is said once.
    """
    schema = _without_null(parameter["schema"])
    schema.pop("description", None)
    schema.pop("title", None)
    parameter["schema"] = schema


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    kinds = [each for each in schema.get("anyOf", ()) if each != _NULL]
    if len(kinds) != 1:
        return dict(schema)
    return {**kinds[0], **{name: value for name, value in schema.items() if name != "anyOf"}}
