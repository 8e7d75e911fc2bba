"""``python -m tests.page.screenshots``: draw the pictures of the page into ``docs/pictures``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, Page

from api.firing import Firing, Observed
from deploy.local.ports import HOST
from tests.page.browser import DESKTOP, PHONE, chromium, page_of
from tests.page.fed import FedApi

FOLDER: Final = Path(__file__).parents[2] / "docs" / "pictures"
FEW: Final = ["substation1", "substation2", "substation3"]
DEPOTS: Final = ["airport", "depot-north", "depot-south", "docks", "market", "station"]
MANY: Final = [f"{DEPOTS[number % 6]}-{number // 6 + 1}" for number in range(300)]
FULL: Final = Firing(
    "RequestsQueueNearlyFull",
    "rabbitmq-queues",
    "critical",
    "charge.requests holds 431022 messages and is nearly full",
    "At 500000 RabbitMQ refuses more, and the api answers 503 until the backlog shrinks.",
    since=None,
    runbook=None,
)
DISK: Final = Firing(
    "RabbitMQDiskLow",
    "rabbitmq",
    "warning",
    "RabbitMQ's disk is filling up",
    "rabbitmq:15692 has 1.3GiB of disk left, less than twice the limit at which it stops every "
    "publisher. Free some disk, or let consumers catch up.",
    since=None,
    runbook="docs/runbook.md#rabbitmqdisklow",
)
AS_PHONE: Final[dict[str, Any]] = {
    "viewport": PHONE,
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
DEAD: Final = "its metrics page cannot be read: connection refused"
STALE: Final = "its load was read 47.3 s ago: that is too old"


@dataclass(frozen=True, slots=True)
class Camera:
    """A browser, and which pictures of the page to save; all if none is named."""

    browser: Browser
    wanted: set[str]

    async def take(self, api: FedApi, name: str, **more: Any) -> None:  # noqa: ANN401
        """Save a picture of a fed api's page: all of it, or what ``clip`` has brought into view."""
        if self.wanted and name not in self.wanted:
            return
        clip = more.pop("clip", None)
        async with page_of(self.browser, api.bench.port, **more) as page:
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
    async with chromium() as browser:
        camera = Camera(browser, wanted)
        for take in (_few, _alerting, _tour, _many):
            await take(camera)


async def _few(camera: Camera) -> None:
    """Save pictures of what is usual, and of a dead dispatcher."""
    few = FedApi(FEW, 0.85)
    few.limits["substation3"] = 10
    few.run(320)
    async with served(few):
        await camera.take(few, "page-light")
        await camera.take(few, "page-dark", color_scheme="dark")
        await camera.take(few, "page-phone", **AS_PHONE)
        await camera.take(few, "page-job", clip=open_job, viewport=DESKTOP)
        for _ in range(12):
            few.second_of_silence()
        await camera.take(few, "page-dispatcher-dead")


async def _alerting(camera: Camera) -> None:
    """Save pictures of alerts, the api's and Prometheus's."""
    api = FedApi(FEW, 0.85)
    api.broken["substation2"] = STALE
    api.run(120)
    api.bench.observed = Observed([each._replace(since=api.bench.at - 60) for each in (FULL, DISK)])
    async with served(api):
        await camera.take(api, "page-alerts")
        await camera.take(api, "page-alerts-phone", color_scheme="dark", **AS_PHONE)


async def _tour(camera: Camera) -> None:
    """Save the pictures of docs/tour.md: a rush hour like that of ``deploy.demo``."""
    api = FedApi(FEW, 0.2)
    api.run(60)
    api.rate = 0.8
    api.run(90)

    async def as_it_is(_: Page) -> None:
        """Do nothing: of the page, the part that fits a window is taken."""

    async with served(api):
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
            await camera.take(api, name, clip=as_it_is, viewport=DESKTOP)


async def _many(camera: Camera) -> None:
    """Save a picture of very many substations."""
    many = FedApi(MANY, 95)
    many.drained.update(MANY[17:20])
    many.broken.update(dict.fromkeys(MANY[40:42], STALE))
    many.run(120)
    many.park("poison: the message was delivered 5 times and never acknowledged")
    many.second()
    async with served(many):
        await camera.take(many, "page-300")


@asynccontextmanager
async def served(api: FedApi) -> AsyncIterator[None]:
    """Serve a fed api, and write to its readers as the service does."""
    async with api.bench.serve():
        feeding = asyncio.create_task(flush(api))
        try:
            yield
        finally:
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
