"""What every service does with paths and methods."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

IS_HEAD: Final = "grid.is_head"  # in the scope of a GET that was a HEAD: its answer must end
_FOUND: Final = ("route", "endpoint")  # what Starlette notes in a request's scope


class TrailingSlash:
    """Middleware that answers ``/charge/`` as ``/charge``: a redirect would lose many a POST.

    It must be outside of all that decides by a request's path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with one slash less at the end of its path."""
        if scope["type"] == "http" and scope["path"] != "/":
            # a slash that was sent as %2F belongs to a name, but servers may not report it apart
            raw: bytes = scope.get("raw_path") or scope["path"].encode()
            if raw.endswith(b"/"):
                scope["path"] = scope["path"].removesuffix("/")
                scope["raw_path"] = raw.removesuffix(b"/")
        await self._app(scope, receive, send)


class HeadAsGet:
    """Middleware that answers HEAD wherever there is a GET; the server leaves the body out.

    It must be inside of what looks at a request's method.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, HEAD as GET."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        inner = {**scope, "method": "GET", IS_HEAD: True}
        try:
            await self._app(inner, receive, send)
        finally:
            scope.update({name: inner[name] for name in _FOUND if name in inner})
