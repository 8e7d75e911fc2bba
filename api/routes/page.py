"""``/``: the page that shows what happens, and its files; see ``api/page``."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException, Response

from api.auth import PAGE_BELOW
from api.middleware import ALLOW_NOTHING

FOLDER: Final = Path(__file__).parents[1] / "page"
# only files of this api, and none of it in the page itself
POLICY: Final = (
    f"{ALLOW_NOTHING}; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
)
KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_HEADERS: Final = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}


@cache
def _files() -> dict[str, bytes]:
    """Return the page's files by their paths below ``FOLDER``."""
    return {
        path.relative_to(FOLDER).as_posix(): path.read_bytes()
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in KINDS
    }


def router() -> APIRouter:
    """Return the routes."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def page() -> Response:
        return _answer("index.html")

    @routes.get(PAGE_BELOW + "{name:path}")
    async def file(name: str) -> Response:
        return _answer(name)

    return routes


def _answer(name: str) -> Response:
    if (body := _files().get(name)) is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return Response(body, media_type=KINDS[Path(name).suffix], headers=_HEADERS)
