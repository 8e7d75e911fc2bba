"""Corrections to the OpenAPI document where FastAPI declares more than the api accepts."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

_NULL: Final = {"type": "null"}


def install(app: FastAPI) -> None:
    """Correct an app's document whenever it is requested."""
    before = app.openapi

    def openapi() -> dict[str, Any]:
        document = before()
        for operations in document["paths"].values():
            for operation in operations.values():
                for each in operation.get("parameters", ()):
                    each["schema"] = _without_null(each["schema"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter's schema without null, which no header or query can hold."""
    kinds = [each for each in schema.get("anyOf", ()) if each != _NULL]
    if len(kinds) != 1:
        return schema
    return {**kinds[0], **{name: value for name, value in schema.items() if name != "anyOf"}}
