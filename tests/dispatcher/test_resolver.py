"""Names are looked up without blocking anything else, and answers are kept."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dispatcher import resolver as module
from dispatcher.resolver import KEPT_SECONDS, Address, Resolver, look_up

TIMEOUT_SECONDS = 5.0
HERE = Address(socket.AF_INET, 0, "127.0.0.1")
THERE = Address(socket.AF_INET6, 0, "::1")


class FakeLookUp:
    """A look-up with set answers: addresses, an error, or nothing until ``over`` is set."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Address] | Exception | None] = {}
        self.asked: list[str] = []
        self.over = threading.Event()

    def __call__(self, host: str, family: int) -> list[Address]:
        """Look a name up, in a thread."""
        self.asked.append(f"{host} {family}" if family else host)
        answer = self.answers[host]
        if answer is None:
            self.over.wait(TIMEOUT_SECONDS)
            answer = [HERE]
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextmanager
def names(**answers: list[Address] | Exception | None) -> Iterator[FakeLookUp]:
    """Have these names; whatever hangs ends with the test."""
    found = FakeLookUp()
    found.answers.update(answers)
    try:
        yield found
    finally:
        found.over.set()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what sets the resolver's clock forward."""
    ahead = 0.0

    def forward(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    monkeypatch.setattr(module, "_now", lambda: asyncio.get_running_loop().time() + ahead)
    return forward


async def hosts(resolver: Resolver, name: str) -> list[str]:
    """Look a name up."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        return [each["host"] for each in await resolver.resolve(name, 80, socket.AF_UNSPEC)]


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not holds():  # noqa: ASYNC110  # what is waited for happens in a thread
            await asyncio.sleep(0.005)


async def test_resolver_returns_every_address_with_its_port() -> None:
    """In the form that aiohttp expects."""
    with names(depot=[HERE, THERE]) as look_up:
        found = await Resolver(TIMEOUT_SECONDS, look_up).resolve("depot", 9100, socket.AF_UNSPEC)
    assert [(each["host"], each["port"], each["family"]) for each in found] == [
        ("127.0.0.1", 9100, socket.AF_INET),
        ("::1", 9100, socket.AF_INET6),
    ]


async def test_resolver_looks_name_up_once_for_many_callers() -> None:
    """All who ask while a look-up is in progress get the same answer, which is kept."""
    with names(depot=[HERE]) as look_up:
        resolver = Resolver(TIMEOUT_SECONDS, look_up)
        await asyncio.gather(*(hosts(resolver, "depot") for _ in range(50)))
        await hosts(resolver, "depot")
    assert look_up.asked == ["depot"]


async def test_resolver_uses_an_old_answer_while_it_asks_again(
    later: Callable[[float], None],
) -> None:
    """Nobody waits for a name that was known; the new answer holds once it is there."""
    with names(depot=[HERE]) as look_up:
        resolver = Resolver(TIMEOUT_SECONDS, look_up)
        await hosts(resolver, "depot")
        later(module.FRESH_SECONDS)
        look_up.answers["depot"] = [THERE]
        assert await hosts(resolver, "depot") == ["127.0.0.1"]
        await until(lambda: len(look_up.asked) == 2)
        await asyncio.sleep(0.05)
        assert await hosts(resolver, "depot") == ["::1"]


async def test_resolver_uses_an_answer_for_a_while_when_the_name_fails_later(
    later: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once, and when the name can be looked up again; not for longer than it says."""
    caplog.set_level(logging.INFO)
    with names(depot=[HERE]) as look_up:
        resolver = Resolver(TIMEOUT_SECONDS, look_up)
        await hosts(resolver, "depot")
        look_up.answers["depot"] = OSError("no such name")
        for _ in range(3):
            later(KEPT_SECONDS / 3 - 1)
            assert await hosts(resolver, "depot") == ["127.0.0.1"]
            await asyncio.sleep(0.05)
        assert len(look_up.asked) == 4
        (record,) = caplog.records
        assert "depot cannot be looked up: no such name" in record.message
        assert "are used for up to 300 s" in record.message
        later(3)
        with pytest.raises(OSError, match="depot cannot be looked up: no such name"):
            await hosts(resolver, "depot")
        look_up.answers["depot"] = [THERE]
        later(module.RETRY_SECONDS)
        assert await hosts(resolver, "depot") == ["::1"]
    assert "depot can be looked up again" in caplog.text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (UnicodeError("label empty or too long"), "label empty or too long"),
        (RuntimeError("nobody foresaw this"), "nobody foresaw this"),
        ([], "it has no address"),
    ],
)
async def test_resolver_raises_oserror_for_the_name_that_fails(
    error: Exception | list[Address], words: str
) -> None:
    """Whatever the look-up raises becomes an ``OSError`` of this name, which is asked for again."""
    with names(depot=error, other=[HERE]) as look_up:
        resolver = Resolver(TIMEOUT_SECONDS, look_up)
        for _ in range(3):
            with pytest.raises(OSError, match=words):
                await hosts(resolver, "depot")
        assert await hosts(resolver, "other") == ["127.0.0.1"]
    assert look_up.asked == ["depot", "other"]


async def test_resolver_waits_no_longer_than_its_timeout() -> None:
    """An answer that comes later is there for the next caller."""
    with names(slow=None) as look_up:
        resolver = Resolver(0.02, look_up)
        for _ in range(3):
            with pytest.raises(OSError, match=r"slow has been looked up for .* without an answer"):
                await hosts(resolver, "slow")
        look_up.over.set()
        await asyncio.sleep(0.05)
        assert await hosts(resolver, "slow") == ["127.0.0.1"]
    assert look_up.asked == ["slow"]


async def test_resolver_bounds_the_number_of_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other names wait for their turn; a name that is known stays known meanwhile."""
    monkeypatch.setattr(module, "MAX_LOOK_UPS", 2)
    with names(known=[HERE], a=None, b=None, c=[THERE]) as look_up:
        resolver = Resolver(0.02, look_up)
        await hosts(resolver, "known")
        for name in "abc":
            with pytest.raises(OSError, match="without an answer"):
                await hosts(resolver, name)
        assert await hosts(resolver, "known") == ["127.0.0.1"]
        assert look_up.asked == ["known", "a", "b"]
        look_up.over.set()
        await until(lambda: look_up.asked[3:] == ["c"])
        await asyncio.sleep(0.05)
        assert await hosts(resolver, "c") == ["::1"]


async def test_resolver_goes_on_when_no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look-up fails, and is tried again later."""

    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module, "in_thread", none_left)
    resolver = Resolver(TIMEOUT_SECONDS, lambda *_: [HERE])
    with pytest.raises(OSError, match="can't start new thread"):
        await hosts(resolver, "depot")


async def test_resolver_forgets_names_that_are_not_used(later: Callable[[float], None]) -> None:
    """A target file may name others every day."""
    with names(a=[HERE], b=[HERE]) as look_up:
        resolver = Resolver(TIMEOUT_SECONDS, look_up)
        await hosts(resolver, "a")
        later(module.UNUSED_SECONDS + 1)
        await hosts(resolver, "b")
        await hosts(resolver, "a")
    assert look_up.asked == ["a", "b", "a"]


def test_system_look_up_finds_localhost() -> None:
    """It is the look-up of all other programs: ``/etc/hosts`` counts."""
    assert "127.0.0.1" in [each.host for each in look_up("localhost", socket.AF_INET)]


@pytest.mark.parametrize("host", ["north..example", "n" * 64])
def test_system_look_up_raises_oserror_for_impossible_name(host: str) -> None:
    """``getaddrinfo`` itself raises another error for some of them."""
    with pytest.raises((UnicodeError, OSError)):
        look_up(host, socket.AF_UNSPEC)
