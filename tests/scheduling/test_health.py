"""Ejection and slow start: how far one can be trusted that fails and comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.health import FORGIVEN_SECONDS, MAX_EJECTED_SECONDS, Health


def fallen(times: int, every: float = 0.0) -> tuple[Health, float]:
    """Make the health of one that failed so often, and came back at once each time; and when."""
    health, now = Health(), 0.0
    for number in range(times):
        now = number * every
        health.record_failure(now)
        health.record_recovery(now, 0)
    return health, now


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [
        (0, 0), (1, 0), (2, 0), (3, 0),
        (4, 5), (5, 10), (6, 20), (7, 40), (8, 80), (9, 160), (10, 300), (11, 300), (5000, 300),
    ],
)  # fmt: skip
def test_ejection_doubles_with_each_failure_beyond_three(failures: int, seconds: float) -> None:
    """The first three are forgiven, each further one doubles the time, up to five minutes."""
    health, now = fallen(failures)
    assert health.ejected(now) == (seconds > 0)
    assert not health.ejected(now + seconds)
    assert seconds == 0 or health.ejected(now + seconds - 0.001)


@pytest.mark.parametrize(("every", "ejected"), [(1, True), (9, True), (10, False), (60, False)])
def test_fourth_failure_in_a_row_ejects(every: float, ejected: bool) -> None:  # noqa: FBT001
    """Failures close together count in full; with time, one after the other is forgiven."""
    health, now = fallen(4, every)
    assert health.ejected(now) == ejected


@pytest.mark.parametrize(
    ("waited", "seconds"),
    [(0, 20), (1, 20), (30, 10), (59, 10), (60, 5), (90, 0), (1e6, 0)],
)
def test_failure_is_forgiven_after_time_without_one(waited: float, seconds: float) -> None:
    """After five, every half minute takes one off what the sixth counts as."""
    health, now = fallen(5)
    now += waited
    health.record_failure(now)
    health.record_recovery(now, 0)
    assert max(0.0, health.ejected_until - now) == seconds


def test_many_failures_are_forgiven_in_minutes() -> None:
    """A day of failures is not held against it for a day more."""
    health, now = fallen(10_000, every=1)
    now += 10 * FORGIVEN_SECONDS
    health.record_failure(now)
    health.record_recovery(now, 0)
    assert not health.ejected(now)


def test_continued_absence_counts_as_one_failure() -> None:
    """However often it is found to be away; and the ejection begins when it is back."""
    health, _ = fallen(3)
    for second in range(1, 20):
        health.record_failure(second)
    assert health.failures == pytest.approx(4 - 1 / FORGIVEN_SECONDS)
    health.record_recovery(20, 0)
    assert health.ejected(24.9)
    assert not health.ejected(25)


def test_recovery_without_a_failure_changes_nothing() -> None:
    """Every page that is read says that it can be used."""
    health = Health()
    health.record_recovery(5, 3)
    assert health == Health()
    assert health.slow_start_limit(50, 5, 10) == 50
    assert not health.unsteady(5, 10)


@pytest.mark.parametrize(
    ("had", "after", "room"),
    [
        (0, 0, 1),  # at least one
        (0, 1, 5),
        (0, 5, 25),
        (0, 9.9, 49.5),
        (0, 10, 50),
        (30, 0, 31),
        (30, 5, 40),  # what it had, and half of the rest
        (50, 0, 50),
        (70, 0, 50),  # no more than there are places
    ],
)
def test_slow_start_rises_from_the_current_sessions(had: float, after: float, room: float) -> None:
    """Over ten seconds, evenly, from its sessions to all its places."""
    health = Health()
    health.record_failure(0)
    health.record_recovery(100, had)
    assert health.slow_start_limit(50, 100 + after, 10) == pytest.approx(room)


def test_slow_start_ends() -> None:
    """Once all places are open, time changes nothing more; nor if there is no slow start."""
    health = Health()
    health.record_failure(0)
    health.record_recovery(1, 0)
    assert health.unsteady(5, 10)
    assert health.slow_start_limit(50, 11, 10) == 50
    assert not health.unsteady(11, 10)
    health.record_failure(20)
    health.record_recovery(21, 0)
    assert health.slow_start_limit(50, 21, 0) == 50
    assert not health.unsteady(21, 0)


def test_slow_start_begins_when_the_ejection_ends() -> None:
    """While it is ejected it gets no jobs, so slow start cannot advance."""
    health, _ = fallen(4)
    assert health.unsteady(0, 1)
    assert health.slow_start_limit(50, 5, 1) == 1
    assert health.slow_start_limit(50, 5.5, 1) == 25
    assert health.slow_start_limit(50, 6, 1) == 50


@given(
    st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60),
    st.floats(0, 60),
    st.integers(0, 60),
)
def test_ejection_and_slow_start_stay_within_their_bounds(
    steps: list[tuple[float, bool]], slow_start: float, sessions: int
) -> None:
    """No ejection is longer than five minutes, and room is from one place to all of them."""
    health, now = Health(), 0.0
    for after, failures in steps:
        now += after
        if failures:
            health.record_failure(now)
        else:
            health.record_recovery(now, sessions)
        assert health.ejected_until - now <= MAX_EJECTED_SECONDS
        assert 1 <= health.slow_start_limit(50, now, slow_start) <= 50
    assert not health.ejected(now + MAX_EJECTED_SECONDS)
