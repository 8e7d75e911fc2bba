"""A line in the log for what a service has done lately, at a rate a person can read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from heapq import nlargest
from typing import Final

INTERVAL_SECONDS: Final = 10.0
SHOWN: Final = 5  # counts that a line names; what others there are is summed up

Totals = Callable[[], Mapping[str, float]]


class Summary:
    """What has been counted since the last line. Pure.

    Totals are counted from the start of the service, each with what it counts: ``accepted``.
    """

    def __init__(self) -> None:
        self._before: Mapping[str, float] = {}

    def end_interval(self, totals: Mapping[str, float], state: str) -> str | None:
        """Return the line of the interval that ends, with its state; None if nothing happened."""
        before, self._before = self._before, dict(totals)
        grown = {what: total - before.get(what, 0.0) for what, total in totals.items()}
        grown = {what: count for what, count in grown.items() if count > 0}
        if not grown:
            return None
        shown = nlargest(SHOWN, grown, key=lambda what: grown[what])
        parts = [f"{grown.pop(what):.0f} {what}" for what in shown]
        if grown:
            parts.append(f"{sum(grown.values()):.0f} others")
        return f"in {INTERVAL_SECONDS:g} s: {', '.join(parts)}; {state}"


async def summarise(log: logging.Logger, totals: Totals, state: Callable[[], str]) -> None:
    """Log a line after each interval in which something was counted, until cancelled."""
    summary = Summary()
    while True:
        await asyncio.sleep(INTERVAL_SECONDS)
        if (line := summary.end_interval(totals(), state())) is not None:
            log.info("%s", line)
