"""Each gauge has an age of its own: one that is missing or too old makes its substation unknown."""

from __future__ import annotations

import math
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.errors import MalformedReading
from grid.events import Counts
from scheduling import readings
from scheduling.readings import Reading
from tests.scheduling.trackers import RUN, A, page, synced, tracker_of

STALE_AFTER = 2.0


@pytest.mark.parametrize(("age", "eligible"), [(0, True), (2, True), (2.001, False), (3600, False)])
def test_stale_gauge_makes_its_substation_ineligible(age: float, eligible: bool) -> None:  # noqa: FBT001
    """A load that was asked for too long ago makes a substation ineligible, whatever it was."""
    tracker, state = synced()
    tracker.report(A, Counts(0, 0, 0, 0, RUN))  # an event does not refresh the gauge
    why = tracker.ineligible_reason(state, age)
    assert (why is None) == eligible
    assert eligible or f"its load was read {age:.1f} s ago" in str(why)
    assert state.age(age) == age
    assert tracker.readable(age) == {A: eligible}


def test_scrape_failure_makes_its_substation_ineligible_until_the_next_page() -> None:
    """A page that cannot be read makes the substation ineligible at once, with the reason."""
    tracker, state = synced()
    tracker.fail(A, "ev_charging_load is nan", 0)
    assert tracker.ineligible_reason(state, 0) == "ev_charging_load is nan"
    assert tracker.readable(0) == {A: False}
    tracker.read(A, page(0), 1)
    assert tracker.ineligible_reason(state, 1) is None


@pytest.mark.parametrize(
    ("gone", "name"),
    [
        (Reading(0, None, 0, 400, 0), readings.CONNECTORS),
        (Reading(0, 50, None, 400, 0), readings.POWER),
        (Reading(0, 50, 0, None, 0), readings.RATED_POWER),
        (Reading(0, 50, 0, 400, None), readings.BACKGROUND_POWER),
    ],
)
def test_gauge_missing_from_a_page_keeps_its_age(gone: Reading, name: str) -> None:
    """The other gauges do not refresh it; once it is too old, the reason names it."""
    tracker = tracker_of()
    state = tracker.substations[A]
    tracker.read(A, Reading(0, 50, 0, 400, 0), 1)
    tracker.read(A, gone, 3)
    assert state.gauge(name) == Reading(0, 50, 0, 400, 0).gauges()[name]
    assert tracker.ineligible_reason(state, 3) is None
    tracker.read(A, gone, 3.5)
    assert tracker.ineligible_reason(state, 3.5) == f"{name} was read 2.5 s ago: that is too old"
    assert state.age(3.5) == 0, "the load is fresh all the same"
    tracker.read(A, Reading(0, 50, 0, 400, 0), 4)
    assert tracker.ineligible_reason(state, 4) is None


def test_new_run_of_a_substation_may_have_fewer_gauges() -> None:
    """A substation that starts anew with another page is read on its new terms."""
    tracker = tracker_of()
    state = tracker.substations[A]
    tracker.read(A, Reading(0, 50, 0, 400, 0, Counts(0, 0, 0, 0, RUN)), 0)
    tracker.read(A, Reading(0, counts=Counts(0, 0, 0, 0, RUN + 1)), 1)
    assert state.rated_power_kw is None
    tracker.read(A, Reading(0, counts=Counts(0, 0, 0, 0, RUN + 1)), 9)
    assert tracker.unreadable_reason(state, 9) is None


def test_connectors_come_from_page_then_target_file_then_default() -> None:
    """The page has precedence; the file's value applies if the page has none."""
    tracker = tracker_of()
    state = tracker.substations[A]
    assert state.connectors == 50
    tracker.read(A, Reading(0), 0)
    tracker.keep({A: 8})
    assert state.connectors == 8
    tracker.read(A, Reading(0, connectors=3), 2)
    assert state.connectors == 3
    tracker.keep({A: 9})
    assert state.connectors == 3
    tracker.keep({})
    tracker.keep({A: None})
    assert tracker.substations[A].connectors == 50


FIGURES = st.one_of(
    st.floats(), st.integers(0, 60), st.sampled_from(["NaN", "+Inf", "-Inf", "-1", "1e400", "x"])
).map(str)
SOUND = st.integers(1, 60).map(str)
PAGES = st.one_of(
    st.fixed_dictionaries(
        {readings.LOAD: SOUND}, optional=dict.fromkeys(readings.GAUGES[1:], SOUND)
    ),
    st.dictionaries(st.sampled_from(readings.GAUGES), FIGURES),
)
Step: TypeAlias = tuple[float, dict[str, str], bool]
STEPS = st.lists(
    st.tuples(
        st.floats(0, 1.5),  # how long after the step before
        PAGES,
        st.integers(0, 9).map(lambda number: number == 9),  # the first page of another run
    ),
    max_size=12,
)


def sound(figures: dict[str, str]) -> bool:
    """Return whether a page with these gauges is valid."""
    try:
        numbers = {name: float(text) for name, text in figures.items()}
    except ValueError:
        return False
    return (
        readings.LOAD in numbers
        and all(math.isfinite(each) and 0 <= each <= 1e15 for each in numbers.values())
        and numbers.get(readings.CONNECTORS, 1) >= 1
    )


@given(STEPS, st.booleans())
def test_substation_without_a_fresh_page_is_never_eligible(
    steps: list[Step],
    has_counters: bool,  # noqa: FBT001
) -> None:
    """Only a substation with a valid newest page and fresh gauges is eligible.

    That holds for any pages at any time; each gauge it has had in this run must be fresh.
    """
    tracker = tracker_of()
    state = tracker.substations[A]
    now, run = 0.0, RUN
    given_at: dict[float, dict[str, float]] = {run: {}}  # by the run
    for after, content, anew in steps:
        now += after
        run += anew and has_counters
        try:
            reading = readings.parse(_text(content, run if has_counters else None), 1.7e9)
        except MalformedReading as error:
            tracker.fail(A, str(error), now)
        else:
            tracker.read(A, reading, now)
        given_at.setdefault(run, {}).update(dict.fromkeys(content, now) if sound(content) else {})
        for later in (now, now + 0.5, now + 1, now + STALE_AFTER, now + 3):
            fresh = all(later - at <= STALE_AFTER for at in given_at[run].values())
            assert (tracker.unreadable_reason(state, later) is None) == (sound(content) and fresh)
            assert (sound(content) and fresh) or tracker.ineligible_reason(state, later) is not None


def _text(content: dict[str, str], run: float | None) -> str:
    """Write a page; with counters where the run is given."""
    lines = [f"{name} {value}" for name, value in content.items()]
    if run is not None:
        lines += [f"{readings.STARTED} {run}", f"{readings.ACCEPTED} 60", f"{readings.COMPLETED} 0"]
    return "\n".join(lines)


@pytest.mark.parametrize(("age", "eligible"), [(0, True), (1.5, True), (2.5, False), (1e9, False)])
def test_gauge_with_a_timestamp_has_its_age(age: float, eligible: bool) -> None:  # noqa: FBT001
    """A page that was just read may have values of long ago."""
    tracker = tracker_of()
    state = tracker.substations[A]
    tracker.read(A, Reading(0, 50, ages={readings.LOAD: age}), 10)
    why = tracker.ineligible_reason(state, 10)
    assert (why is None) == eligible
    assert eligible or why == f"its load has a timestamp of {age:.1f} s ago: that is too old"
    assert state.age(10) == age
    assert tracker.readable(10) == {A: eligible}


def test_stale_gauge_is_named_even_if_the_load_is_fresh() -> None:
    """An old gauge is named, even if the load is fresh."""
    tracker = tracker_of()
    state = tracker.substations[A]
    tracker.read(A, Reading(0, 50, ages={readings.CONNECTORS: 3600}), 10)
    name = readings.CONNECTORS
    assert tracker.ineligible_reason(state, 10) == (
        f"{name} has a timestamp of 3600.0 s ago: that is too old"
    )


def test_load_with_an_old_timestamp_excludes_jobs_sent_since() -> None:
    """Without counters, jobs sent after the timestamp of the load are still in flight."""
    tracker = tracker_of()
    state = tracker.substations[A]
    tracker.read(A, Reading(0), 9)
    tracker.dispatch(A, 9.2)
    tracker.dispatch(A, 9.8)
    tracker.read(A, Reading(1, ages={readings.LOAD: 0.5}), 10)
    assert state.load == 2
    tracker.read(A, Reading(2, ages={readings.LOAD: 0.5}), 10.5)
    assert state.load == 2
