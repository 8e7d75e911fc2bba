"""Reading every substation's metrics page, each in its own time, so that none delays another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp

from dispatcher import readings
from dispatcher.readings import Reading
from dispatcher.target_file import TargetFile
from dispatcher.targets import Target
from grid.errors import MalformedReading
from grid.waiting import within

PAGE_BYTES = 1024 * 1024
FILE_PERIOD_SECONDS = 1.0

OnReading = Callable[[str, Reading, float], None]  # substation, reading, when it was asked for
OnFailure = Callable[[str, str], None]  # substation, problem


class Scraper:
    """Scrapes every target each ``period`` seconds, giving a page at most ``timeout`` seconds."""

    def __init__(
        self,
        file: TargetFile,
        period: float,
        timeout: float,
        *,
        on_targets: Callable[[dict[str, Target]], None],
        on_reading: OnReading,
        on_failure: OnFailure,
    ) -> None:
        self._file = file
        self._period = period
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._on_targets = on_targets
        self._on_reading = on_reading
        self._on_failure = on_failure
        self._tasks: dict[Target, asyncio.Task[None]] = {}
        self._hurry: dict[str, asyncio.Event] = {}

    def hurry(self, substation: str) -> None:
        """Scrape a substation now, without waiting for its period to pass."""
        if (event := self._hurry.get(substation)) is not None:
            event.set()

    async def run(self) -> None:
        """Scrape until the task is cancelled."""
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=self._timeout, auto_decompress=False
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            try:
                while True:
                    if (found := self._file.changed()) is not None:
                        self._on_targets(found)
                        self._follow(session, group, set(found.values()))
                    await asyncio.sleep(FILE_PERIOD_SECONDS)
            finally:
                self._tasks.clear()

    def _follow(
        self, session: aiohttp.ClientSession, group: asyncio.TaskGroup, wanted: set[Target]
    ) -> None:
        for gone in self._tasks.keys() - wanted:
            self._tasks.pop(gone).cancel()
        for new in wanted - self._tasks.keys():
            self._tasks[new] = group.create_task(self._keep_scraping(session, new))

    async def _keep_scraping(self, session: aiohttp.ClientSession, target: Target) -> None:
        """Scrape a target for as long as it is one.

        aiohttp loses a cancellation that comes in the moment in which a page has taken too long.
        """
        loop, this = asyncio.get_running_loop(), asyncio.current_task()
        hurry = self._hurry[target.substation] = asyncio.Event()
        while self._tasks.get(target) is this:
            hurry.clear()
            due = loop.time() + self._period
            await self._scrape(session, target)
            await within(due - loop.time(), hurry.wait())

    async def _scrape(self, session: aiohttp.ClientSession, target: Target) -> None:
        asked_at = asyncio.get_running_loop().time()
        try:
            reading = readings.parse(await _page(session, target.url))
        except TimeoutError:
            problem = f"its metrics page took longer than {self._timeout.total:g} s"
            self._on_failure(target.substation, problem)
        except (aiohttp.ClientError, OSError) as error:
            self._on_failure(target.substation, f"its metrics page cannot be read: {error}")
        except MalformedReading as error:
            self._on_failure(target.substation, str(error))
        else:
            self._on_reading(target.substation, reading, asked_at)


async def _page(session: aiohttp.ClientSession, url: str) -> str:
    headers = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"}
    async with session.get(url, headers=headers, allow_redirects=False) as answer:
        if answer.status != 200:  # noqa: PLR2004
            raise MalformedReading(f"its metrics page answers with status {answer.status}")
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise MalformedReading("its metrics page is compressed, though that was not asked for")
        page = bytearray()
        async for chunk in answer.content.iter_any():
            page += chunk
            if len(page) > PAGE_BYTES:
                raise MalformedReading(f"its metrics page is longer than {PAGE_BYTES} bytes")
    return page.decode("utf-8", errors="replace")
