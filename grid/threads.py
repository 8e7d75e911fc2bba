"""Running blocking calls outside of the loop's thread.

Each call has a daemon thread of its own: one that never returns neither blocks the loop's default
executor nor keeps the process from ending. The caller limits how many run at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import TypeVar

from grid.waiting import unreported

T = TypeVar("T")


def in_thread(work: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Return a future of what ``work`` returns or raises in a thread called ``name``.

    Raises:
        RuntimeError: the system has no thread left.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    unreported(future)

    def call() -> None:
        try:
            settled = partial(_set_result, future, work())
        except Exception as error:  # noqa: BLE001  # raised to whoever awaits the future
            settled = partial(_set_exception, future, error)
        with suppress(RuntimeError):  # if the loop has ended meanwhile
            loop.call_soon_threadsafe(settled)

    Thread(target=call, name=name, daemon=True).start()
    return future


def _set_result(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
