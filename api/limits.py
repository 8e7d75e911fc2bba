"""The limit on what a request may carry, counted as it arrives and not as its header claims."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A connection closed on a client that still sends is reset, and the answer lost: so most of what is
# too long is read after all, and thrown away.
DRAIN_BYTES: Final = 16 * 1024 * 1024
DRAIN_SECONDS: Final = 2.0


class BodyLimit:
    """Middleware that answers 413 to a body longer than ``limit`` gives for its path, in bytes."""

    def __init__(self, app: ASGIApp, limit: Callable[[str], int]) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; reading more of it than the limit fails."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit, taken = self._limit(scope["path"]), 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                await _drain(receive, message)
                raise HTTPException(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"the body is longer than {limit} bytes: send less at once",
                    {"Connection": "close"},
                )
            return message

        await self._app(scope, counted, send)


async def _drain(receive: Receive, message: Message) -> None:
    """Read what is left of a body, within reason."""
    drained = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while message.get("more_body") and drained < DRAIN_BYTES:
                message = await receive()
                drained += len(message.get("body", b""))
