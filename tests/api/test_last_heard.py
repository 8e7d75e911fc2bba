"""When the dispatcher was heard, and for how long that counts."""

from __future__ import annotations

from math import inf

from api.last_heard import DISPATCHER_TIMEOUT, SNAPSHOT_TIMEOUT, DispatcherWatch, LastHeard

LATER = 0.01


def test_mark_shows_that_a_dispatcher_lives_and_not_what_it_knows() -> None:
    watch = DispatcherWatch(100.0)
    watch.hear(101.0)
    assert watch.last_heard(102.0) == LastHeard(1.0, inf)
    assert watch.last_heard(102.0).problem == "dispatcher has not described the substations yet"
    watch.see_snapshot(101.0, has_left=False)
    assert watch.last_heard(102.0).problem is None
    watch.hear(101.0 + SNAPSHOT_TIMEOUT)
    assert not watch.last_heard(101.0 + SNAPSHOT_TIMEOUT).is_silent
    assert watch.last_heard(101.0 + SNAPSHOT_TIMEOUT + LATER).is_silent


def test_dispatcher_that_left_is_followed_by_one_that_describes_the_substations() -> None:
    """Not by one that starts, and may fail before that."""
    watch = DispatcherWatch(100.0)
    watch.see_snapshot(100.0, has_left=True)
    watch.hear(103.0)
    assert watch.last_heard(103.0).problem == "dispatcher stopped 3 s ago"
    watch.see_snapshot(103.0, has_left=False)
    assert watch.last_heard(103.0).problem is None


def test_what_was_written_before_the_start_is_older_than_what_was_heard_since() -> None:
    watch = DispatcherWatch(100.0)
    watch.hear(101.0)
    watch.begin(40.0, 30.0, has_left=True)
    assert watch.last_heard(102.0) == LastHeard(1.0, 72.0, has_left=True)
    watch.see_snapshot(102.0, has_left=False)
    watch.begin(40.0, 30.0, has_left=True)
    assert watch.last_heard(102.0) == LastHeard(1.0, 0.0)


def test_dispatcher_is_excused_once_after_each_time_it_was_heard() -> None:
    """As the api starts, as its first link is up, and after an outage."""

    def reconnect(at: float) -> None:
        watch.on_link(at, is_up=False)
        watch.on_link(at, is_up=True)

    watch = DispatcherWatch(100.0)
    assert watch.is_excused(100.0 + DISPATCHER_TIMEOUT)
    for heard_at in (120.0, 140.0):
        reconnect(heard_at)
        assert watch.is_excused(heard_at + DISPATCHER_TIMEOUT)
        reconnect(heard_at + DISPATCHER_TIMEOUT)
        assert not watch.is_excused(heard_at + DISPATCHER_TIMEOUT + LATER)
        watch.hear(heard_at + 5)
