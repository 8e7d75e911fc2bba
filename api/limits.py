"""The limit on a request's body, counted as it arrives and not as its header claims."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# If a connection is closed while its client still sends, it is reset and the answer is lost. So
# most of a body that is too long is read after all, and discarded.
DRAIN_BYTES: Final = 16 * 1024 * 1024
DRAIN_SECONDS: Final = 2.0


class BodyLimit:
    """Middleware that answers 413 to a body longer than ``limit`` allows for its path, in bytes."""

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
    """Read the rest of a body, within reason."""
    drained = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while message.get("more_body") and drained < DRAIN_BYTES:
                message = await receive()
                drained += len(message.get("body", b""))
