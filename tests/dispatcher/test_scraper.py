from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from deploy.local.ports import HOST
from dispatcher import scraper as module
from dispatcher.readings import Reading
from dispatcher.resolver import LookUp, look_up
from dispatcher.scraper import Scraper
from dispatcher.target_file import TargetFile
from dispatcher.targets import Target
from grid.isolation import Isolation
from tests.dispatcher.served_pages import (
    GOOD,
    Handler,
    answering,
    cut_off,
    drips,
    endless,
    good,
    hangs,
    hangs_after_half,
    serving,
    write,
)
from tests.ports import free_ports

PERIOD, TIMEOUT = 0.08, 0.08
PATIENCE = 5.0


class Heard:
    """What a scraper reports, to be waited for."""

    def __init__(self) -> None:
        self.targets: list[dict[str, Target]] = []
        self.readings: dict[str, list[tuple[Reading, float]]] = {}
        self.failures: dict[str, list[str]] = {}
        self._changed = asyncio.Event()

    def on_targets(self, targets: dict[str, Target]) -> None:
        """Note the targets taken over."""
        self.targets.append(targets)
        self._changed.set()

    def on_reading(self, substation: str, reading: Reading, asked_at: float) -> None:
        """Note a page."""
        self.readings.setdefault(substation, []).append((reading, asked_at))
        self._changed.set()

    def on_failure(self, substation: str, problem: str) -> None:
        """Note a failure."""
        self.failures.setdefault(substation, []).append(problem)
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; it is asked whenever anything was heard."""
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def scraping(
    file: Path,
    period: float = PERIOD,
    timeout: float = TIMEOUT,
    *,
    look_up: LookUp = look_up,
    heard: Heard | None = None,
) -> AsyncIterator[tuple[Heard, Scraper]]:
    """Scrape what a target file names."""
    heard = heard or Heard()
    scraper = Scraper(
        TargetFile(file),
        period,
        timeout,
        clock=time.time,
        isolation=Isolation(CollectorRegistry()),
        look_up=look_up,
        on_targets=heard.on_targets,
        on_reading=heard.on_reading,
        on_failure=heard.on_failure,
    )
    task = asyncio.create_task(scraper.run())
    try:
        yield heard, scraper
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled(), task.exception()


@pytest.fixture(autouse=True)
def _look_at_the_file_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_PERIOD_SECONDS", 0.02)


BOMB = gzip.compress(b"# " + b"0" * 100_000_000 + b"\n" + GOOD.encode(), 1)


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (hangs, "took longer than 0.08 s"),
        (hangs_after_half, "took longer than 0.08 s"),
        (drips, "took longer than 0.08 s"),
        (endless, "longer than"),
        (cut_off, "cannot be read"),
        (answering(status=500), "status 500"),
        (answering(status=404), "status 404"),
        (answering(status=204), "status 204"),
        (answering(status=302, Location="/metrics"), "status 302"),
        (answering(BOMB, Content_Encoding="gzip"), "compressed"),
        (answering("# much\n" * 300_000), "longer than 1048576 bytes"),
        (answering("<html><h1>Welcome</h1></html>"), "HTML"),
        (answering(""), "no ev_charging_load"),
        (answering(b"\xff\xfe\x00"), "no ev_charging_load"),
        (answering("ev_charging_load NaN\n"), "ev_charging_load is nan"),
        (answering("ev_charging_load -1\n"), "ev_charging_load is -1"),
        (answering('ev_charging_load{a="b"} 1\n'), "labels"),
    ],
)
async def test_a_hostile_page_is_a_failure_and_delays_no_other(
    tmp_path: Path, handler: Handler, words: str
) -> None:
    """Each page that gives no load is reported with its reason, while another keeps its period."""
    file = tmp_path / "targets.json"
    async with serving(handler, good) as (bad_address, good_address):
        write(file, {"bad": bad_address, "good": good_address})
        async with scraping(file) as (heard, _):
            await heard.until(lambda: len(heard.readings.get("good", [])) >= 4)
            # a busy machine may be late with any page, now and then
            await heard.until(lambda: any(words in each for each in heard.failures.get("bad", [])))
            await heard.until(lambda: len(heard.failures["bad"]) >= 2)
    assert "bad" not in heard.readings
    asked = [asked_at for _, asked_at in heard.readings["good"]]
    gaps = sorted(later - earlier for earlier, later in pairwise(asked))
    assert gaps[len(gaps) // 2] < 2 * PERIOD


@pytest.mark.parametrize("how", ["stopped", "taken out"])
async def test_a_cancellation_that_is_lost_on_the_way_ends_it_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """aiohttp takes one for its own where the page has just taken too long."""
    asked, lost = asyncio.Event(), asyncio.Event()

    async def losing(*_: object) -> str:
        asked.set()
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            lost.set()
            raise TimeoutError from None
        return GOOD

    monkeypatch.setattr(module, "_page", losing)
    file = tmp_path / "targets.json"
    write(file, {"a": f"{HOST}:1"})
    async with asyncio.timeout(PATIENCE), scraping(file):
        await asked.wait()
        asked.clear()
        if how == "taken out":
            write(file, {})
            await lost.wait()
            await asyncio.sleep(3 * PERIOD)
    assert lost.is_set()
    assert not asked.is_set(), "it asks no more"


@pytest.mark.parametrize("address", [f"{HOST}:{{port}}", "no.such.host.invalid:1", f"{HOST}:99999"])
async def test_an_address_where_nobody_answers_is_a_failure(tmp_path: Path, address: str) -> None:
    """Refused, unknown, or no port at all: it is told, and tried again."""
    file = tmp_path / "targets.json"
    write(file, {"gone": address.format(port=free_ports(1)[0])})
    async with scraping(file, timeout=1) as (heard, _):
        await heard.until(lambda: len(heard.failures.get("gone", [])) >= 2)
    assert "cannot be read" in heard.failures["gone"][0]


async def test_a_page_that_is_late_once_is_read_the_next_time(tmp_path: Path) -> None:
    """A failure is over as soon as a page is there; the moment told is when it was asked for."""
    asked: list[float] = []

    async def late_once(request: web.Request) -> web.Response:
        asked.append(asyncio.get_running_loop().time())
        return await (hangs if len(asked) == 1 else good)(request)

    file = tmp_path / "targets.json"
    async with serving(late_once) as (address,):
        write(file, {"a": address})
        async with scraping(file) as (heard, _):
            await heard.until(lambda: "a" in heard.readings)
    reading, asked_at = heard.readings["a"][0]
    assert reading == Reading(2)
    assert len(heard.failures["a"]) == 1
    assert asked[0] < asked_at <= asked[1]


async def test_a_substation_can_be_scraped_at_once(tmp_path: Path) -> None:
    """A scrape out of turn comes at once, any number of times, and puts off none that is due."""
    file = tmp_path / "targets.json"
    async with serving(good) as (address,):
        write(file, {"a": address})
        async with scraping(file, period=0.3) as (heard, scraper):
            scraper.hurry("nobody")
            for count in range(1, 11):
                await heard.until(lambda: len(heard.readings.get("a", [])) >= count)  # noqa: B023
                scraper.hurry("a")
            await heard.until(lambda: len(heard.readings["a"]) >= 12)
    asked = [asked_at for _, asked_at in heard.readings["a"]]
    assert asked[10] - asked[0] < 0.3
    assert asked[11] - asked[10] < 0.6


async def test_a_change_of_the_file_is_taken_over(tmp_path: Path) -> None:
    """A target that is new is scraped, one that is gone no more, one that stays all along."""
    counts = dict.fromkeys("abc", 0)

    def counting(name: str) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            counts[name] += 1
            return await good(request)

        return handle

    file = tmp_path / "targets.json"
    async with serving(*map(counting, "abc")) as (a, b, c):
        write(file, {"a": a, "b": b})
        async with scraping(file) as (heard, _):
            await heard.until(lambda: {"a", "b"} <= heard.readings.keys())
            write(file, {"b": b, "c": c})
            await heard.until(lambda: "c" in heard.readings)
            gone, stayed = counts["a"], counts["b"]
            await heard.until(lambda: len(heard.readings["c"]) >= 4)
            assert counts["a"] <= gone + 1, "the one that was under way"
            assert counts["b"] > stayed
            write(file, {"a": b})
            readings = len(heard.readings["a"])
            await heard.until(lambda: len(heard.readings["a"]) > readings)
    assert [list(targets) for targets in heard.targets] == [["a", "b"], ["b", "c"], ["a"]]


async def test_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    """While the file is wrong, what it last said goes on being scraped."""
    file = tmp_path / "targets.json"
    async with serving(good) as (address,):
        write(file, {"a": address})
        async with scraping(file) as (heard, _):
            await heard.until(lambda: "a" in heard.readings)
            file.write_text("[{")
            count = len(heard.readings["a"])
            await heard.until(lambda: len(heard.readings["a"]) >= count + 3)
            assert len(heard.targets) == 1
