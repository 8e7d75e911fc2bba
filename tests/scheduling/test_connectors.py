from __future__ import annotations

import pytest

from grid.controls import Availability, Control
from grid.events import Counts
from scheduling.connectors import OVERDUE_SHARE, free_at
from scheduling.load_tracker import LoadTracker
from scheduling.power_limits import USUAL_SESSION_SECONDS
from scheduling.readings import Reading

NOW, CLOCK = 5.0, 1_000_000.0


def tracker(**loads: int) -> LoadTracker:
    """Return a tracker of substations with two connectors and so many sessions each."""
    found = LoadTracker(stale_after=100, default_connectors=2)
    found.keep(dict.fromkeys(loads))
    for name, load in loads.items():
        counts = Counts(load, load, 0, 0, 1)
        found.ask_depth(name)
        reading = Reading(load, 2, counts=counts, session_seconds=60.0)
        found.read(name, reading, NOW)
        found.ask_depth(name)
        found.depth(name, 0, NOW)
        found.read(name, reading, NOW)
        assert found.substations[name].synced
    return found


def free(found: LoadTracker, ends: dict[str, list[float]], count: int = 9) -> list[float]:
    """Return when connectors are free, counted from now."""
    ends_at = {name: [CLOCK + each for each in times] for name, times in ends.items()}
    return [at - CLOCK for at in free_at(found, ends_at, count, now=NOW, clock=CLOCK)]


def test_connectors_are_free_when_their_sessions_end() -> None:
    """Those without a session are free now; where an end is unknown, after a mean session."""
    assert free(tracker(a=0, b=2), {"b": [7.0, 3.0]}) == [0, 0, 3, 7]
    assert free(tracker(a=1), {}) == [0, 60]


def test_connectors_of_a_session_that_should_have_ended_are_free_soon() -> None:
    """Not now: it has not ended yet."""
    assert free(tracker(a=2), {"a": [-5.0, 30.0]}) == [OVERDUE_SHARE * 60, 30]


def test_connectors_are_counted_up_to_how_many_are_asked_for() -> None:
    """The first of all substations together."""
    assert free(tracker(a=2, b=2), {"a": [5.0, 9.0], "b": [1.0, 7.0]}, 3) == [1, 5, 7]


def test_connectors_count_a_job_in_flight() -> None:
    """It is not among the sessions yet; how long it takes is known all the same."""
    found = tracker(a=1)
    found.dispatch("a", NOW)
    assert free(found, {"a": [5.0, 20.0]}) == [5, 20]
    found.dispatch("a", NOW)  # ahead: the first to end is not free for another
    assert free(found, {"a": [5.0, 20.0, 30.0]}) == [20, 30]


def test_connectors_of_a_substation_that_may_be_sent_nothing_do_not_count() -> None:
    """It is drained, or its load is unknown; a lower limit leaves out the first to end."""
    found = tracker(a=2, b=2)
    found.control("a", Control("a", Availability.DRAINING))
    assert free(found, {"b": [5.0, 9.0]}) == [5, 9]
    found.fail("b", "no answer", NOW)
    assert free(found, {}) == []
    found = tracker(a=2)
    found.control("a", Control("a", limit=1))
    assert free(found, {"a": [5.0, 9.0]}) == [9]


@pytest.mark.parametrize(("rated", "expected"), [(7.5, [9]), (16, [5, 9]), (1, [])])
def test_connectors_need_power(rated: float, expected: list[float]) -> None:
    """A transformer may be too small for all of them at once."""
    found = tracker(a=2)
    found.substations["a"].rated_power_kw = rated
    assert free(found, {"a": [5.0, 9.0]}) == expected


def test_connectors_of_unknown_sessions_are_not_free_soon() -> None:
    """Where nothing is known of how long they take there."""
    found = tracker(a=2)
    found.substations["a"].session_seconds = None
    assert free(found, {}) == [USUAL_SESSION_SECONDS, USUAL_SESSION_SECONDS]
