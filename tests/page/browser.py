"""Debian's Chromium, driven by playwright; the page it shows must load nothing else.

The headless shell draws the same as the browser with windows, in half the processor time.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Error,
    Page,
    Request,
    async_playwright,
)

PROGRAMS: Final = ("chromium-headless-shell", "chromium")
DESKTOP: Final = {"width": 1280, "height": 900}
PHONE: Final = {"width": 390, "height": 844}


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run a browser for as long as the context lasts."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program, f"Chromium is missing: deploy/local/bootstrap {PROGRAMS[0]}"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def page_of(
    browser: Browser,
    port: int,
    *,
    allow_errors: Sequence[str] = (),
    **more: Any,  # noqa: ANN401  # see new_context
) -> AsyncIterator[Page]:
    """Open the page of the api at ``port``; fail if it logs an error or asks another address.

    An error whose text has one of ``allow_errors`` in it is meant.
    """

    def on_console(said: ConsoleMessage) -> None:
        if said.type == "error" and not any(each in said.text for each in allow_errors):
            problems.append(said.text)

    def on_error(error: Error) -> None:
        problems.append(str(error))

    def on_request(asked: Request) -> None:
        if not asked.url.startswith(origin):
            problems.append(asked.url)

    problems: list[str] = []
    origin = f"http://localhost:{port}/"
    context = await browser.new_context(**{"viewport": DESKTOP, "locale": "en-GB", **more})
    try:
        page = await context.new_page()
        page.on("pageerror", on_error)
        page.on("console", on_console)
        page.on("request", on_request)
        await page.goto(origin)
        yield page
        assert problems == []
    finally:
        await context.close()
