"""Metrics pages on free ports, good ones and hostile ones, and the target file that names them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from deploy.local.ports import HOST

DRIP_SECONDS = 0.02  # no single read takes longer than this
GOOD = "ev_charging_load 2\n"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def write(file: Path, targets: dict[str, str]) -> None:
    """Replace a target file."""
    groups = [{"targets": [at], "labels": {"substation": name}} for name, at in targets.items()]
    new = file.with_suffix(".new")
    new.write_text(json.dumps(groups))
    new.replace(file)


@asynccontextmanager
async def serving(*handlers: Handler) -> AsyncIterator[list[str]]:
    """Serve metrics pages on free ports, one each; yield their addresses."""
    runners: list[web.AppRunner] = []
    addresses = []
    try:
        for handler in handlers:
            app = web.Application()
            app.router.add_get("/metrics", handler)
            runners.append(
                runner := web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
            )
            await runner.setup()
            await web.TCPSite(runner, HOST, 0).start()
            addresses.append(f"{HOST}:{runner.addresses[0][1]}")
        yield addresses
    finally:
        for runner in runners:
            await runner.cleanup()


async def good(_: web.Request) -> web.Response:
    """Answer as a substation does."""
    return web.Response(text=GOOD)


def answering(body: str | bytes = GOOD, status: int = 200, **headers: str) -> Handler:
    """Return a handler that always answers the same."""
    data = body.encode() if isinstance(body, str) else body

    async def handle(_: web.Request) -> web.Response:
        return web.Response(
            body=data, status=status, headers={n.replace("_", "-"): v for n, v in headers.items()}
        )

    return handle


async def hangs(_: web.Request) -> web.Response:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def hangs_after_half(request: web.Request) -> web.StreamResponse:
    """Answer correctly, but never finish."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(GOOD.encode())
    await asyncio.Event().wait()
    return answer


async def drips(request: web.Request) -> web.StreamResponse:
    """Send a byte now and then, so that no single read takes long."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(b"#")
        await asyncio.sleep(DRIP_SECONDS)


async def endless(request: web.Request) -> web.StreamResponse:
    """Send without end, as fast as possible."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(b"# nothing\n" * 6_000)


async def cut_off(request: web.Request) -> web.StreamResponse:
    """Break the connection in the middle of a page."""
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(GOOD.encode())
    assert request.transport is not None
    request.transport.close()
    return answer
