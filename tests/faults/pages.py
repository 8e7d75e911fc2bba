"""Metrics pages from an enemy: each is shown in the place of one substation's for a while."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from functools import cache
from time import monotonic
from typing import Final

from deploy.local.ports import HOST
from tests.faults.aside import Aside
from tests.faults.stage import Stage
from tests.ports import free_ports
from tests.system import DISPATCHERS

VICTIM: Final = "substation3"
NOTICED_SECONDS: Final = 3.0  # by then what was known before is too old
MAX_AGE: Final = 2.0  # of the others' gauges: older ones would not be used
PLAIN: Final = "text/plain; version=0.0.4"
GOOD: Final = b"ev_charging_load 0.0\nev_charging_connectors 50.0\n"

Pieces = AsyncIterator[bytes]


def _head(status: str = "200 OK", kind: str = PLAIN, more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Connection: close\r\n\r\n".encode()


async def _hang() -> Pieces:
    await asyncio.sleep(3600)
    yield b""


async def _drip() -> Pieces:
    for byte in _head() + GOOD * 100:
        yield bytes([byte])
        await asyncio.sleep(1)


async def _error() -> Pieces:
    yield _head("500 Internal Server Error") + GOOD


async def _endless() -> Pieces:
    yield _head()
    while True:
        yield b"# and on it goes\n" * 1000
        await asyncio.sleep(0)


@cache
def bomb() -> bytes:
    """Return 200 MB as one gzip stream of some 200 KB.

    It takes a second of processor time to make, which the enemy's only loop does not have: every
    request for a page would wait behind it. Whoever serves it makes it before that loop begins.
    """
    compressor = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)  # gzip's form
    megabyte = b"\n" * 1_000_000
    pieces = [compressor.compress(GOOD), *(compressor.compress(megabyte) for _ in range(200))]
    return b"".join(pieces) + compressor.flush()


async def _bomb() -> Pieces:
    yield _head(more="Content-Encoding: gzip\r\n") + bomb()


async def _long() -> Pieces:
    yield _head()
    for number in range(10_000):
        yield b'other{n="%d"} 1.0\n' % number * 60
        await asyncio.sleep(0)  # a socket that takes all would keep the loop from the others
    yield GOOD


async def _not_a_number() -> Pieces:
    yield _head() + GOOD.replace(b"0.0", b"NaN", 1)


async def _wrong_page() -> Pieces:
    yield _head(kind="text/html") + b"<html><body>It works!</body></html>"


PAGES: Final[dict[str, Callable[[], Pieces]]] = {
    "hangs": _hang,
    "a byte a second": _drip,
    "500": _error,
    "endless": _endless,
    "gzip bomb": _bomb,
    "10 MB of valid text": _long,
    "NaN": _not_a_number,
    "the wrong page": _wrong_page,
}


class Enemy:
    """A server that answers every connection with ``page``."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.page: Callable[[], Pieces] = _hang
        self.asked = 0

    async def serve(self) -> None:
        """Serve until cancelled."""
        async with await asyncio.start_server(self._answer, HOST, self.port) as server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            async for piece in self.page():
                writer.write(piece)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the scraper had enough
        finally:
            writer.close()


def hostile_pages(stage: Stage) -> None:
    """Show each page in turn: its substation is not chosen, and the others' pages stay fresh."""
    enemy = Enemy()
    bomb()
    with Aside() as aside:
        aside.begin(enemy.serve())
        stage.system.write_targets(stage.system.substations, {VICTIM: enemy.port})
        oldest = max(_shown(stage, enemy, name) for name in PAGES)
        stage.system.write_targets(stage.system.substations)
        stage.ended()
    stage.note(f"the others' gauges at most {oldest:.1f} s old")


def _shown(stage: Stage, enemy: Enemy, name: str) -> float:
    """Show one page for a while; return the greatest age of another substation's gauge."""
    enemy.page, enemy.asked = PAGES[name], 0
    stage.wait(NOTICED_SECONDS)
    before, oldest = _decisions(stage), 0.0
    until = monotonic() + stage.length.page
    while monotonic() < until:
        oldest = max(oldest, *_ages(stage).values())
        stage.wait(0.1)
    assert enemy.asked, f"nobody asked for the page that is {name}"
    assert _decisions(stage) == before, f"{VICTIM} was chosen though its page is: {name}"
    assert oldest < MAX_AGE, f"page {name}: others' gauges were {oldest:.1f} s old"
    return oldest


def _decisions(stage: Stage) -> float:
    return sum(
        stage.values(name, "dispatcher_decisions_total").get(VICTIM, 0.0) for name in DISPATCHERS
    )


def _ages(stage: Stage) -> dict[str, float]:
    ages = stage.values("dispatcher", "dispatcher_substation_gauge_age_seconds")
    return {name: age for name, age in ages.items() if name != VICTIM}
