"""A loop that asks the kernel less often what has come."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from selectors import EVENT_READ, DefaultSelector

import pytest

from grid import polling
from grid.polling import POLL_SECONDS, Ready, SparingSelector


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the ends of a connection."""
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(0)
        other.settimeout(0)
        yield one, other


Ends = tuple[socket.socket, socket.socket]


def test_selector_that_must_not_wait_looks_again_after_a_moment(ends: Ends) -> None:
    """What comes within a millisecond after a look is found by the first one beyond it."""
    now = [100.0]
    with SparingSelector(lambda: now[0]) as selector:
        selector.register(ends[0], EVENT_READ)
        assert selector.select(0) == []
        ends[1].send(b"x")
        now[0] += 0.9 * POLL_SECONDS
        assert selector.select(0) == []
        now[0] += 0.1 * POLL_SECONDS
        assert [key.fileobj for key, _ in selector.select(0)] == [ends[0]]


@pytest.mark.parametrize("timeout", [None, 0.001, 10.0])
def test_selector_that_may_wait_always_looks(ends: Ends, timeout: float | None) -> None:
    """A loop that has nothing else to do is late for nothing."""
    with SparingSelector(lambda: 100.0) as selector:
        selector.register(ends[0], EVENT_READ)
        assert selector.select(0) == []
        ends[1].send(b"x")
        assert [key.fileobj for key, _ in selector.select(timeout)] == [ends[0]]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Return the timeouts with which the kernel was asked so far."""
    found: list[float | None] = []
    look = DefaultSelector.select

    def select(self: DefaultSelector, timeout: float | None = None) -> Ready:
        found.append(timeout)
        return look(self, timeout)

    monkeypatch.setattr(DefaultSelector, "select", select)
    return found


def test_loop_asks_once_for_callbacks_that_follow_on_each_other(
    monkeypatch: pytest.MonkeyPatch, looks: list[float | None], ends: Ends
) -> None:
    """An answer that takes several turns is one system call of the loop, and not one a turn."""
    monkeypatch.setattr(polling, "POLL_SECONDS", 60)  # however slow the machine is

    async def answer() -> None:
        loop = asyncio.get_running_loop()
        came = loop.create_future()
        loop.add_reader(ends[0], came.set_result, None)
        loop.call_later(0.01, ends[1].send, b"x")
        await came
        loop.remove_reader(ends[0])
        looks.clear()
        for _ in range(5):
            await asyncio.sleep(0)
        assert looks == []

    with asyncio.Runner(loop_factory=polling.event_loop) as runner:
        runner.run(answer())


def test_loop_that_is_never_idle_still_receives(ends: Ends) -> None:
    """Work that goes on without end delays what comes by a moment only."""

    async def receive() -> bytes:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def work() -> None:
            if not ended.is_set():
                loop.call_soon(work)

        work()
        loop.call_later(0.01, ends[1].send, b"x")
        try:
            async with asyncio.timeout(20):
                return await loop.sock_recv(ends[0], 1)
        finally:
            ended.set()

    with asyncio.Runner(loop_factory=polling.event_loop) as runner:
        assert runner.run(receive()) == b"x"
