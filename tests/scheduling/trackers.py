"""Load trackers and pages for the tests of the decision."""

from __future__ import annotations

from grid.events import Counts
from scheduling.candidates import CandidateTable
from scheduling.explain import candidates
from scheduling.load_tracker import LoadTracker
from scheduling.readings import Reading
from scheduling.substation_state import SubstationState

A = "a"
RUN = 1000.0  # when a substation's process started


def tracker_of(*names: str, connectors: float | None = None) -> LoadTracker:
    """Return a load tracker of some substations, stale after 2 s."""
    tracker = LoadTracker(stale_after=2, default_connectors=50)
    tracker.keep(dict.fromkeys(names or (A,), connectors))
    return tracker


def page(
    load: float,
    accepted: float = 0,
    completed: float = 0,
    run: float = RUN,
    power_kw: float | None = None,
) -> Reading:
    """Return a page with counters, and with the power in kW if that is given."""
    return Reading(load, 50, power_kw, counts=Counts(load, accepted, completed, 0, run, power_kw))


def sync_baseline(
    tracker: LoadTracker, reading: Reading, now: float = 0, ready: float = 0
) -> SubstationState:
    """Set the baseline of substation a from a page and the depth of its queue."""
    tracker.read(A, reading, now)
    tracker.ask_depth(A)
    tracker.depth(A, ready, now)
    tracker.read(A, reading, now)
    state = tracker.substations[A]
    assert state.synced
    return state


def synced(
    load: float = 0, accepted: float = 0, ready: float = 0
) -> tuple[LoadTracker, SubstationState]:
    """Return a load tracker that knows substation a at 0 s, and its baseline."""
    tracker = tracker_of()
    return tracker, sync_baseline(tracker, page(load, accepted, accepted - load), ready=ready)


def utilisation(tracker: LoadTracker, now: float = 0) -> float:
    """Return the utilisation of substation a, as a decision sees it."""
    tracker.touch(tracker.substations[A])  # a table that is made later is told of it, too
    return next(
        each.utilisation
        for each in candidates(CandidateTable(tracker, 0.5, 0.0), now)
        if each.substation == A
    )
