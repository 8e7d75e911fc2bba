"""``/docs``: the OpenAPI document in Swagger UI, the runbook, and a page for each problem.

The viewer's files are in ``api/viewer``: nothing is loaded from elsewhere. They are the same for
everybody, and need no key: a browser has none to send before the page is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from html import escape
from http import HTTPStatus
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse, Response

from api import problem_types
from api.middleware import ALLOW_NOTHING
from api.problem_types import ProblemType

FOLDER: Final = Path(__file__).parent / "viewer"
RUNBOOK: Final = Path(__file__).parent / "runbook.html"  # generated from docs/runbook.md
KINDS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "start.js": "text/javascript",
}
# Swagger UI sets styles of elements, and has its pictures in its style sheet
VIEWER_POLICY: Final = (
    f"{ALLOW_NOTHING}; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'"
)
TEXT_POLICY: Final = f"{ALLOW_NOTHING}; style-src 'unsafe-inline'"  # the page's own style
_PROBLEMS: Final = "Problems of the api"
_CACHED: Final = {"Cache-Control": "max-age=3600"}
_VIEWER: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Smart grid dispatcher: the api</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="viewer"></div>
<noscript>
This page needs JavaScript. The same for programs: <a href="/openapi.json">/openapi.json</a>
</noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:45rem;margin:2rem auto;padding:0 1rem}"
    "code{font-family:ui-monospace,monospace}td{padding:.2rem .8rem .2rem 0;vertical-align:top}"
    "pre{overflow:auto}"
    ":root{color-scheme:light dark}"
)


def router() -> APIRouter:
    """Return the routes."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs")
    async def docs() -> Response:
        return HTMLResponse(_VIEWER, headers={"Content-Security-Policy": VIEWER_POLICY})

    @routes.get("/docs/runbook")
    async def runbook() -> Response:
        return _text("Runbook", _runbook())

    @routes.get(problem_types.PATH)
    async def problems() -> Response:
        return _text(_PROBLEMS, _list(problem_types.TYPES.values()))

    @routes.get(problem_types.PATH + "/{code}")
    async def problem(code: str) -> Response:
        if (kind := problem_types.TYPES.get(code)) is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return _text(_PROBLEMS, _page(kind))

    @routes.get("/docs/{name}")
    async def file(name: str) -> Response:
        if name not in KINDS:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return Response(_content(name), media_type=KINDS[name], headers=_CACHED)

    return routes


@cache
def _content(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


@cache
def _runbook() -> str:
    return RUNBOOK.read_text(encoding="utf-8")


def _text(title: str, body: str) -> Response:
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style>{body}</html>"
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": TEXT_POLICY})


def _list(kinds: Iterable[ProblemType]) -> str:
    rows = "".join(
        f'<tr><td>{each.status.value}<td><a href="{each.uri}"><code>{each.code}</code></a>'
        f"<td>{escape(each.meaning)}</tr>"
        for each in kinds
    )
    return f"<h1>Problems that the api answers</h1><table>{rows}</table>"


def _page(kind: ProblemType) -> str:
    return (
        f"<h1><code>{kind.code}</code></h1><p>{kind.status.value} {kind.status.phrase}</p>"
        f"<p>{escape(kind.meaning)}</p><h2>What to do</h2><p>{escape(kind.remedy)}</p>"
        f'<p><a href="{problem_types.PATH}">All problems</a>, <a href="/docs">the api</a></p>'
    )
