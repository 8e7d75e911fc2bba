from __future__ import annotations

import asyncio
import gzip
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median

import pytest
import uvicorn
from aiohttp import connector, web
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Gauge, make_asgi_app

from deploy.local.ports import HOST
from dispatcher import scraper as module
from dispatcher.resolver import Address, LookUp, look_up
from dispatcher.scraper import Scraper
from dispatcher.target_file import TargetFile
from dispatcher.targets import Target
from grid.isolation import Isolation
from scheduling import readings
from scheduling.readings import Reading
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
from tests.grid.certificates import Authority
from tests.ports import free_ports

PERIOD, TIMEOUT = 0.08, 0.08
SLOW = 0.4  # of both, where hundreds of scrapes at once would be too much for a busy machine
TIMEOUT_SECONDS = 30.0  # of a test, on a busy machine


class FakeReceiver:
    """What a scraper reports, and waiting for it."""

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
        """Wait until something holds; check it after each report."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
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
    receiver: FakeReceiver | None = None,
    isolation: Isolation | None = None,
) -> AsyncIterator[tuple[FakeReceiver, Scraper]]:
    """Run a scraper with a target file."""
    receiver = receiver or FakeReceiver()
    scraper = Scraper(
        TargetFile(file),
        period,
        timeout,
        clock=time.time,
        isolation=isolation or Isolation(CollectorRegistry()),
        look_up=look_up,
    )
    task = asyncio.create_task(scraper.run(receiver))
    try:
        yield receiver, scraper
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled(), task.exception()


@pytest.fixture(autouse=True)
def _look_at_the_file_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_INTERVAL_SECONDS", 0.02)


BOMB = gzip.compress(b"# " + b"0" * 1_000_000 + b"\n", 1) * 100 + gzip.compress(GOOD.encode())


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
async def test_scraper_reports_hostile_page_and_delays_no_other(
    tmp_path: Path, handler: Handler, words: str
) -> None:
    """Each page without a valid load is a failure with a reason, and delays no other page."""
    file = tmp_path / "targets.json"
    async with serving(handler, good) as (bad_address, good_address):
        write(file, {"bad": bad_address, "good": good_address})
        async with scraping(file) as (receiver, _):
            await receiver.until(lambda: len(receiver.readings.get("good", [])) >= 4)
            # a busy machine may be late with any page, now and then
            await receiver.until(
                lambda: any(words in each for each in receiver.failures.get("bad", []))
            )
            await receiver.until(lambda: len(receiver.failures["bad"]) >= 2)
    assert "bad" not in receiver.readings
    asked = [asked_at for _, asked_at in receiver.readings["good"]]
    gaps = sorted(later - earlier for earlier, later in pairwise(asked))
    assert gaps[len(gaps) // 2] < 2 * PERIOD


@pytest.mark.parametrize("how", ["stopped", "taken out"])
async def test_scraper_ends_though_aiohttp_loses_the_cancellation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """aiohttp may take a cancellation for its own timeout, if the page was late just then."""
    asked, lost = asyncio.Event(), asyncio.Event()

    async def losing(*_: object) -> str:
        asked.set()
        try:
            await asyncio.sleep(TIMEOUT_SECONDS)
        except asyncio.CancelledError:
            lost.set()
            raise TimeoutError from None
        return GOOD

    monkeypatch.setattr(module, "_page", losing)
    file = tmp_path / "targets.json"
    write(file, {"a": f"{HOST}:1"})
    async with asyncio.timeout(TIMEOUT_SECONDS), scraping(file):
        await asked.wait()
        asked.clear()
        if how == "taken out":
            write(file, {})
            await lost.wait()
            await asyncio.sleep(3 * PERIOD)
    assert lost.is_set()
    assert not asked.is_set(), "it asks no more"


@pytest.mark.parametrize("address", [f"{HOST}:{{port}}", "no.such.host.invalid:1", f"{HOST}:99999"])
async def test_scraper_reports_address_that_does_not_answer(tmp_path: Path, address: str) -> None:
    """Connection refused, unknown host or invalid port: it is reported, and tried again."""
    file = tmp_path / "targets.json"
    write(file, {"gone": address.format(port=free_ports(1)[0])})
    async with scraping(file, timeout=1) as (receiver, _):
        await receiver.until(lambda: len(receiver.failures.get("gone", [])) >= 2)
    assert "cannot be read" in receiver.failures["gone"][0]


async def test_scraper_reads_page_again_after_it_was_late_once(tmp_path: Path) -> None:
    """A failure is over once a page is read; its time is when it was requested."""
    asked: list[float] = []

    async def late_once(request: web.Request) -> web.Response:
        asked.append(asyncio.get_running_loop().time())
        return await (hangs if len(asked) == 1 else good)(request)

    file = tmp_path / "targets.json"
    async with serving(late_once) as (address,):
        write(file, {"a": address})
        # long enough that a busy machine is not late as well
        async with scraping(file, period=0.5, timeout=0.5) as (receiver, _):
            await receiver.until(lambda: "a" in receiver.readings)
    reading, asked_at = receiver.readings["a"][0]
    assert reading == Reading(2)
    assert len(receiver.failures["a"]) == 1
    assert asked[0] < asked_at <= asked[1]


async def test_scraper_scrapes_a_substation_at_once_when_asked(tmp_path: Path) -> None:
    """An extra scrape comes at once, any number of times, and delays none that is due."""
    period = 2.0  # long enough that a busy machine makes ten scrapes in it
    file = tmp_path / "targets.json"
    async with serving(good) as (address,):
        write(file, {"a": address})
        async with scraping(file, period=period, timeout=TIMEOUT_SECONDS) as (receiver, scraper):
            scraper.hurry("nobody")
            for count in range(1, 11):
                await receiver.until(lambda: len(receiver.readings.get("a", [])) >= count)  # noqa: B023
                scraper.hurry("a")
            await receiver.until(lambda: len(receiver.readings["a"]) >= 12)
    asked = [asked_at for _, asked_at in receiver.readings["a"]]
    assert asked[10] - asked[0] < period
    assert asked[11] - asked[10] < 2 * period


async def test_scraper_follows_change_of_the_target_file(tmp_path: Path) -> None:
    """A new target is scraped, a removed one no longer, and one that stays without interruption."""
    counts = dict.fromkeys("abc", 0)

    def counting(name: str) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            counts[name] += 1
            return await good(request)

        return handle

    file = tmp_path / "targets.json"
    async with serving(*map(counting, "abc")) as (a, b, c):
        write(file, {"a": a, "b": b})
        async with scraping(file) as (receiver, _):
            await receiver.until(lambda: {"a", "b"} <= receiver.readings.keys())
            write(file, {"b": b, "c": c})
            await receiver.until(lambda: "c" in receiver.readings)
            gone, stayed = counts["a"], counts["b"]
            await receiver.until(lambda: len(receiver.readings["c"]) >= 4)
            assert counts["a"] <= gone + 1, "the one that was under way"
            assert counts["b"] > stayed
            write(file, {"a": b})
            readings = len(receiver.readings["a"])
            await receiver.until(lambda: len(receiver.readings["a"]) > readings)
    assert [list(targets) for targets in receiver.targets] == [["a", "b"], ["b", "c"], ["a"]]


async def test_scraper_keeps_targets_while_file_is_invalid(tmp_path: Path) -> None:
    """While the file is invalid, the targets it last had are still scraped."""
    file = tmp_path / "targets.json"
    async with serving(good) as (address,):
        write(file, {"a": address})
        async with scraping(file) as (receiver, _):
            await receiver.until(lambda: "a" in receiver.readings)
            file.write_text("[{")
            count = len(receiver.readings["a"])
            await receiver.until(lambda: len(receiver.readings["a"]) >= count + 3)
            assert len(receiver.targets) == 1


IMPOSSIBLE = [
    "north..example:9100",
    f"{'n' * 64}.example:9100",
    "\u00adx:1",
    "[::1:9100",
    "h%zz:1",
    ":1",
]


@pytest.mark.parametrize("address", IMPOSSIBLE)
async def test_scraper_goes_on_when_a_target_has_an_impossible_host_name(
    tmp_path: Path, address: str
) -> None:
    """It fails with the reason; the others are read as before."""
    file = tmp_path / "targets.json"
    async with serving(good) as (good_address,):
        write(file, {"bad": address, "good": good_address})
        async with scraping(file) as (receiver, _):
            # on a busy machine the first may say that its name was not looked up in time
            await receiver.until(lambda: any(map(says_why, receiver.failures.get("bad", []))))
            seen = len(receiver.readings.get("good", []))
            await receiver.until(lambda: len(receiver.readings.get("good", [])) >= seen + 2)
            # a name is looked up apart, which may take longer than the good page
            await receiver.until(lambda: len(receiver.failures["bad"]) >= 2)
    assert "bad" not in receiver.readings
    assert len(receiver.failures["bad"]) >= 2


def says_why(failure: str) -> bool:
    """Return whether a failure says what is wrong with a host name."""
    return "cannot be read" in failure or "cannot be the" in failure


class Mistaken(Exception):
    """An error that no code expects."""


async def test_scraper_goes_on_after_unforeseen_error_over_one_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The page's substation fails with the error; it is logged once with its traceback."""
    real = readings.parse

    def parse(page: str, asked_at: float) -> Reading:
        if "poison" in page:
            raise Mistaken("of ours")
        return real(page, asked_at)

    monkeypatch.setattr(readings, "parse", parse)
    file = tmp_path / "targets.json"
    async with serving(answering("poison\n"), good) as (bad_address, good_address):
        write(file, {"bad": bad_address, "good": good_address})
        # long enough that a busy machine is not late as well
        async with scraping(file, timeout=1) as (receiver, _):
            await receiver.until(lambda: len(receiver.failures.get("bad", [])) >= 3)
            await receiver.until(lambda: len(receiver.readings.get("good", [])) >= 3)
    assert "Mistaken: of ours" in receiver.failures["bad"][0]
    (record,) = [each for each in caplog.records if "scrape of bad" in each.message]
    assert record.exc_info is not None


async def test_scraper_goes_on_when_targets_cannot_be_applied(tmp_path: Path) -> None:
    """If a new file causes an error, the targets stay as they were until a valid one."""

    class Failing(FakeReceiver):
        def on_targets(self, targets: dict[str, Target]) -> None:
            if "poison" in targets:
                self._changed.set()
                raise Mistaken("of ours")
            super().on_targets(targets)

    file, receiver = tmp_path / "targets.json", Failing()
    async with serving(good) as (address,):
        write(file, {"a": address})
        async with scraping(file, receiver=receiver):
            await receiver.until(lambda: "a" in receiver.readings)
            write(file, {"a": address, "poison": address})
            seen = len(receiver.readings["a"])
            await receiver.until(lambda: len(receiver.readings["a"]) >= seen + 5)
            write(file, {"b": address})
            await receiver.until(lambda: "b" in receiver.readings)
    assert "poison" not in receiver.readings


@pytest.mark.parametrize("count", [12, 100])
async def test_scraper_reads_a_page_on_time_while_other_names_hang(
    tmp_path: Path, count: int
) -> None:
    """A name whose look-up hangs delays no other page, and the reason says so.

    Beside it runs a scraper that has this page alone: a busy machine is late with both.
    """
    file, over = tmp_path / "targets.json", threading.Event()
    alone = tmp_path / "alone.json"
    words = "the name hangs0.example has been looked up for"

    def look_up(host: str, _: int) -> list[Address]:
        if host.startswith("hangs"):
            over.wait(TIMEOUT_SECONDS)
            raise OSError("no answer")
        return [Address(socket.AF_INET, 0, HOST)]

    targets = {f"s{n}": f"hangs{n}.example:1" for n in range(count)}
    async with serving(good) as (address,):
        port = address.rpartition(":")[2]
        write(file, {"good": f"depot.example:{port}"} | targets)
        write(alone, {"good": f"depot.example:{port}"})
        try:
            async with (
                scraping(file, SLOW, SLOW, look_up=look_up) as (receiver, _),
                scraping(alone, SLOW, SLOW, look_up=look_up) as (undisturbed, _),
            ):
                await receiver.until(lambda: len(receiver.readings.get("good", [])) >= 6)
                await undisturbed.until(lambda: len(undisturbed.readings.get("good", [])) >= 6)
                await receiver.until(
                    lambda: any(words in e for e in receiver.failures.get("s0", []))
                )
        finally:
            over.set()
    assert median_gap(receiver) < 2 * max(SLOW, median_gap(undisturbed))


def median_gap(receiver: FakeReceiver) -> float:
    """Return the seconds between two scrapes of the good page."""
    asked = [asked_at for _, asked_at in receiver.readings["good"]]
    return median(later - earlier for earlier, later in pairwise(asked))


def leading(status: int, location: str) -> Callable[[web.Application], None]:
    """Return a function that adds a redirect, and has a good page at ``/metrics/``."""

    async def lead(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": location})

    def routes(app: web.Application) -> None:
        app.router.add_get("/metrics", lead)
        app.router.add_get("/metrics/", good)

    return routes


@asynccontextmanager
async def leading_to(status: int, location: str) -> AsyncIterator[str]:
    """Serve a page that redirects; ``{port}`` in the location is that of the page itself."""
    (port,) = free_ports(1)
    app = web.Application()
    leading(status, location.format(port=port))(app)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        yield f"{HOST}:{port}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/metrics/", "metrics/", f"http://{HOST}:{{port}}/metrics/"])
async def test_scraper_follows_a_redirect_to_the_same_host_and_port(
    tmp_path: Path, status: int, location: str
) -> None:
    """Such as that of prometheus_client's app, mounted at ``/metrics``."""
    file = tmp_path / "targets.json"
    async with leading_to(status, location) as address:
        write(file, {"a": address})
        async with scraping(file, timeout=1) as (receiver, _):
            await receiver.until(lambda: "a" in receiver.readings or "a" in receiver.failures)
    assert receiver.failures == {}
    assert receiver.readings["a"][0][0] == Reading(2)


async def test_scraper_reads_app_of_prometheus_client(tmp_path: Path) -> None:
    """Mounted in FastAPI at ``/metrics``, it is behind a redirect to ``/metrics/``."""
    registry = CollectorRegistry()
    Gauge("ev_charging_load", "Sessions", registry=registry).set(2)
    app = FastAPI()
    app.mount("/metrics", make_asgi_app(registry))
    (port,) = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_config=None))
    task = asyncio.create_task(server.serve())
    file = tmp_path / "targets.json"
    write(file, {"a": f"{HOST}:{port}"})
    try:
        async with scraping(file, timeout=1) as (receiver, _):
            await receiver.until(lambda: "a" in receiver.readings)
    finally:
        server.should_exit = True
        await task
    assert receiver.readings["a"][0][0].load == 2


@pytest.mark.parametrize(
    "location",
    [
        f"http://{HOST}:1/metrics",
        "http://127.0.0.2:{port}/metrics/",
        "//depot.example/metrics",
        f"https://{HOST}:{{port}}/metrics/",
        "file:///etc/passwd",
        "mailto:me@depot.example",
        "http://[",
        "http://h:99999999/",
    ],
)
async def test_scraper_follows_no_redirect_to_elsewhere(tmp_path: Path, location: str) -> None:
    """Only the target file determines where pages are; the reason has the page's answer."""
    file = tmp_path / "targets.json"
    async with leading_to(302, location) as address:
        write(file, {"a": address})
        async with scraping(file, timeout=1) as (receiver, _):
            await receiver.until(lambda: "a" in receiver.failures or "a" in receiver.readings)
    assert receiver.readings == {}
    assert "status 302" in receiver.failures["a"][0]


async def test_scraper_refuses_page_of_another_substation(tmp_path: Path) -> None:
    """A page that names another substation than the target file is not believed."""
    file = tmp_path / "targets.json"
    pages = [
        answering(GOOD + f'ev_charging_info{{substation="{name}"}} 1.0\n') for name in ("s1", "s2")
    ]
    async with serving(pages[0], pages[0], pages[1], good) as (first, wrong, third, nameless):
        write(file, {"s1": first, "s2": wrong, "s4": nameless})
        async with scraping(file, timeout=1) as (receiver, _):
            await receiver.until(lambda: {"s1", "s4"} <= receiver.readings.keys())
            await receiver.until(lambda: "s2" in receiver.failures)
            assert "s2" not in receiver.readings
            assert "is that of s1" in receiver.failures["s2"][0]
            assert wrong in receiver.failures["s2"][0]
            write(file, {"s1": first, "s2": third, "s4": nameless})
            await receiver.until(lambda: "s2" in receiver.readings)


async def test_scraper_goes_on_when_the_target_file_is_a_fifo(tmp_path: Path) -> None:
    """It never has a writer: the targets the file last had are still scraped."""
    file = tmp_path / "targets.json"
    async with serving(good) as (address,):
        write(file, {"a": address})
        async with scraping(file) as (receiver, _):
            await receiver.until(lambda: "a" in receiver.readings)
            os.mkfifo(tmp_path / "fifo")
            (tmp_path / "fifo").replace(file)
            seen = len(receiver.readings["a"])
            await receiver.until(lambda: len(receiver.readings["a"]) >= seen + 5)
            file.unlink()
            write(file, {"b": address})
            await receiver.until(lambda: "b" in receiver.readings)


async def test_scraper_reads_a_page_by_https_as_the_target_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only if a trusted authority has signed the certificate."""
    authority = Authority(tmp_path)
    files = authority.issue("page", HOST)
    assert files.certificate is not None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    app = web.Application()
    app.router.add_get("/metrics", good)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, HOST, port, ssl_context=context).start()
    file = tmp_path / "targets.yml"
    file.write_text(
        f"- targets: ['{HOST}:{port}']\n  labels: {{substation: a, __scheme__: https}}\n"
    )
    try:
        async with scraping(file, timeout=2) as (receiver, _):
            await receiver.until(lambda: "a" in receiver.failures)
            assert "CERTIFICATE_VERIFY_FAILED" in receiver.failures["a"][0]
            assert receiver.readings == {}
        trusting = ssl.create_default_context(cafile=authority.file)
        monkeypatch.setattr(connector, "_SSL_CONTEXT_VERIFIED", trusting)
        async with scraping(file, timeout=2) as (receiver, _):
            await receiver.until(lambda: "a" in receiver.readings)
    finally:
        await runner.cleanup()


async def test_scraper_limits_the_length_of_a_reason(tmp_path: Path) -> None:
    """The reason is part of every snapshot."""
    file = tmp_path / "targets.json"
    async with leading_to(302, f"http://elsewhere.example/{'x' * 6000}") as address:
        write(file, {"a": address})
        async with scraping(file, timeout=1) as (receiver, _):
            await receiver.until(lambda: "a" in receiver.failures)
    assert len(receiver.failures["a"][0]) <= module.MAX_PROBLEM


async def test_scraper_keeps_no_cookies(tmp_path: Path) -> None:
    """Otherwise a page could fill the memory with cookies."""
    brought: list[str] = []

    async def setting(request: web.Request) -> web.Response:
        brought.append(request.headers.get("Cookie", ""))
        answer = web.Response(text=GOOD)
        answer.set_cookie(f"n{len(brought)}", "x" * 1000)
        return answer

    file = tmp_path / "targets.json"
    async with serving(setting) as (address,):
        write(file, {"a": f"depot.example:{address.rpartition(':')[2]}"})
        async with scraping(file, look_up=lambda *_: [Address(socket.AF_INET, 0, HOST)]) as (
            receiver,
            _,
        ):
            await receiver.until(lambda: len(receiver.readings.get("a", [])) >= 3)
    assert set(brought) == {""}


ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nev_charging_load 2\n\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nev_ch\r\n0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /metrics\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nSet-Cookie: a=b\r\n\r\n\x1f\x8b\x08",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nev_charging_load 1\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nxx",
    b"\x16\x03\x01\x02\x00\x01",
]


def changed(answer: bytes, random: Random) -> bytes:
    """Return an answer with some bytes exchanged, added, left out or repeated."""
    found = bytearray(answer)
    for _ in range(random.randrange(6)):
        place = random.randrange(len(found) + 1)
        match random.randrange(4):
            case 0:
                found[place : place + 1] = random.randbytes(1)
            case 1:
                found[place:place] = random.randbytes(4)
            case 2:
                del found[place : place + random.randrange(1, 8)]
            case _:
                found[place:place] = found[place : place + 20] * random.randrange(1, 200)
    return bytes(found)


async def test_scraper_handles_any_answer_without_unforeseen_error(tmp_path: Path) -> None:
    """No answer of a server causes an unexpected error, or reaches the loop's handler."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    random = Random(7)  # noqa: S311
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            asked += 1
            data = changed(random.choice(ANSWERS), random)
            half = random.randrange(len(data) + 1)
            writer.write(data[:half])
            await writer.drain()
            writer.write(data[half:])
            await writer.drain()
        if asked % 3:
            writer.close()
        else:
            writer.transport.abort()

    file, registry = tmp_path / "targets.json", CollectorRegistry()
    async with await asyncio.start_server(answer, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        write(file, {f"s{number}": f"{HOST}:{port}" for number in range(20)})
        # every answer ends by itself, however late a busy machine is with twenty at once
        async with scraping(
            file, period=0.01, timeout=TIMEOUT_SECONDS, isolation=Isolation(registry)
        ) as (receiver, _):
            await receiver.until(lambda: asked >= 400)
    assert told == []
    assert receiver.failures
    assert receiver.readings
    assert registry.get_sample_value("grid_unforeseen_errors_total") == 0
