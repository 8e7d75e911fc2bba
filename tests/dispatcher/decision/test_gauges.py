"""Each gauge has an age of its own: one that is missing or too old makes its substation unknown."""

from __future__ import annotations

import math
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import readings
from dispatcher.readings import Reading
from grid.errors import MalformedReading
from grid.events import Counts
from tests.dispatcher.decision.ledgers import RUN, A, anchored, ledger_of, page

STALE_AFTER = 2.0


@pytest.mark.parametrize(("age", "eligible"), [(0, True), (2, True), (2.001, False), (3600, False)])
def test_an_old_gauge_is_not_trusted(age: float, eligible: bool) -> None:  # noqa: FBT001
    """A load that was asked for too long ago makes a substation ineligible, whatever it was."""
    ledger, account = anchored()
    ledger.report(A, Counts(0, 0, 0, 0, RUN))  # an event does not refresh the gauge
    why = ledger.ineligible(account, age)
    assert (why is None) == eligible
    assert eligible or f"its load was read {age:.1f} s ago" in str(why)
    assert account.age(age) == age
    assert ledger.readable(age) == {A: eligible}


def test_a_failure_holds_until_the_next_page() -> None:
    """A page that cannot be read makes the substation ineligible at once, with the reason."""
    ledger, account = anchored()
    ledger.fail(A, "ev_charging_load is nan", 0)
    assert ledger.ineligible(account, 0) == "ev_charging_load is nan"
    assert ledger.readable(0) == {A: False}
    ledger.read(A, page(0), 1)
    assert ledger.ineligible(account, 1) is None


@pytest.mark.parametrize(
    ("gone", "name"),
    [
        (Reading(0, None, 0, 400, 0), readings.CONNECTORS),
        (Reading(0, 50, None, 400, 0), readings.POWER),
        (Reading(0, 50, 0, None, 0), readings.RATED_POWER),
        (Reading(0, 50, 0, 400, None), readings.BACKGROUND_POWER),
    ],
)
def test_a_gauge_that_a_page_no_longer_has_keeps_its_age(gone: Reading, name: str) -> None:
    """The other gauges do not refresh it; once it is too old, the reason names it."""
    ledger = ledger_of()
    account = ledger.accounts[A]
    ledger.read(A, Reading(0, 50, 0, 400, 0), 1)
    ledger.read(A, gone, 3)
    assert account.gauge(name) == Reading(0, 50, 0, 400, 0).gauges()[name]
    assert ledger.ineligible(account, 3) is None
    ledger.read(A, gone, 3.5)
    assert ledger.ineligible(account, 3.5) == f"{name} was read 2.5 s ago: that is too old"
    assert account.age(3.5) == 0, "the load is fresh all the same"
    ledger.read(A, Reading(0, 50, 0, 400, 0), 4)
    assert ledger.ineligible(account, 4) is None


def test_a_new_run_may_have_fewer_gauges() -> None:
    """A substation that starts anew with another page is read on its new terms."""
    ledger = ledger_of()
    account = ledger.accounts[A]
    ledger.read(A, Reading(0, 50, 0, 400, 0, Counts(0, 0, 0, 0, RUN)), 0)
    ledger.read(A, Reading(0, counts=Counts(0, 0, 0, 0, RUN + 1)), 1)
    assert account.rated_power_kw is None
    ledger.read(A, Reading(0, counts=Counts(0, 0, 0, 0, RUN + 1)), 9)
    assert ledger.unreadable(account, 9) is None


def test_connectors_come_from_the_page_else_the_file_else_the_default() -> None:
    """The page has precedence; the file's value applies if the page has none."""
    ledger = ledger_of()
    account = ledger.accounts[A]
    assert account.connectors == 50
    ledger.read(A, Reading(0), 0)
    ledger.keep({A: 8})
    assert account.connectors == 8
    ledger.read(A, Reading(0, connectors=3), 2)
    assert account.connectors == 3
    ledger.keep({A: 9})
    assert account.connectors == 3
    ledger.keep({})
    ledger.keep({A: None})
    assert ledger.accounts[A].connectors == 50


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
def test_unknown_is_never_idle(steps: list[Step], has_counters: bool) -> None:  # noqa: FBT001
    """Only a substation with a valid newest page and fresh gauges is eligible.

    That holds for any pages at any time; each gauge it has had in this run must be fresh.
    """
    ledger = ledger_of()
    account = ledger.accounts[A]
    now, run = 0.0, RUN
    given_at: dict[float, dict[str, float]] = {run: {}}  # by the run
    for after, content, anew in steps:
        now += after
        run += anew and has_counters
        try:
            reading = readings.parse(_text(content, run if has_counters else None), 1.7e9)
        except MalformedReading as error:
            ledger.fail(A, str(error), now)
        else:
            ledger.read(A, reading, now)
        given_at.setdefault(run, {}).update(dict.fromkeys(content, now) if sound(content) else {})
        for later in (now, now + 0.5, now + 1, now + STALE_AFTER, now + 3):
            fresh = all(later - at <= STALE_AFTER for at in given_at[run].values())
            assert (ledger.unreadable(account, later) is None) == (sound(content) and fresh)
            assert (sound(content) and fresh) or ledger.ineligible(account, later) is not None


def _text(content: dict[str, str], run: float | None) -> str:
    """Write a page; with counters where the run is given."""
    lines = [f"{name} {value}" for name, value in content.items()]
    if run is not None:
        lines += [f"{readings.STARTED} {run}", f"{readings.ACCEPTED} 60", f"{readings.COMPLETED} 0"]
    return "\n".join(lines)


@pytest.mark.parametrize(("age", "eligible"), [(0, True), (1.5, True), (2.5, False), (1e9, False)])
def test_a_gauge_with_its_own_timestamp_is_as_old_as_that(age: float, eligible: bool) -> None:  # noqa: FBT001
    """A page that was just read may have values of long ago."""
    ledger = ledger_of()
    account = ledger.accounts[A]
    ledger.read(A, Reading(0, 50, ages={readings.LOAD: age}), 10)
    why = ledger.ineligible(account, 10)
    assert (why is None) == eligible
    assert eligible or why == f"its load has a timestamp of {age:.1f} s ago: that is too old"
    assert account.age(10) == age
    assert ledger.readable(10) == {A: eligible}


def test_each_gauge_has_the_age_of_its_own_timestamp() -> None:
    """An old gauge is named, even if the load is fresh."""
    ledger = ledger_of()
    account = ledger.accounts[A]
    ledger.read(A, Reading(0, 50, ages={readings.CONNECTORS: 3600}), 10)
    name = readings.CONNECTORS
    assert ledger.ineligible(account, 10) == (
        f"{name} has a timestamp of 3600.0 s ago: that is too old"
    )


def test_an_old_load_shows_nothing_that_was_sent_since() -> None:
    """Without counters, jobs sent after the timestamp of the load are still in flight."""
    ledger = ledger_of()
    account = ledger.accounts[A]
    ledger.read(A, Reading(0), 9)
    ledger.dispatch(A, 9.2)
    ledger.dispatch(A, 9.8)
    ledger.read(A, Reading(1, ages={readings.LOAD: 0.5}), 10)
    assert account.load == 2
    ledger.read(A, Reading(2, ages={readings.LOAD: 0.5}), 10.5)
    assert account.load == 2
