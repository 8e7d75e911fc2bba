"""Power limits over time: as functions of time, in the candidate table, and in the scheduler."""

from __future__ import annotations

from dataclasses import replace as replace_row
from itertools import pairwise
from math import inf
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from grid.controls import PowerBlock, PowerLimits
from scheduling.explain import candidates
from scheduling.limit_table import LimitTable
from scheduling.order import Requirements
from scheduling.policies import LeastLoaded
from scheduling.power_limits import USUAL_SESSION_SECONDS, LimitSteps
from scheduling.reservation import MAX_OVERTAKEN_SECONDS, RETRY_INTERVAL
from scheduling.scheduler import Scheduler
from scheduling.wait_queue import WaitQueue
from tests.examples import examples
from tests.grid.strategies import power_limits
from tests.scheduling.tables import NOW, Row, after, read, table_of
from tests.scheduling.test_scheduler import One

BRIEF = 1e-6  # seconds: a session that is over at once
DAY = 1_800_000_000.0 // 86_400 * 86_400  # a midnight
CLOCKS = st.integers(0, 10_000).map(float) | st.floats(0, 2e11)


def limit_at(limits: PowerLimits, clock: float) -> float:
    """Return the limit at a time, by looking at each block."""
    (kw,) = [each.kw for each in limits.blocks if each.start <= clock < each.end] or [
        inf if limits.fallback_kw is None else limits.fallback_kw
    ]
    return kw


def changes(limits: PowerLimits) -> list[float]:
    """Return when blocks begin and end."""
    return [at for each in limits.blocks for at in (each.start, each.end)]


@examples()
@given(power_limits, CLOCKS)
def test_limit_is_that_of_the_block_or_the_fallback(limits: PowerLimits, clock: float) -> None:
    """At any time, and exactly where blocks begin and end; a step is as long as it can be."""
    steps = LimitSteps(limits)
    for at in (clock, *changes(limits)):
        step = steps.at(at)
        assert step.kw == limit_at(limits, at)
        assert step.start <= at < step.end
    followed = pairwise(steps.steps)
    assert all(one.end == other.start and one[2:] != other[2:] for one, other in followed)
    assert (steps.steps[0].start, steps.steps[-1].end) == (-inf, inf)


@examples()
@given(power_limits, CLOCKS, st.floats(0, 1e10), st.floats(0, 1e6))
def test_lowest_limit_is_that_of_every_time_between(
    limits: PowerLimits, start: float, seconds: float, power_kw: float
) -> None:
    """Where it changes it is looked at; the end does not count, the beginning does."""
    steps, end = LimitSteps(limits), start + seconds
    times = [start, *(at for at in changes(limits) if start <= at < end)]
    assert steps.lowest_between(start, end) == min(limit_at(limits, at) for at in times)
    first = steps.first_below(power_kw, start, end)
    below = [at for at in times if power_kw > limit_at(limits, at) * (1 + 1e-9)]
    assert (first is None) == (not below)
    if first is not None:
        assert first.start <= max(start, first.start) <= min(below) < first.end


@pytest.mark.parametrize(
    ("clock", "kw"),
    [(0, 20.0), (9.9, 20.0), (10, 5.0), (25, 20.0), (30, None), (-86_389, 20.0), (-86_391, None)],
)
def test_next_lower_limit_begins_within_a_day(clock: float, kw: float | None) -> None:
    """Lower than the one that holds: from 20 kW to the fallback of 60 is none."""
    blocks = (PowerBlock(DAY + 10, DAY + 20, 20.0), PowerBlock(DAY + 20, DAY + 25, 5.0))
    later = PowerBlock(DAY + 28, DAY + 30, 20.0)
    steps = LimitSteps(PowerLimits((*blocks, later), "dso", DAY, 60.0))
    found = steps.next_lower(DAY + clock)
    assert (None if found is None else found.kw) == kw


@examples()
@given(
    st.dictionaries(st.integers(0, 20), power_limits, min_size=1, max_size=4),
    CLOCKS,
    st.floats(0, 1e10),
    st.floats(0, 1e6),
)
def test_limit_table_says_the_same_as_each_substations_limits(
    limits: dict[int, PowerLimits], clock: float, seconds: float, power_kw: float
) -> None:
    """Where nobody knows how long a job takes, by the sessions at each substation."""
    several = {number: LimitSteps(each) for number, each in limits.items()}
    table = LimitTable(several)
    usual = {number: None if number % 2 else 10.0 * (1 + number) for number in limits}
    for number, mean in usual.items():
        table.note_session(number, mean)
    powers = np.array([power_kw * (1 + place) for place in range(len(limits))])
    expected = []
    for drawn_kw, number in zip(powers, sorted(limits), strict=True):
        length = seconds or usual[number]
        end = clock + (USUAL_SESSION_SECONDS if length is None else length)
        if several[number].first_below(float(drawn_kw), clock, end) is not None:
            expected.append(number)
    assert table.crossed(powers, seconds, clock).tolist() == expected


@examples()
@given(
    st.dictionaries(st.integers(0, 20), power_limits, min_size=1, max_size=4),
    st.lists(CLOCKS, min_size=2, max_size=6),
)
def test_limit_table_tells_of_each_change_once(
    limits: dict[int, PowerLimits], clocks: list[float]
) -> None:
    """However far the clock goes, or is set back."""
    table = LimitTable({number: LimitSteps(each) for number, each in limits.items()})
    table.take_changed(clocks[0])
    for before, now in pairwise(clocks):
        changed = table.take_changed(now)
        for number, each in limits.items():
            assert number in changed or limit_at(each, before) == limit_at(each, now)
        assert table.take_changed(now) == []


@pytest.mark.parametrize(
    ("clock", "words"),
    [
        (DAY + 3600, "limited to 60 kW until 17:00 UTC by dso (fallback)"),
        (DAY + 17 * 3600, "limited to 20.5 kW until 18:00:30 UTC by dso"),
        (DAY - 1, "limited to 60 kW until {} 17:00 UTC by dso (fallback)"),
        (DAY + 19 * 3600, "limited to 60 kW by dso (fallback)"),
    ],
)
def test_limit_in_words_says_until_when_and_by_whom(clock: float, words: str) -> None:
    """With the date, where that is not today's."""
    block = PowerBlock(DAY + 17 * 3600, DAY + 18 * 3600 + 30, 20.5)
    steps = LimitSteps(PowerLimits((block,), "dso", DAY, 60.0))
    assert steps.at(clock).in_words(clock) == words.format("2027-01-15")
    coming = steps.at(DAY + 17 * 3600).in_words(DAY)
    assert coming == "limited to 20.5 kW from 17:00 UTC by dso"


# in the candidate table


@pytest.mark.parametrize(
    ("row", "seconds", "fits"),
    [
        (Row("a", blocks=((-1, 10, 20),)), BRIEF, True),
        (Row("a", 1, power=13, blocks=((-1, 10, 20),)), BRIEF, True),
        (Row("a", 1, power=13.1, blocks=((-1, 10, 20),)), BRIEF, False),
        (Row("a", in_flight_kw=(13.1,), blocks=((-1, 10, 20),)), BRIEF, False),
        (Row("a", background=13.1, blocks=((-1, 10, 20),)), BRIEF, False),
        (Row("a", background=13.1, rated=15, blocks=((-1, 10, 200),)), BRIEF, False),
        (Row("a", blocks=((-1, 10, 0),)), BRIEF, False),
        (Row("a", 1, power=13.1, blocks=((5, 10, 20),)), 5, True),
        (Row("a", 1, power=13.1, blocks=((5, 10, 20),)), 5.1, False),
        (Row("a", 1, power=13.1, rated=400, blocks=((5, 10, 20),)), 1000, False),
        (Row("a", 1, power=13.1, blocks=((-5, 0, 20),)), 1000, True),
        (Row("a", 1, power=13.1, blocks=((-5, 0, 20),), fallback_kw=21), 1000, True),
        (Row("a", 1, power=13.1, blocks=((-5, 0, 20),), fallback_kw=20), BRIEF, False),
        (Row("a", 1, power=13.1, blocks=((-5, 5, 30),), fallback_kw=20), 5, True),
        (Row("a", 1, power=13.1, blocks=((-5, 5, 30),), fallback_kw=20), 5.1, False),
        (Row("a", 1, power=13.1, session=4, blocks=((5, 10, 20),)), 0, True),
        (Row("a", 1, power=13.1, session=6, blocks=((5, 10, 20),)), 0, False),
    ],
)
def test_candidate_crosses_no_limit_during_the_session(
    row: Row, seconds: float, *, fits: bool
) -> None:
    """Background, sessions, in flight and the job together: now, and until its end."""
    table = table_of(row)
    assert bool(table.candidates_for(7, (), NOW, seconds=seconds)) == fits
    shown = next(iter(candidates(table, NOW, Requirements((0, 0, 0, ""), (), 7, inf, seconds))))
    assert (shown.reason is None) == fits
    if not fits and row.rated is None:
        assert str(shown.reason).startswith("limited to ")
    assert table.tracker.substations["a"].rated_power_kw == row.rated  # whatever is limited
    assert table.largest_rating((), NOW) == (inf if row.rated is None else row.rated)


@examples()
@given(
    st.lists(
        st.tuples(st.floats(0, 100), power_limits.map(lambda each: each.blocks)),
        min_size=1,
        max_size=4,
    ),
    st.floats(0.1, 100),
    st.floats(0.1, 1e5),
    st.integers(0, 200_000).map(float),  # as exact in the tracker's seconds
)
def test_candidates_are_those_where_no_limit_is_crossed(
    sites: list[tuple[float, tuple[PowerBlock, ...]]], power_kw: float, seconds: float, clock: float
) -> None:
    """By plain arithmetic on each substation; the tracker's seconds are not the clock's."""
    rows = [Row(f"s{n}", 1, power=kw, blocks=((0, 1, 0),)) for n, (kw, _) in enumerate(sites)]
    table = table_of(*rows)
    table.tracker.clock_offset = clock - NOW
    expected = []
    for row, (kw, blocks) in zip(rows, sites, strict=True):
        limits = PowerLimits(blocks, "dso", 0.0, 50.0)
        table.tracker.control(row.name, replace(row.control, power_limits=limits))
        if LimitSteps(limits).first_below(kw + power_kw, clock, clock + seconds) is None:
            expected.append(row.name)
    assert list(after(table.candidates_for(power_kw, (), NOW, seconds=seconds))) == expected


def test_candidate_table_sees_limits_begin_and_end() -> None:
    """Without any other change; also where an operator replaces or removes them."""
    row = Row("a", 1, power=13.1, blocks=((0.5, 1, 20), (1, 1.5, 30)))
    table = table_of(row)
    found = [bool(table.candidates_for(7, (), NOW + each)) for each in (0, 0.4, 0.5, 0.9, 1.0, 1.5)]
    assert found == [True, True, False, False, True, True]
    table.tracker.control("a", replace(row.control, power_limits=None))
    assert table.has_capacity(NOW, power_kw=7)
    assert not table.plans_ahead
    table.tracker.clock_offset = 0.7
    table.tracker.control("a", row.control)
    assert not table.has_capacity(NOW, power_kw=7)


# in the scheduler


class Routing:
    """Substations, those that wait, and the scheduler."""

    def __init__(self, *rows: Row) -> None:
        self.rows = rows
        self.table = table_of(*rows)
        self.queue: WaitQueue[One] = WaitQueue()
        self.scheduler: Scheduler[One] = Scheduler(self.table, LeastLoaded(), Random(1))  # noqa: S311

    def round(self, now: float, *jobs: tuple[str, float, float]) -> list[str]:
        """Let jobs of a name, a power and seconds join; return which are assigned."""
        for rank, (name, power_kw, seconds) in enumerate(jobs):
            needs = Requirements((rank, 0, 0, name), (), power_kw, inf, seconds)
            self.queue.add(One(name, needs))
        return [each.job.name for each in self.scheduler.schedule(self.queue, now)]


def test_scheduler_starts_jobs_when_a_limit_ends() -> None:
    """By itself, at the first pass after that; before, a pass looks at nothing."""
    routing = Routing(Row("a", 1, power=13, blocks=((-1, 1, 20),)))
    jobs = [(name, 7.0, 1.0) for name in "xyz"]
    assert routing.round(NOW, *jobs) == ["x"]
    assert routing.round(NOW + 0.9) == []
    assert routing.round(NOW + 1.0) == ["y", "z"]


def test_scheduler_starts_a_short_job_behind_one_that_is_too_long() -> None:
    """One that ends before the lower limit begins; after that the longer one begins."""
    routing = Routing(Row("a", blocks=((1, 1.5, 10),)))
    jobs = [("long", 11.0, 1.5), ("longer", 11.0, 2.0), ("short", 11.0, 0.5), ("small", 5.0, 9.0)]
    assert routing.round(NOW, *jobs) == ["short"]
    assert [each.name for each in routing.queue] == ["long", "longer", "small"]
    row = Row("a", blocks=((1, 1.5, 10),))
    read(routing.table.tracker, row, NOW + 1.2)
    assert routing.round(NOW + 1.6) == ["long", "longer", "small"]


def test_scheduler_reserves_nothing_for_a_job_that_a_lower_limit_keeps_out() -> None:
    """It would keep out all others in vain."""
    row = Row("a", blocks=((20, 50, 10),))
    routing = Routing(row)
    now = NOW
    assert routing.round(now, ("long", 11.0, 100.0)) == []
    for _ in range(int(MAX_OVERTAKEN_SECONDS / RETRY_INTERVAL) + 3):
        now += RETRY_INTERVAL
        read(routing.table.tracker, row, now)
        assert routing.round(now) == []
        assert routing.table.reserved is None
    assert routing.round(now, ("short", 11.0, 1.0)) == ["short"]


@examples()
@given(
    st.lists(
        st.tuples(st.sampled_from([3.0, 7.0, 11.0]), st.just(0.0) | st.floats(0.1, 3)),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([((0.5, 1, 12),), ((0.5, 1, 22), (1, 2, 8)), ((-1, 1, 30), (2, 3, 3))]),
)
def test_scheduler_assigns_whatever_fits_in_its_turn(
    jobs: list[tuple[float, float]], blocks: tuple[tuple[float, float, float], ...]
) -> None:
    """As one look after the other does; what refused one job says nothing of shorter ones."""
    row = Row("a", places=100, session=1.2, blocks=blocks)
    limits = row.control.power_limits
    assert limits is not None
    named = [(f"{number:02}", *each) for number, each in enumerate(jobs)]
    drawn_kw, expected = 0.0, []
    for name, power_kw, seconds in named:
        end = NOW + (seconds or 1.2)
        if LimitSteps(limits).first_below(drawn_kw + power_kw, NOW, end) is None:
            drawn_kw += power_kw
            expected.append(name)
    assert Routing(row).round(NOW, *named) == expected


@examples()
@given(
    st.lists(st.tuples(st.floats(0.1, 50), st.floats(0, 1e5)), min_size=1, max_size=12),
    st.lists(st.sampled_from([20.0, 60.0, 400.0]), min_size=1, max_size=3),
)
def test_scheduler_assigns_the_same_where_limits_leave_ample_room(
    jobs: list[tuple[float, float]], ratings: list[float]
) -> None:
    """As without limits, job by job."""
    rows = [Row(f"s{number}", rated=rated) for number, rated in enumerate(ratings)]
    ample = [
        replace_row(each, blocks=((-5, 9, 900), (9, 99, 700)), fallback_kw=800) for each in rows
    ]
    named = [(f"{number:02}", *each) for number, each in enumerate(jobs)]
    assert Routing(*ample).round(NOW, *named) == Routing(*rows).round(NOW, *named)
