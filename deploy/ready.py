"""Waiting until everything is ready."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from deploy import pages
from deploy.pages import NoAnswer
from grid.errors import STILL_READING

POLL_INTERVAL: Final = 0.5
READY_SECONDS: Final = 180.0
READING_SECONDS: Final = 600.0  # for the event log of a busy week, on a slow machine
TELL_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Look:
    """The state at one time: what is not ready and why, and what has ended for good."""

    waiting: Mapping[str, str] = field(default_factory=dict)
    ended: Sequence[str] = ()


def problem(url: str) -> str | None:
    """Request a page once; return what is wrong, or None if the answer is 200."""
    try:
        status, content = pages.ask(url)
    except NoAnswer as error:
        return str(error)
    return None if status == pages.OK else f"{url}: {status} {_reason(content)}"


def wait(
    look: Callable[[], Look],
    say: Callable[[str], None],
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Mapping[str, str]:
    """Look repeatedly until all is ready; return what is not ready in time, and why, by name.

    The time in which the api reads its event log, and lacks nothing else, does not count. What has
    ended for good is not waited for any longer.
    """
    started = now()
    deadline, reported = started + READY_SECONDS, False
    while True:
        seen = look()
        if seen.ended:
            why = "it ended again after every restart"
            return {name: seen.waiting.get(name, why) for name in seen.ended}
        if not seen.waiting or now() > deadline:
            return seen.waiting
        if _reading(seen) and now() < started + READING_SECONDS:
            deadline = now() + READY_SECONDS
            if not reported and now() > started + TELL_SECONDS:
                say("The api still reads its event log: after busy days this takes some minutes")
                reported = True
        sleep(POLL_INTERVAL)


def _reading(seen: Look) -> bool:
    return any(why.endswith(f" 503 {STILL_READING}") for why in seen.waiting.values())


def _reason(content: str) -> str:
    """Return the problems of a ``/readyz``, or the beginning of any other page."""
    try:
        return "; ".join(json.loads(content)["problems"])
    except (ValueError, KeyError, TypeError):
        return content[:500].strip()
