"""Header fields that come more than once: joined if they are lists, else rejected.

If two readers use different values of one field, a request can get past the first reader's check.
Sources: RFC 9110, 5.2 and 5.3; RFC 7240 for Prefer; W3C Trace Context.
"""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from api import problems

# fields that this api reads, and whose specification allows one value; a repeated Host,
# Content-Length or Transfer-Encoding is refused by the server (``grid.connections``)
SINGLE: Final = {
    b"authorization": "Authorization",
    b"content-type": "Content-Type",
    b"idempotency-key": "Idempotency-Key",
    b"origin": "Origin",
    b"sec-fetch-site": "Sec-Fetch-Site",
}
LISTS: Final = frozenset({b"prefer", b"tracestate"})
# ignored if repeated: no request is refused over its trace
_IGNORED: Final = frozenset({b"traceparent"})


class RepeatedHeaders:
    """Middleware that answers 400 if a header comes more than once that must be single."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with the lines of each list joined into one."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        lines: list[tuple[bytes, bytes]] = scope["headers"]
        names = [name for name, _ in lines]
        if len(set(names)) < len(names):
            repeated = {name for name, count in Counter(names).items() if count > 1}
            if wrong := sorted(SINGLE[name] for name in repeated & SINGLE.keys()):
                detail = f"send the header {' and '.join(wrong)} once: it has one value"
                await problems.respond(HTTPStatus.BAD_REQUEST, detail)(scope, receive, send)
                return
            scope["headers"] = _joined(lines, repeated)
        await self._app(scope, receive, send)


def _joined(lines: list[tuple[bytes, bytes]], repeated: set[bytes]) -> list[tuple[bytes, bytes]]:
    """Return the lines with each list in one, and without what is to be ignored."""
    rest = [each for each in lines if each[0] not in repeated & (LISTS | _IGNORED)]
    lists = {
        each: b",".join(value for name, value in lines if name == each)
        for each in sorted(repeated & LISTS)
    }
    return [*rest, *lists.items()]
