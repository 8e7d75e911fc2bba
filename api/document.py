"""The OpenAPI document, put right where FastAPI says more than is so."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

_NULL: Final = {"type": "null"}


def install(app: FastAPI) -> None:
    """Put an app's document right, whenever it is asked for."""
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
    """Return the schema of a parameter: it can be left out, but no header or query holds a null."""
    kinds = [each for each in schema.get("anyOf", ()) if each != _NULL]
    if len(kinds) != 1:
        return schema
    return {**kinds[0], **{name: value for name, value in schema.items() if name != "anyOf"}}
