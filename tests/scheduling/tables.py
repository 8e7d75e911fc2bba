"""Candidate tables made of rows: what is known of one substation, and why it is ineligible."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from grid.controls import Availability, Control, PowerBlock, PowerLimits
from grid.events import Counts
from scheduling.candidates import Candidates, CandidateTable
from scheduling.health import FREE_FAILURES
from scheduling.load_tracker import LoadTracker
from scheduling.readings import Reading

NOW: Final = 100.0  # when the pages of a table were asked for
PERIOD: Final = 0.5
STALE: Final = 2.0
RUN: Final = 1000.0  # when the substations' processes started


BRIEF: Final = 3.5  # seconds


@dataclass(frozen=True, slots=True)
class Row:
    """One substation: what its page says, the powers in flight to it, and what an operator set.

    One that is not ``hearing`` has no counters, so no events come; the others' sessions take
    ``BRIEF`` seconds unless ``session`` says otherwise. ``closed`` is a key of ``CLOSED``.
    """

    name: str
    load: float = 0
    places: float = 10
    in_flight_kw: tuple[float, ...] = ()
    rated: float | None = None
    power: float | None = None
    background: float | None = None
    observations: bool = True
    session: float | None = None
    limit: int | None = None
    blocks: tuple[tuple[float, float, float], ...] = ()
    fallback_kw: float | None = None
    consumers: int | None = 1
    closed: str = ""

    @property
    def control(self) -> Control:
        """Return what an operator has set; blocks are in seconds since ``NOW``."""
        blocks = tuple(PowerBlock(NOW + start, NOW + end, kw) for start, end, kw in self.blocks)
        limits = PowerLimits(blocks, "dso", 0.0, self.fallback_kw) if blocks else None
        return Control(self.name, Availability.AVAILABLE, self.limit, 1, limits)

    def page(self, load: float | None = None) -> Reading:
        """Return its page, perhaps with another load."""
        load = self.load if load is None else load
        counts = Counts(load, load, 0, 0, RUN, self.power) if self.observations else None
        session = self.session or (BRIEF if self.observations else None)
        return Reading(load, self.places, self.power, self.rated, self.background, counts, session)


def _ejected(tracker: LoadTracker, row: Row) -> None:
    state = tracker.substations[row.name]
    for _ in range(FREE_FAILURES + 1):
        state.health.record_failure(NOW)
        state.health.record_recovery(NOW, row.load)
    tracker.touch(state)


def _drained(tracker: LoadTracker, row: Row) -> None:
    tracker.control(row.name, Control(row.name, Availability.DRAINING, None, 1))


# each makes a substation ineligible
CLOSED: Final[Mapping[str, Callable[[LoadTracker, Row], None]]] = {
    "drained": _drained,
    "ejected": _ejected,
    "failed": lambda tracker, row: tracker.fail(row.name, "HTTP 500", NOW),
    "refused": lambda tracker, row: tracker.refuse(row.name, "unroutable", NOW),
    "no consumer": lambda tracker, row: tracker.queued(row.name, 0, 0),
    "stale": lambda _, __: None,
    "never read": lambda _, __: None,
    "baseline unknown": lambda _, __: None,
}


def table_of(*rows: Row, slow_start: float = 0) -> CandidateTable:
    """Return the candidate table of these rows, as of ``NOW``."""
    tracker = LoadTracker(STALE, default_connectors=10)
    tracker.keep(dict.fromkeys(row.name for row in rows))
    for row in rows:
        enter(tracker, row)
    return CandidateTable(tracker, PERIOD, slow_start)


def enter(tracker: LoadTracker, row: Row) -> None:
    """Enter what a row says into a load tracker."""
    name = row.name
    if row.limit is not None or row.blocks:
        tracker.control(name, row.control)
    if row.consumers is not None:
        tracker.queued(name, 0, row.consumers)
    if row.closed != "never read":
        read(tracker, row, NOW - 5 if row.closed == "stale" else NOW)
    for power in row.in_flight_kw:
        tracker.dispatch(name, NOW, power)
    if row.closed:
        CLOSED[row.closed](tracker, row)


def read(tracker: LoadTracker, row: Row, at: float) -> None:
    """Read a substation's page, and set its baseline with nothing in its queue."""
    tracker.read(row.name, row.page(), at)
    if row.observations and row.closed != "baseline unknown":
        tracker.ask_depth(row.name)
        tracker.depth(row.name, 0, at)
        tracker.read(row.name, row.page(), at)


def after(candidates: Candidates | None) -> dict[str, float]:
    """Return the utilisation after placement of each candidate."""
    if candidates is None:
        return {}
    return {candidates.name(number): candidates.after[number] for number in candidates.numbers}


def names(table: CandidateTable, power_kw: float = 7, now: float = NOW, *allowed: str) -> list[str]:
    """Return the names of the candidates for a request of so much power."""
    return list(after(table.candidates_for(power_kw, allowed, now)))
