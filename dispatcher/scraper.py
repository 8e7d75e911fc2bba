"""Scrapes the substations' metrics pages independently, so that none delays another."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import aiohttp
from yarl import URL

from dispatcher.resolver import LookUp, Resolver, look_up
from dispatcher.target_file import TargetFile
from dispatcher.targets import Target
from grid.errors import MalformedReading
from grid.isolation import Isolation
from grid.messages import shown
from grid.waiting import within
from scheduling import readings
from scheduling.readings import Reading

PAGE_BYTES = 1024 * 1024
FILE_INTERVAL_SECONDS = 1.0
OK: Final = 200
REDIRECTS: Final = (301, 302, 303, 307, 308)
MAX_REDIRECTS: Final = 3  # an app that is mounted at /metrics needs one, to /metrics/
MAX_PROBLEM: Final = 400  # characters of a reason, which may repeat what a page wrote
NAME_SHARE: Final = 0.5  # of a page's timeout: how long to wait for the look-up of its host's name


Scrape = Callable[[Target], Coroutine[Any, Any, None]]


class Receiver(Protocol):
    """Receives what is read."""

    def on_targets(self, targets: dict[str, Target]) -> None:
        """Handle a change of the target file."""

    def on_reading(self, substation: str, reading: Reading, asked_at: float) -> None:
        """Handle a page that was requested at ``asked_at``, in the loop's seconds."""

    def on_failure(self, substation: str, problem: str) -> None:
        """Handle a page that could not be read."""


class Scraper:
    """Scrapes every target each ``period`` seconds, each with a timeout of ``timeout`` seconds.

    ``clock`` returns Unix seconds, by which a page's own timestamps are measured.
    """

    def __init__(
        self,
        file: TargetFile,
        period: float,
        timeout: float,
        *,
        clock: Callable[[], float],
        isolation: Isolation,
        look_up: LookUp = look_up,
    ) -> None:
        self._file = file
        self._period = period
        self._timeout = timeout
        self._clock = clock
        self._isolation = isolation
        self._look_up = look_up
        self._tasks: dict[Target, asyncio.Task[None]] = {}
        self._hurry: dict[str, asyncio.Event] = {}

    def hurry(self, substation: str) -> None:
        """Scrape a substation now, without waiting for its period to pass."""
        if (event := self._hurry.get(substation)) is not None:
            event.set()

    async def run(self, receiver: Receiver) -> None:
        """Scrape until the task is cancelled; ``receiver`` gets what is read."""
        resolver = Resolver(NAME_SHARE * self._timeout, self._look_up)
        connector = aiohttp.TCPConnector(
            limit=0,
            use_dns_cache=False,
            resolver=resolver,
        )
        async with (
            aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),  # a page could fill a true one without end
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            try:
                while True:
                    # a file that cannot be taken over must not end the scraping of the targets
                    with self._isolation.of("the target file", self._file.mark_unusable):
                        if (found := await self._file.look()) is not None:
                            receiver.on_targets(found)
                            scrape = partial(self._keep_scraping, session, receiver)
                            self._follow(group, set(found.values()), scrape)
                    await asyncio.sleep(FILE_INTERVAL_SECONDS)
            finally:
                self._tasks.clear()

    def _follow(self, group: asyncio.TaskGroup, wanted: set[Target], scrape: Scrape) -> None:
        for gone in self._tasks.keys() - wanted:
            self._tasks.pop(gone).cancel()
        for new in wanted - self._tasks.keys():
            self._tasks[new] = group.create_task(scrape(new))

    async def _keep_scraping(
        self, session: aiohttp.ClientSession, receiver: Receiver, target: Target
    ) -> None:
        """Scrape a target for as long as it is one.

        aiohttp loses a cancellation that comes in the moment in which a page has taken too long.
        """
        loop, this = asyncio.get_running_loop(), asyncio.current_task()
        hurry = self._hurry[target.substation] = asyncio.Event()
        while self._tasks.get(target) is this:
            hurry.clear()
            due = loop.time() + self._period
            await self._scrape(session, receiver, target)
            await within(due - loop.time(), hurry.wait())

    async def _scrape(
        self, session: aiohttp.ClientSession, receiver: Receiver, target: Target
    ) -> None:
        name, asked_at = target.substation, asyncio.get_running_loop().time()
        try:
            reading = await self._read(session, target)
        except TimeoutError:
            problem = f"its metrics page took longer than {self._timeout:g} s"
        except (aiohttp.ClientError, OSError) as error:
            problem = f"its metrics page cannot be read: {_why(error)}"
        except MalformedReading as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001  # one page must not end the scraping of others
            unforeseen = self._isolation.record_failure(_item(name), error)
            problem = f"its metrics page cannot be read: {unforeseen}"
        else:
            self._isolation.record_success(_item(name))
            receiver.on_reading(name, reading, asked_at)
            return
        receiver.on_failure(name, problem[:MAX_PROBLEM])

    async def _read(self, session: aiohttp.ClientSession, target: Target) -> Reading:
        asked_at = self._clock()
        reading = readings.parse(await _page(session, target.url, self._timeout), asked_at)
        if reading.substation not in (None, target.substation):
            raise MalformedReading(
                f"the page at {target.url} is that of {reading.substation}, as its "
                f"{readings.INFO} says: mend the address in the target file"
            )
        return reading


def _item(substation: str) -> str:
    return f"the scrape of {substation}"


class Redirect(NamedTuple):
    """A redirect."""

    status: int
    target: URL


async def _page(session: aiohttp.ClientSession, address: str, timeout: float) -> str:
    """Return a metrics page, following redirects to the same host and port."""
    time = asyncio.get_running_loop().time
    until, url, status = time() + timeout, _url(address), OK
    for _ in range(1 + MAX_REDIRECTS):
        found = await _answer(session, url, until - time())
        if isinstance(found, str):
            return found
        if found.target.origin() != url.origin():
            raise MalformedReading(
                f"its metrics page answers with status {found.status}, to "
                f"{shown(str(found.target))}: that is another host or port, which only the target "
                "file can name"
            )
        url, status = found.target, found.status
    raise MalformedReading(
        f"its metrics page answers with status {status}, to {shown(str(url))}, after "
        f"{MAX_REDIRECTS} others"
    )


def _url(address: str) -> URL:
    try:
        return URL(address, encoded=True)
    except ValueError as error:
        raise MalformedReading(f"{address} cannot be the address of a page: {error}") from error


async def _answer(session: aiohttp.ClientSession, url: URL, timeout: float) -> str | Redirect:
    """Return a page, or the redirect to it."""
    if timeout <= 0:
        raise TimeoutError
    headers = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"}
    limit = aiohttp.ClientTimeout(total=timeout)
    async with session.get(url, headers=headers, allow_redirects=False, timeout=limit) as answer:
        if answer.status in REDIRECTS and "Location" in answer.headers:
            return _redirect(url, answer)
        if answer.status != OK:
            raise MalformedReading(f"its metrics page answers with status {answer.status}")
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise MalformedReading("its metrics page is compressed, though that was not asked for")
        page = bytearray()
        async for chunk in answer.content.iter_any():
            page += chunk
            if len(page) > PAGE_BYTES:
                raise MalformedReading(f"its metrics page is longer than {PAGE_BYTES} bytes")
    return page.decode("utf-8", errors="replace")


def _redirect(url: URL, answer: aiohttp.ClientResponse) -> Redirect:
    location = answer.headers["Location"]
    try:
        target = url.join(URL(location))
        target.origin()
    except ValueError as error:
        raise MalformedReading(
            f"its metrics page answers with status {answer.status} and redirects to "
            f"{shown(location)}, which is no address: {error}"
        ) from error
    return Redirect(answer.status, target)


def _why(error: Exception) -> str:
    """Return why a page cannot be read, in words for who operates the substation."""
    if not isinstance(error, aiohttp.ClientConnectorError) or isinstance(
        error, aiohttp.ClientSSLError
    ):
        return str(error) or type(error).__name__
    number = error.os_error.errno or 0
    cause = os.strerror(number) if number > 0 else str(error.os_error)
    return f"Cannot connect to host {error.host}:{error.port} ({cause})"
