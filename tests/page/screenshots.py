"""``python -m tests.page.screenshots``: draw the pictures of the page into ``docs/pictures``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, Page

from deploy.local.ports import HOST
from tests.page.browser import DESKTOP, PHONE, chromium, page_of
from tests.page.fed import FedApi

FOLDER: Final = Path(__file__).parents[2] / "docs" / "pictures"
FEW: Final = ["substation1", "substation2", "substation3"]
DEPOTS: Final = ["airport", "depot-north", "depot-south", "docks", "market", "station"]
MANY: Final = [f"{DEPOTS[number % 6]}-{number // 6 + 1}" for number in range(300)]
DEAD: Final = "its metrics page cannot be read: connection refused"
STALE: Final = "its load was read 47.3 s ago: that is too old"


async def take(browser: Browser, api: FedApi, name: str, **more: Any) -> None:  # noqa: ANN401
    """Save a picture of a fed api's page, all of it."""
    clip = more.pop("clip", None)
    async with page_of(browser, api.bench.port, **more) as page:
        await settled(page, api)
        if clip is not None:
            await clip(page)
        FOLDER.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=FOLDER / f"{name}.png", full_page=clip is None)


async def settled(page: Page, api: FedApi) -> None:
    """Wait until the page shows what the api knows."""
    await page.locator(".connection[data-state=live]").wait_for()
    await page.locator("#rows tbody tr").first.wait_for()
    if api.dispatches:
        api.second()
    else:
        api.bench.feed.end_second([], "")
    await page.wait_for_timeout(700)


async def open_job(page: Page) -> None:
    """Open a job that was charged."""
    await page.locator("#jobs tr[data-state=charging] button.name").first.click()
    await page.locator(".candidates tbody tr").first.wait_for()


async def pictures(wanted: set[str]) -> None:
    """Save all pictures, or those that are wanted."""

    def is_wanted(name: str) -> bool:
        return not wanted or name in wanted

    async with chromium() as browser:
        few = FedApi(FEW, 0.85)
        few.limits["substation3"] = 10
        few.run(320)
        async with few.bench.serve():
            feeding = asyncio.create_task(flush(few))
            if is_wanted("page-light"):
                await take(browser, few, "page-light")
            if is_wanted("page-dark"):
                await take(browser, few, "page-dark", color_scheme="dark")
            phone = {"viewport": PHONE, "device_scale_factor": 2, "is_mobile": True}
            if is_wanted("page-phone"):
                await take(browser, few, "page-phone", has_touch=True, **phone)
            if is_wanted("page-job"):
                await take(browser, few, "page-job", clip=open_job, viewport=DESKTOP)
            for _ in range(12):
                few.second_of_silence()
            if is_wanted("page-dispatcher-dead"):
                await take(browser, few, "page-dispatcher-dead")
            feeding.cancel()
        await tour(browser, is_wanted)
        many = FedApi(MANY, 95)
        many.drained.update(MANY[17:20])
        many.broken.update(dict.fromkeys(MANY[40:42], STALE))
        many.run(120)
        many.park("poison: the message was delivered 5 times and never acknowledged")
        many.second()
        async with many.bench.serve():
            feeding = asyncio.create_task(flush(many))
            if is_wanted("page-300"):
                await take(browser, many, "page-300")
            feeding.cancel()


async def tour(browser: Browser, is_wanted: Callable[[str], bool]) -> None:
    """Save the pictures of docs/tour.md: a rush hour like that of ``deploy.demo``."""
    api = FedApi(FEW, 0.2)
    api.run(60)
    api.rate = 0.8
    api.run(90)

    async def take_part(_: Page) -> None:
        """Leave the page as it is: of it, the part that fits a window is taken."""

    async with api.bench.serve():
        feeding = asyncio.create_task(flush(api))
        for name, seconds, broken, drained in (
            ("tour-rush", 1, (), ()),
            ("tour-dead", 45, FEW[1:2], ()),
            ("tour-back", 60, (), ()),
            ("tour-drained", 25, (), FEW[2:]),
            ("tour-over", 75, (), ()),
        ):
            api.broken = dict.fromkeys(broken, DEAD)
            api.drained = {*drained}
            api.rate = 0.2 if name == "tour-over" else api.rate
            api.run(seconds)
            if is_wanted(name):
                await take(browser, api, name, clip=take_part, viewport=DESKTOP)
        feeding.cancel()


async def flush(api: FedApi) -> None:
    """Write to the readers as the service does, while the clock stands still."""
    for number in count():
        await asyncio.sleep(0.05)
        api.bench.feed.flush()
        if number % 20 == 0:
            api.bench.feed.tell_status([], "")


if __name__ == "__main__":
    assert HOST == "127.0.0.1"  # what localhost leads to
    asyncio.run(pictures(set(sys.argv[1:])))
