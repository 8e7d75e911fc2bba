"""Waiting for something, but not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def within(seconds: float, work: Coroutine[Any, Any, object]) -> bool:
    """Wait for work at most so long; tells whether it was done."""
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return False
    return True
