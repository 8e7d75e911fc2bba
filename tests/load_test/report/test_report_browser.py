"""The report in a browser: readable by everybody, at any width, and with nothing to load."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

from tests.load_test.report.test_report_page import made, written
from tests.page.browser import DESKTOP, PHONE, chromium

pytestmark = pytest.mark.integration


async def check(page: Page) -> None:
    """Check that axe finds nothing, and that nothing is wider than the page."""
    found = (await Axe().run(page)).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_report_is_accessible_and_loads_nothing(tmp_path: Path) -> None:
    """In light and dark, on a desktop and on a phone; no chart's text lies outside of it."""
    written(tmp_path, made(substations=3))
    address = (tmp_path / "report.html").as_uri()
    asked: list[str] = []
    async with chromium() as browser:
        for size in (DESKTOP, PHONE):
            for scheme in ("light", "dark"):
                context = await browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
                page = await context.new_page()
                page.on("request", lambda request: asked.append(request.url))
                page.on("console", lambda said: asked.append(said.text))
                await page.goto(address)
                await check(page)
                outside = await page.evaluate(
                    "[...document.querySelectorAll('svg')].flatMap(svg => {"
                    "  const box = svg.getBoundingClientRect();"
                    "  return [...svg.querySelectorAll('text')].filter(text => {"
                    "    const own = text.getBoundingClientRect();"
                    "    return own.left < box.left - 1 || own.right > box.right + 1;"
                    "  }).map(text => text.textContent);})"
                )
                assert outside == []
                await context.close()
    assert set(asked) == {address}
