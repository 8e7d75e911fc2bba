from __future__ import annotations

from copy import deepcopy

import pytest

from grid.controls import Availability, Control
from grid.events import Counts
from scheduling.candidates import RENEW_SECONDS, CandidateTable
from scheduling.explain import candidates
from scheduling.readings import Reading
from tests.scheduling.tables import (
    NOW,
    PERIOD,
    RUN,
    STALE,
    Row,
    after,
    enter,
    names,
    read,
    table_of,
)


def test_candidate_becomes_ineligible_with_time_when_its_page_is_stale() -> None:
    """No event is needed, nor a change elsewhere; a new page makes it eligible again."""
    table = table_of(Row("a"), Row("b"))
    table.tracker.read("b", Row("b").page(), NOW + 1)
    assert names(table, 7, NOW + STALE) == ["a", "b"]
    assert names(table, 7, NOW + STALE + 0.01) == ["b"]
    table.tracker.read("a", Row("a").page(), NOW + STALE + 0.5)
    assert names(table, 7, NOW + STALE + 0.6) == ["a", "b"]


@pytest.mark.parametrize("closed", ["drained", "no consumer"])
def test_stale_candidate_stays_ineligible_when_another_reason_ends(closed: str) -> None:
    """It is not eligible again if its page grew too old in the meantime."""
    table = table_of(Row("a", closed=closed), Row("b"))
    later = NOW + STALE + 1
    table.tracker.read("b", Row("b").page(), later)
    assert names(table, 7, later) == ["b"]
    table.tracker.control("a", Control("a", Availability.AVAILABLE, None, 2))
    table.tracker.queued("a", 0, 1)
    assert names(table, 7, later) == ["b"]
    table.tracker.read("a", Row("a").page(), later)
    assert names(table, 7, later) == ["a", "b"]


def test_candidate_with_one_stale_gauge_is_ineligible() -> None:
    """A power that a page no longer has must not count as current for ever."""
    row = Row("a", observations=False, rated=100, power=10)
    table = table_of(row, Row("b"))
    for asked_at in (NOW + 1, NOW + STALE + 1):
        table.tracker.read("a", Reading(0, 10, rated_power_kw=100), asked_at)
        table.tracker.read("b", Row("b").page(), asked_at)
    assert names(table, 7, NOW + STALE) == ["a", "b"]
    assert names(table, 7, NOW + STALE + 1) == ["b"]


def come_back(row: Row, slow_start: float) -> CandidateTable:
    """Return a table of one substation that failed for long and is read again at ``NOW``."""
    table = table_of(row, slow_start=slow_start)
    table.tracker.fail(row.name, "no answer", NOW - STALE - 1)
    table.tracker.fail(row.name, "no answer", NOW)
    read(table.tracker, row, NOW)
    return table


def fill(table: CandidateTable, now: float) -> int:
    """Dispatch to all capacity at once; return the number of jobs."""
    sent = 0
    while (found := table.candidates_for(1, (), now)) is not None:
        table.tracker.dispatch(found.name(int(found.numbers[0])), now, 1)
        sent += 1
    return sent


@pytest.mark.parametrize(
    ("seconds", "load", "sent"),
    [(0, 0, 1), (1, 0, 1), (3, 0, 3), (9.9, 0, 9), (10, 0, 10), (0, 4, 1), (5, 4, 3), (0, 10, 0)],
)
def test_returning_candidate_goes_through_slow_start(
    seconds: float, load: float, sent: int
) -> None:
    """Its sessions stay, one more job may go at once, and the others over the slow start."""
    table = come_back(Row("a", load), slow_start=10)
    table.tracker.read("a", Row("a", load).page(), NOW + seconds)
    assert fill(table, NOW + seconds) == sent


def test_slow_start_advances_with_time_alone() -> None:
    """No page or event is needed meanwhile."""
    table = come_back(Row("a", places=8), slow_start=1)
    sent = [fill(table, NOW + eighths / 8) for eighths in range(10)]
    assert sent == [1, 0, 1, 1, 1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("session", "seconds", "sent"),
    [(5, 0, 1), (5, 5, 6), (5, 10, 13), (None, 0, 2), (None, 5, 10), (None, 10, 20)],
)
def test_slow_start_limits_dispatch_ahead_without_counters(
    session: float | None, seconds: float, sent: int
) -> None:
    """One without counters that comes back does not get all its jobs at once."""
    row = Row("a", observations=False, session=session)
    table = come_back(row, slow_start=10)
    table.tracker.read("a", row.page(), NOW + seconds)
    assert fill(table, NOW + seconds) == sent


@pytest.mark.parametrize(("session", "waiting"), [(None, 10), (100, 1), (10, 2), (5, 3), (2, 8)])
def test_dispatch_ahead_without_counters_covers_three_page_intervals(
    session: float | None, waiting: int
) -> None:
    """As many as complete within three intervals of pages; if unknown, as many as connectors."""
    row = Row("a", observations=False, session=session)
    table = table_of(row)
    assert fill(table, NOW) == 10 + waiting
    assert table.candidates_for(1, (), NOW, ahead=True) is None, "that is all, whoever waits"


def test_candidate_events_become_stale_with_time_alone() -> None:
    """If a page is ahead of the events for a second, jobs may wait there, until the event comes.

    Without the event of the job that was accepted, only the pages are current.
    """
    table = table_of(Row("a", 10, session=5))
    table.tracker.read("a", Row("a", 10, session=5).page(), NOW)
    completed = Counts(10, 12, 2, 0, RUN)
    table.tracker.read("a", Reading(10, 10, counts=completed), NOW + 1)
    assert names(table, 1, NOW + 2) == []
    assert names(table, 1, NOW + 2.01) == ["a"]
    table.tracker.report("a", completed)
    assert names(table, 1, NOW + 2.01) == []


def test_candidates_follow_the_target_file() -> None:
    """Those that leave are ineligible, and those that come as well until they are read."""
    table = table_of(Row("a", 1), Row("b", 2))
    tracker = table.tracker
    assert (names(table), len(table)) == (["a", "b"], 2)
    tracker.keep({"b": None})
    assert (names(table), len(table)) == (["b"], 1)
    tracker.keep({"c": None})  # as many, of another name
    assert names(table) == []
    enter(tracker, Row("c", 3))
    assert after(table.candidates_for(7, (), NOW)) == {"c": pytest.approx(0.4)}
    tracker.keep({"b": None, "c": None})
    enter(tracker, Row("b", 4))
    assert names(table) == ["b", "c"]
    tracker.keep({})
    assert names(table) == []
    assert len(table) == 0
    assert table.least_utilised(20, (), NOW) == []


def test_candidate_that_left_and_returned_starts_anew() -> None:
    """Nothing is known of it any more, whether or not a decision was made meanwhile."""
    table = table_of(Row("a"), Row("b"))
    assert names(table) == ["a", "b"]
    table.tracker.keep({"b": None})
    table.tracker.keep({"a": None, "b": None})
    assert names(table) == ["b"]
    enter(table.tracker, Row("a", 6))
    assert after(table.candidates_for(7, (), NOW))["a"] == pytest.approx(0.7)


def test_candidate_that_left_in_slow_start_and_returned_starts_anew() -> None:
    """The old one's pending change in time must not apply to the new one."""
    table = come_back(Row("a"), slow_start=10)
    assert names(table) == ["a"]
    table.tracker.keep({})
    table.tracker.keep({"a": None})
    assert names(table, 7, NOW + RENEW_SECONDS) == []


def test_candidate_table_that_starts_empty_accepts_substations() -> None:
    """Before the first target file there are no substations, so none is a candidate."""
    table = table_of()
    assert (names(table), table.has_capacity(NOW)) == ([], False)
    table.tracker.keep({"a": None})
    enter(table.tracker, Row("a"))
    assert names(table) == ["a"]


def test_candidates_show_each_change_of_the_load_tracker() -> None:
    """Each change in the load tracker shows in the very next decision."""
    table = table_of(Row("a", 2, session=5), Row("b"))
    tracker = table.tracker

    def seen() -> float | None:
        return after(table.candidates_for(7, (), NOW)).get("a")

    assert seen() == pytest.approx(0.3)
    tracker.dispatch("a", NOW)
    assert seen() == pytest.approx(0.4)
    tracker.undo("a")
    assert seen() == pytest.approx(0.3)
    tracker.report("a", Counts(1, 2, 1, 0, RUN))
    assert seen() == pytest.approx(0.2)
    tracker.control("a", Control("a", Availability.AVAILABLE, 4, 1))
    assert seen() == pytest.approx(0.5)
    tracker.control("a", Control("a", Availability.DRAINING, None, 2))
    assert seen() is None
    tracker.control("a", Control("a", Availability.AVAILABLE, None, 3))
    assert seen() == pytest.approx(0.2)
    tracker.queued("a", 0, 0)
    assert seen() is None
    tracker.queued("a", 0, 1)
    tracker.invalidate_baseline("a")
    assert seen() is None
    read(tracker, Row("a", 5), NOW)
    assert seen() == pytest.approx(0.6)
    tracker.fail("a", "no answer", NOW)
    assert seen() is None
    tracker.read("a", Row("a", 5).page(), NOW)
    assert seen() == pytest.approx(0.6)
    tracker.refuse("a", "unroutable", NOW)
    assert seen() is None


def test_ejection_ends_with_time_alone() -> None:
    """No event is needed, only current pages."""
    table = table_of(Row("a", closed="ejected"), Row("b"))
    until = table.tracker.substations["a"].health.ejected_until
    for name in ("b", "a"):
        table.tracker.read(name, Row(name).page(), until - PERIOD)
    assert names(table, 7, until - 0.01) == ["b"]
    assert names(table, 7, until) == ["a", "b"]


@pytest.mark.parametrize("observations", [True, False])
def test_operator_limit_is_never_exceeded_by_dispatch_ahead(*, observations: bool) -> None:
    """It has free connectors, so a job dispatched ahead would begin at once."""
    table = table_of(Row("a", 0, places=10, limit=2, observations=observations))
    for _ in range(2):
        table.tracker.dispatch("a", NOW)
    assert table.candidates_for(7, (), NOW, ahead=True) is None


def test_no_dispatch_ahead_during_slow_start() -> None:
    """It would be one more than the slow start allows."""
    table = come_back(Row("a", places=8), slow_start=8)
    table.tracker.dispatch("a", NOW)
    assert table.candidates_for(7, (), NOW, ahead=True) is None


def test_explaining_a_substation_after_slow_start_changes_nothing() -> None:
    """A scrape of the dispatcher's metrics looks, and must not decide anything."""
    table = come_back(Row("a"), slow_start=10)
    before = deepcopy(table.tracker.substations)
    (seen,) = candidates(table, NOW + 11)
    assert seen.substation == "a"
    assert names(table, 7, NOW + 11) == names(table, 7, NOW + 11)
    assert table.tracker.substations == before
