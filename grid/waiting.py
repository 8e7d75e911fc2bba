"""Waiting with a timeout, and futures that nobody waits for any more."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def within(seconds: float, work: Coroutine[Any, Any, object]) -> bool:
    """Wait for work at most so long; return whether it was done.

    Not with ``asyncio.wait_for``: before Python 3.12 that can lose the cancellation of its caller.
    """
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return False
    return True


async def together(*work: Coroutine[Any, Any, object]) -> None:
    """Do several things at once until one of them fails; end the others, and raise its error.

    ``asyncio.gather`` alone leaves the others running. Source: the documentation of asyncio.
    """
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for each in tasks:
            each.cancel()


def unreported(future: asyncio.Future[Any]) -> None:
    """Keep asyncio from reporting a future's failure: whoever still awaits it gets it.

    Else the failure of a future that nobody waits for any more would end the service.
    """
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
