"""Reports changes of the substations: snapshots in the event log, and lines in the process's log.

The process's log has each problem once, when it begins and when it is over.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Set
from typing import Any, Final

from msgspec.structs import replace

from dispatcher.standby import Standby
from grid import kinds
from grid.event_log import EventWriter
from grid.events import MARKER, Event
from scheduling.explain import RESERVED, Candidate, shown
from scheduling.load_tracker import NO_BASELINE
from scheduling.power_limits import Step

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 1.0
CHECK_INTERVAL: Final = 0.25  # short enough to log a single page that cannot be read
START_SECONDS: Final = 15.0  # pages are read and queues looked at for the first time
ALIVE: Final = "dispatcher"  # the mark by which readers see that the writer lives
LEAST_EVERY: Final = 10  # snapshots not written since nothing changed, before one is
_FIGURES: Final = re.compile(r"[\d.]+")

Candidates = Callable[[], list[Candidate]]


class Snapshots:
    """Writes what is known of all substations to the event log.

    ``former`` are the substations that left and whose queues are still looked at: the next
    dispatcher must do so too. ``unsettled_since`` returns the offset from which the next dispatcher
    has to read the event log, ``kept_for`` the priority for which all free connectors are kept.
    """

    def __init__(
        self,
        candidates: Candidates,
        former: Set[str],
        writer: EventWriter,
        standby: Standby,
        *,
        unsettled_since: Callable[[], int],
        kept_for: Callable[[], int | None],
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._candidates = candidates
        self._former = former
        self._unsettled_since = unsettled_since
        self._kept_for = kept_for
        self._writer = writer
        self._standby = standby
        self._clock = clock
        self._now = now

    async def publish(self) -> None:
        """Write a snapshot whenever something has changed, until the task is cancelled.

        Else a mark is written: a reader knows within seconds that the dispatcher is silent, and the
        event log does not fill with what it has already.
        """
        before: object = None
        unwritten = 0
        while True:
            found = self._candidates()
            # a dispatcher that takes over writes one at once
            rows, former = [_without_age(each) for each in found], sorted(self._former)
            seen = rows, former, self._standby.terms, self._kept_for()
            unwritten += 1
            due = seen != before or unwritten >= LEAST_EVERY
            if self._may_write():
                if due:
                    self._write(found)
                    before, unwritten = seen, 0
                else:
                    self._writer.write(Event(MARKER, self._clock(), job=ALIVE))
            await asyncio.sleep(INTERVAL_SECONDS)

    def write_last(self) -> None:
        """Write a last snapshot, which says that this dispatcher is not active any more."""
        if self._may_write():
            self._write(self._candidates(), leaves=True)

    def _may_write(self) -> bool:
        # an old snapshot is useless, so none is kept for later
        return self._writer.connected and not self._standby.is_standby(self._now())

    def _write(self, found: Iterable[Candidate], *, leaves: bool = False) -> None:
        self._writer.write(
            kinds.snapshot(
                self._clock(),
                self._standby.name,
                [_row(each) for each in found],
                self._former,
                self._unsettled_since(),
                leaves=leaves,
                kept_for=self._kept_for(),
            )
        )


async def announce(candidates: Candidates, blind: Callable[[], bool]) -> None:
    """Log changes until the task is cancelled."""
    announcer, now = Announcer(), asyncio.get_running_loop().time
    settled = now() + START_SECONDS
    while True:
        announcer.look(candidates(), blind=blind(), starting=now() < settled)
        await asyncio.sleep(CHECK_INTERVAL)


class Announcer:
    """Logs when a substation becomes ineligible, and when it is eligible again.

    Also when a limit of its power begins, changes or ends.
    """

    def __init__(self) -> None:
        self._limits: dict[str, Step] = {}
        self._said: dict[str, str] = {}
        self._blind = False
        self._has_seen = False  # any gauge

    def look(self, candidates: Iterable[Candidate], *, blind: bool, starting: bool = False) -> None:
        """Log what has changed since the last look.

        While it is ``starting``, nothing is wrong yet with what has not worked before: with gauges
        that were not read, and with a substation that was not eligible.
        """
        self._has_seen = self._has_seen or not blind
        if blind != self._blind and (self._has_seen or not starting):
            self._blind = blind
            if blind:
                log.error("no substation's gauges are current: the load tracker alone decides")
            else:
                log.info("gauges are current again")
        for each in candidates:
            self._look_at_limit(each)
            problem = each.problem or (RESERVED if each.reserved else None)
            if problem is not None and starting and each.substation not in self._said:
                continue
            self._look(each.substation, problem, logging.INFO if each.reserved else logging.WARNING)

    def _look_at_limit(self, candidate: Candidate) -> None:
        name, limit = candidate.substation, candidate.power_limit
        if limit == self._limits.get(name):
            return
        if limit is None:
            del self._limits[name]
            log.info("the power of substation %s is not limited any more", name)
        else:
            self._limits[name] = limit
            log.info("substation %s is %s", name, candidate.power_limit_words)

    def _look(self, substation: str, problem: str | None, level: int) -> None:
        if problem == NO_BASELINE:  # it lasts for moments, and needs no action
            return
        kind = _FIGURES.sub("", problem or "")
        before, self._said[substation] = self._said.get(substation, ""), kind
        if kind == before:
            return
        if problem is None:
            log.info("substation %s is eligible again", substation)
        else:
            log.log(level, "substation %s is not eligible: %s", substation, problem)


def _row(candidate: Candidate) -> dict[str, Any]:
    """Return what a snapshot says of a substation: somewhat more than each decision."""
    row = {**shown(candidate), "background_power_kw": round(candidate.background_kw, 3)}
    if candidate.promised:
        row["promised"] = candidate.promised
        row["next_promised_start"] = candidate.next_promised_start
    return row


def _without_age(candidate: Candidate) -> Candidate:
    """Return a candidate without the age of its gauge, which always changes."""
    return replace(candidate, gauge_age=None)
