"""The page of a whole system, with a real RabbitMQ: from a button to the end of a job."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from grid import topology
from grid.messages import ChargeRequest
from tests.broker import VirtualHost
from tests.end_to_end.test_parked import publish
from tests.operators import KEY, operated
from tests.page.browser import chromium, page_of
from tests.prometheus import Prometheus
from tests.system import QUICK, System

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


async def test_page_shows_what_fires_in_a_real_prometheus(
    vhost: VirtualHost, tmp_path: Path
) -> None:
    """Until it runs, the page says that it cannot be asked."""
    link = "https://runbooks.example/one"
    texts = {"summary": "It is {{ $value }}", "runbook_url": link}
    rule = {"alert": "AlwaysOne", "expr": "vector(1) == 1", "annotations": texts}
    (tmp_path / "prometheus").mkdir()
    prometheus = Prometheus(tmp_path / "prometheus", tmp_path, [rule])
    api = {"api": {"PROMETHEUS_URL": prometheus.url}}
    with System(vhost, tmp_path, substations=1, special=api) as system:
        assert "Prometheus" not in system.log("api")
        async with chromium() as browser, page_of(browser, system.ports["api"]) as page:
            alert = page.locator("[data-alert]")
            await expect(alert).to_contain_text("Prometheus cannot be asked for its alerts")
            with prometheus:
                await expect(alert).to_contain_text("It is 1", timeout=20_000)
                runbook = alert.get_by_role("link", name="Runbook")
                assert await runbook.get_attribute("href") == link
        assert system.log("api").count("Prometheus can") == 2


async def test_page_replays_and_discards_what_is_parked(vhost: VirtualHost, tmp_path: Path) -> None:
    """A request whose substation comes later is replayed, and what is no request is given up."""
    api = {"api": operated(tmp_path)}
    with System(vhost, tmp_path, substations=2, environment=QUICK, special=api) as system:
        system.write_targets(["substation1"])
        async with (
            chromium() as browser,
            page_of(browser, system.ports["api"], allow_errors=["status of 401"]) as page,
        ):
            await expect(page.locator("#rows tbody tr")).to_have_count(1)
            early = ChargeRequest("early", time.time(), eligible_substations=("substation2",))
            await _request(vhost, "early", early.encode())
            await _request(vhost, "broken", b"{")
            alert = page.locator("[data-alert=RequestsParked]")
            await expect(alert).to_contain_text("2 requests are parked")
            await alert.get_by_role("button", name="Show them").click()
            rows = page.locator("#jobs tbody tr")
            await expect(rows).to_have_count(2)
            await expect(rows.filter(has_text="early")).to_contain_text("no such substation")
            await expect(rows.filter(has_text="broken")).to_contain_text("not JSON")

            dialog, toast = page.locator("#job-dialog"), page.locator(".toast")
            await page.get_by_role("button", name="Job broken").click()
            await dialog.get_by_role("button", name="Replay this job").click()
            await page.locator("#key-input").fill(KEY)
            await page.keyboard.press("Enter")
            await expect(toast).to_contain_text("0 jobs replayed, 1 refused: ")
            await dialog.get_by_role("button", name="Discard it").click()
            await dialog.get_by_role("button", name="Discard it for good").click()
            await expect(toast).to_have_text("1 job discarded.")
            await expect(dialog.locator(".job-state")).to_contain_text("cancelled")
            await page.keyboard.press("Escape")
            await expect(alert).to_contain_text("1 request is parked")

            system.write_targets(system.substations)
            usable = page.locator("#rows tr[data-kind=available]")
            await expect(usable).to_have_count(2, timeout=20_000)
            await page.get_by_role("button", name="Job early").click()
            await dialog.get_by_role("button", name="Replay this job").click()
            await expect(toast).to_have_text("1 job replayed.")
            await expect(dialog.locator(".job-state")).to_contain_text("completed at substation2")
            await page.keyboard.press("Escape")
            await expect(page.locator("[data-alert]")).to_have_count(0)

            for job in ("wrong-1", "wrong-2"):
                await _request(vhost, job, b"[]")
            await expect(rows).to_have_count(2)
            await page.locator("#job-search").fill("WRONG")
            await page.locator("#job-bulk").click()
            await page.get_by_role("button", name="Discard 2 jobs").click()
            await expect(toast).to_have_text("2 jobs discarded.")
            await expect(rows).to_have_count(0)


async def _request(vhost: VirtualHost, job: str, body: bytes) -> None:
    """Publish a request past the api."""
    exchange, key = topology.REQUESTS_EXCHANGE, topology.REQUESTS
    await asyncio.to_thread(publish, vhost, exchange, key, job, body)
