"""``/docs``: the OpenAPI document as one page to read, with nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from api.middleware import ALLOW_NOTHING

POLICY: Final = f"{ALLOW_NOTHING}; style-src 'unsafe-inline'"  # the page's own style, and no script
_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h2{font-family:ui-monospace,monospace;font-size:1.1rem;border-top:1px solid #ccc;padding-top:1rem}
h2 b{background:#0b5;color:#fff;border-radius:4px;padding:.1rem .5rem;margin-right:.5rem}
table{border-collapse:collapse;width:100%}td{padding:.15rem .6rem .15rem 0;vertical-align:top}
td:first-child{font-family:ui-monospace,monospace;white-space:nowrap;width:16rem}
pre{background:#f4f4f4;padding:1rem;overflow:auto;font-size:.85rem}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#242424}}
"""


def install(app: FastAPI) -> None:
    """Serve the page of an app whose document is at ``/openapi.json``."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(app.openapi()), headers={"Content-Security-Policy": POLICY})


def page(document: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    info = document["info"]
    parts = "".join(_operations(document))
    shapes = "".join(_shapes(document.get("components", {}).get("schemas", {})))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}'
        f"</title><style>{_STYLE}</style><h1>{escape(info['title'])}</h1>"
        f"<p>{escape(info['description'])} The same for programs: "
        f'<a href="/openapi.json">/openapi.json</a>.</p>{parts}<h1>Shapes</h1>{shapes}</html>'
    )


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            rows = "".join(_row(*row) for row in [*_inputs(operation), *_answers(operation)])
            text = escape(operation.get("description") or operation.get("summary") or "")
            yield f"<h2><b>{method.upper()}</b>{escape(path)}</h2><p>{text}</p>"
            yield f"<table>{rows}</table>"


def _inputs(operation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for each in operation.get("parameters", ()):
        need = "" if each.get("required") else "optional. "
        yield f"{each['in']} {each['name']}", need + each.get("description", "")
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield "body", " or ".join(_named(content["schema"]))


def _answers(operation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for status, answer in operation["responses"].items():
        shapes = [
            name
            for content in answer.get("content", {}).values()
            for name in _named(content.get("schema", {}))
        ]
        yield status, ": ".join([answer["description"], *shapes])


def _named(schema: Mapping[str, Any]) -> list[str]:
    """Return the names of the schemas that a schema refers to."""
    if "$ref" in schema:
        return [schema["$ref"].rpartition("/")[2]]
    if "items" in schema:
        return [f"a list of {name}" for name in _named(schema["items"])]
    return [name for each in schema.get("anyOf", ()) for name in _named(each)]


def _shapes(schemas: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in schemas.items():
        yield f"<h2>{escape(name)}</h2><pre>{escape(json.dumps(schema, indent=1))}</pre>"


def _row(name: str, text: str) -> str:
    return f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>"
