"""An event loop that asks the kernel less often what has come, while it has other work.

asyncio asks in each turn, also where callbacks wait already. But most turns only continue what the
turn before has begun: a message was received, and its answer is sent in the next turn, the step of
a task is followed by another. Each such question is a system call that finds nothing.
See docs/decisions/0050-the-kernel-is-asked-less-often.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from selectors import DefaultSelector, SelectorKey
from typing import Final

POLL_SECONDS: Final = 0.001

Ready = list[tuple[SelectorKey, int]]


class SparingSelector(DefaultSelector):
    """A selector that finds nothing for ``POLL_SECONDS`` after a look, if it must not wait.

    asyncio passes a timeout of 0 where callbacks are ready. ``now`` returns steady seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._fresh_until = 0.0

    def select(self, timeout: float | None = None) -> Ready:
        """Return what is ready, as every selector."""
        if timeout is not None and timeout <= 0 and self._now() < self._fresh_until:
            return []
        found = super().select(timeout)
        self._fresh_until = self._now() + POLL_SECONDS
        return found


def event_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop."""
    return asyncio.SelectorEventLoop(SparingSelector())
