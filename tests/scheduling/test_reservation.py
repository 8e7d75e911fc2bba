"""A request that needs more power than ever becomes free at once is not overtaken for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grid.controls import Availability, Control
from grid.events import Counts
from scheduling import reservation
from scheduling.candidates import CandidateTable
from scheduling.explain import RESERVED, candidates
from scheduling.load_tracker import LoadTracker
from scheduling.order import Requirements
from scheduling.policies import LeastLoaded
from scheduling.readings import Reading
from scheduling.reservation import MAX_OVERTAKEN_SECONDS
from scheduling.scheduler import Scheduler
from scheduling.wait_queue import WaitQueue
from tests.scheduling.tables import RUN

STEP = 0.5  # seconds
RATED = 100.0  # kW
SMALL, LARGE = 10.0, 70.0
SESSION = 3.0  # seconds


@dataclass(eq=False)
class One:
    """A request that waits."""

    requirements: Requirements


@dataclass
class Station:
    """A substation: when each of its sessions ends, and what that draws."""

    background: float = 0.0
    sessions: list[tuple[float, float]] = field(default_factory=list)
    accepted: int = 0

    def page(self, now: float) -> Reading:
        """Return its page, without the sessions that have ended by now."""
        self.sessions = [each for each in self.sessions if each[0] > now]
        load, power = len(self.sessions), sum(power for _, power in self.sessions)
        counts = Counts(load, self.accepted, self.accepted - load, 0, RUN, power)
        return Reading(load, 50, power, RATED, self.background, counts, SESSION)


class Depot:
    """Substations that begin each job at once, a wait queue, and its rounds."""

    def __init__(self, **background: float) -> None:
        self.now = 0.0
        self.stations = {name: Station(kw) for name, kw in background.items()}
        self.tracker = LoadTracker(2.0, default_connectors=50)
        self.tracker.keep(dict.fromkeys(self.stations))
        self.table = CandidateTable(self.tracker, STEP, 0.0)
        self.queue: WaitQueue[One] = WaitQueue()
        self.scheduler: Scheduler[One] = Scheduler(self.table, LeastLoaded(), Random(1))  # noqa: S311
        self.placed: dict[One, tuple[str, float]] = {}
        self.explained: dict[One, Mapping[str, Any]] = {}
        for name in self.stations:
            self.tracker.queued(name, 0, 1)
            self.tracker.read(name, self.stations[name].page(0.0), 0.0)
            self.tracker.ask_depth(name)
            self.tracker.depth(name, 0, 0.0)
        self.step()

    def ask(self, power_kw: float, *allowed: str, rank: float = 0.0) -> One:
        """Add a request to the wait queue."""
        one = One(
            Requirements((rank, 0.0, self.now, str(len(self.placed))), allowed, power_kw, inf)
        )
        self.queue.add(one)
        return one

    def step(self, small: int = 0, power_kw: float = SMALL, rank: float = 0.0) -> None:
        """Advance by half a second: sessions end, pages are read, requests come, all are routed."""
        self.now += STEP
        for name, station in self.stations.items():
            self.tracker.read(name, station.page(self.now), self.now)
        for _ in range(small):
            self.ask(power_kw, rank=rank)
        for assignment in self.scheduler.schedule(self.queue, self.now):
            self._place(assignment.job, assignment.substation)
            self.explained[assignment.job] = assignment.explanation

    def _place(self, one: One, name: str) -> None:
        station, power = self.stations[name], one.requirements.power_kw
        station.accepted += 1
        station.sessions.append((self.now + SESSION, power))
        drawn = station.background + sum(each for _, each in station.sessions)
        assert drawn <= RATED + 1e-6
        self.placed[one] = name, self.now


def busy(**background: float) -> Depot:
    """Return a depot in which small requests have taken all power, and keep coming."""
    depot = Depot(**(background or {"a": 0.0, "b": 0.0}))
    for _ in range(8):
        depot.step(6)
    return depot


def wait(depot: Depot, one: One, seconds: float = 60.0) -> float:
    """Go on until the request is placed or the time is up; return how long that took."""
    since = depot.now
    while one not in depot.placed and depot.now - since < seconds:
        depot.step(6)
    return depot.now - since


def test_large_job_starves_without_a_reservation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without reservations, each kilowatt that becomes free goes to a smaller request behind it."""
    monkeypatch.setattr(reservation, "MAX_OVERTAKEN_SECONDS", inf)
    depot = busy()
    large = depot.ask(LARGE, rank=-9)
    assert wait(depot, large) == 60
    assert len(depot.placed) > 300


def test_reservation_starts_after_some_seconds_and_lasts_one_session() -> None:
    """Then a substation is reserved until it fits there; the others go on as before."""
    depot = busy()
    large = depot.ask(LARGE, rank=-9)
    before = len(depot.placed)
    assert wait(depot, large) <= MAX_OVERTAKEN_SECONDS + SESSION + 2 * STEP
    assert len(depot.placed) - before > 20, "small ones are charged meanwhile"
    assert depot.table.reserved is None
    depot.step(6)
    where, _ = depot.placed[large]
    assert any(name == where for name, at in depot.placed.values() if at == depot.now)


def test_reservation_is_shown_with_its_reason() -> None:
    """A reserved substation is shown as such, and no other request may go there."""
    depot = busy()
    depot.ask(LARGE, rank=-9)
    while depot.table.reserved is None:
        depot.step(6)
    seen = {each.substation: each for each in candidates(depot.table, depot.now)}
    assert [name for name, each in seen.items() if each.reserved] == [depot.table.reserved]
    assert seen[depot.table.reserved].reason == RESERVED
    assert depot.table.candidates_for(1.0, [depot.table.reserved], depot.now) is None


def test_reservation_does_not_block_its_own_job_in_the_explanation() -> None:
    """Its explanation must not say that the chosen substation is kept for a job."""
    depot = busy()
    large = depot.ask(LARGE, rank=-9)
    wait(depot, large)
    where, _ = depot.placed[large]
    (shown,) = (
        each for each in depot.explained[large]["candidates"] if each["substation"] == where
    )
    assert (shown["eligible"], shown["reason"]) == (True, None)


def test_reservation_ends_when_its_job_leaves_the_wait_queue() -> None:
    """Its vehicle may have left: the substation is free for others at once."""
    depot = busy()
    large = depot.ask(LARGE, rank=-9)
    while depot.table.reserved is None:
        depot.step(6)
    reserved = depot.table.reserved
    depot.queue.pop_where(lambda one: one is large)
    depot.now += SESSION
    depot.step(6)
    assert depot.table.reserved is None
    assert reserved in {where for where, at in depot.placed.values() if at == depot.now}


def test_reservation_needs_a_substation_where_the_job_can_fit() -> None:
    """Not where the background draws too much, or where it may not go; else none is reserved."""
    depot = busy(a=40.0, b=0.0, c=0.0)
    large = depot.ask(LARGE, "a", "c", rank=-9)
    assert wait(depot, large) <= MAX_OVERTAKEN_SECONDS + SESSION + 2 * STEP
    assert depot.placed[large][0] == "c"
    never = depot.ask(LARGE, "a", rank=-9)
    assert wait(depot, never) == 60
    assert depot.table.reserved is None
    behind = depot.ask(LARGE, rank=-8)
    assert wait(depot, behind) <= MAX_OVERTAKEN_SECONDS + SESSION + 2 * STEP, "it is not forgotten"


def test_reservation_moves_when_its_substation_becomes_ineligible() -> None:
    """If the reserved one is drained or its page is gone, another substation is reserved."""
    depot = busy(a=0.0, b=0.0, c=0.0)
    large = depot.ask(LARGE, rank=-9)
    while depot.table.reserved is None:
        depot.step(6)
    first = depot.table.reserved
    depot.tracker.refuse(first, "refused", depot.now)
    del depot.stations[first]  # whose page is not read any more
    assert wait(depot, large) <= SESSION + 2 * STEP
    assert depot.placed[large][0] != first


def test_reservation_ends_when_background_power_grows_too_large() -> None:
    """None is reserved for a request that would not fit even alone; once it would, one is again."""
    depot = busy(a=0.0)
    large = depot.ask(LARGE, rank=-9)
    while depot.table.reserved is None:
        depot.step(6)
    depot.stations["a"].background = RATED - LARGE + 10
    assert wait(depot, large) == 60
    assert depot.table.reserved is None
    depot.stations["a"].background = 0.0
    assert wait(depot, large) <= MAX_OVERTAKEN_SECONDS + SESSION + 4 * STEP


def test_reservation_is_not_blocked_by_a_job_that_fits_nowhere() -> None:
    """It names a drained substation; the reservation for the one behind it is still made."""
    depot = busy(a=0.0, b=0.0)
    depot.tracker.control("b", Control("b", Availability.DRAINING, None, 1))
    depot.ask(SMALL, "b", rank=-10)
    large = depot.ask(LARGE, rank=-9)
    assert wait(depot, large) <= MAX_OVERTAKEN_SECONDS + SESSION + 2 * STEP


def test_reservation_stays_when_more_urgent_jobs_come() -> None:
    """They go first while there is capacity; the reserved one stays reserved."""
    depot = busy(a=0.0)
    large = depot.ask(LARGE, rank=-9)
    since = depot.now
    while large not in depot.placed and depot.now - since < 60:
        if depot.now % 3 == 0:
            depot.ask(SMALL, rank=-10)
        depot.step(6)
    assert depot.now - since <= MAX_OVERTAKEN_SECONDS + SESSION + 2 * STEP


def test_reservation_goes_where_a_connector_becomes_free() -> None:
    """Power that becomes free where no connector is free does not help."""
    depot = busy(a=0.0, b=0.0)
    depot.stations["b"].sessions = [(depot.now + 3600, 10.0)]  # a session for an hour
    depot.stations["b"].accepted += 1
    depot.tracker.control("b", Control("b", Availability.AVAILABLE, 1, 1))
    large = depot.ask(LARGE, rank=-9)
    assert wait(depot, large) <= MAX_OVERTAKEN_SECONDS + SESSION + 4 * STEP
    assert depot.placed[large][0] == "a"


ASKED = st.tuples(
    st.sampled_from([SMALL, 50.0, LARGE, RATED]),
    st.sampled_from([(), ("a",), ("b",), ("a", "c")]),
    st.integers(-10, -8),
)


@example([(50.0, (), -8), (RATED, (), -8)], 2, 10.0, -10, "b")  # both are overtaken at once
@example([(50.0, (), -8), (50.0, (), -8)], 12, 30.0, 0, "b")  # and so are equal ones
@given(
    st.lists(ASKED, min_size=1, max_size=5),
    st.integers(0, 12),
    st.sampled_from([5.0, 10.0, 30.0]),
    st.sampled_from([0, -10]),
    st.sampled_from(["", "b"]),
)
def test_reservation_lets_every_job_that_fits_be_charged_in_time(
    asked: list[tuple[float, tuple[str, ...], int]],
    small: int,
    power_kw: float,
    rank: int,
    drained: str,
) -> None:
    """In time, at the latest one after the other, however many smaller or more urgent ones come."""
    depot = busy(a=40.0, b=0.0, c=0.0)
    if drained:
        depot.tracker.control(drained, Control(drained, Availability.DRAINING, None, 1))
    ones = [depot.ask(power, *allowed, rank=at) for power, allowed, at in asked]
    since = depot.now
    limit = len(ones) * (MAX_OVERTAKEN_SECONDS + SESSION + 3 * STEP)
    while depot.now - since < limit:
        depot.step(small, power_kw, rank if small * power_kw < RATED / 4 else 0)
    background = {name: each.background for name, each in depot.stations.items() if name != drained}
    for one in ones:
        possible = [
            name
            for name in one.requirements.allowed or background
            if name in background and background[name] + one.requirements.power_kw <= RATED
        ]
        assert (one in depot.placed) == bool(possible), one.requirements
