"""The page of a whole system, with a real RabbitMQ: from a button to the end of a job."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.broker import VirtualHost
from tests.page.browser import chromium, page_of
from tests.system import System

pytestmark = pytest.mark.e2e

SILENT_SECONDS = 3.0
# by the page's clock, which is this machine's: playwright looks once a second only
WATCH = """() => {
  window.alerted = new Promise((resolve) => {
    new MutationObserver(() => {
      if (document.querySelector("[data-alert=DispatcherSilent]")) resolve(Date.now() / 1000);
    }).observe(document.body, { childList: true, subtree: true });
  });
}"""
SHORT = {"CHARGE_SECONDS_MIN": "1", "CHARGE_SECONDS_MAX": "1.5"}  # long enough to cancel


async def test_page_shows_what_is_sent_and_who_is_silent(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Requests sent by a button are charged; a dispatcher that hangs is named within 3 s.

    It is so without Prometheus. An api that stops ends its streams, and the page says that too.
    """
    with System(vhost, tmp_path, environment=SHORT) as system:
        async with chromium() as browser:
            await _follow(browser, system)
        assert "unhandled" not in system.log("api")


async def _follow(browser: Browser, system: System) -> None:
    meant = ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "status of 503"]
    async with page_of(browser, system.ports["api"], allow_errors=meant) as page:
        await expect(page.locator("#rows tbody tr[data-kind=available]")).to_have_count(3)
        await page.get_by_role("button", name="Send 10 requests").click()
        await expect(page.locator("#jobs tr[data-state=completed]")).to_have_count(10)
        await page.locator("#jobs button.name").first.click()
        await expect(page.locator("#job-dialog [data-chosen]")).to_contain_text("chosen")
        await page.keyboard.press("Escape")
        await expect(page.locator("[data-alert]")).to_have_count(0)
        await asyncio.sleep(1.5)  # nothing changes: the dispatcher only says that it lives
        await expect(page.locator("[data-alert]")).to_have_count(0)

        alert = page.locator("[data-alert=DispatcherSilent]")
        await page.evaluate(WATCH)
        began = time.time()
        system.tell("dispatcher", signal.SIGSTOP)
        async with asyncio.timeout(30):
            took = await page.evaluate("alerted") - began
        assert took < SILENT_SECONDS, took
        await expect(alert).to_be_visible()
        await page.get_by_role("button", name="Send 1 request", exact=True).click()
        await page.locator("#jobs tr[data-state=queued] button.name").click()
        await page.get_by_role("button", name="Cancel this job").click()
        await expect(page.locator(".toast")).to_contain_text("cancelled")
        system.tell("dispatcher", signal.SIGCONT)
        await expect(page.locator("#job-dialog .job-state")).to_contain_text("cancelled")
        await page.keyboard.press("Escape")
        await expect(alert).to_have_count(0)

        began = time.monotonic()
        await asyncio.to_thread(system.end, "api")
        assert time.monotonic() - began < SILENT_SECONDS
        await expect(page.locator("[data-alert=ApiSilent]")).to_be_visible()
        system.start("api")
        await expect(page.locator("#connection")).to_have_text("Live", timeout=20_000)
