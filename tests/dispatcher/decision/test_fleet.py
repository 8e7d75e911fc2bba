from __future__ import annotations

from math import inf

import pytest

from dispatcher.decision.fleet import Fleet
from dispatcher.readings import Reading
from grid.controls import Availability, Control
from grid.events import Counts
from tests.dispatcher.decision.fleets import (
    CLOSED,
    NOW,
    PERIOD,
    RUN,
    STALE,
    Row,
    after,
    enter,
    fleet_of,
    names,
    read,
)


@pytest.mark.parametrize(
    ("row", "requested", "expected"),
    [
        (Row("a"), 7, 0.1),  # (0 + 1) / 10
        (Row("a", 3), 7, 0.4),
        (Row("a", 3, way=(7, 7)), 7, 0.6),
        (Row("a", 1, places=4), 7, 0.5),
        (Row("a", 1, places=10, limit=4), 7, 0.5),
        (Row("a", 1, places=4, limit=10), 7, 0.5),
        (Row("a", rated=100), 7, 0.1),  # the connectors decide
        (Row("a", rated=100), 50, 0.5),  # the power decides
        (Row("a", 1, rated=100, power=20), 11, 0.31),
        (Row("a", 1, rated=100), 42.6, 0.5),  # of a session that does not tell: 7.4 kW
        (Row("a", 1, rated=100, power=20, background=30), 10, 0.6),
        (Row("a", 1, rated=100, power=20, background=30, way=(15, 5)), 10, 0.8),
        (Row("a", 1, rated=100, hearing=False, way=(42.6,)), 10, 0.6),
        (Row("a", 2, power=500), 500, 0.3),  # no rating: the power does not count
    ],
)
def test_utilisation_is_the_larger_of_two_shares(
    row: Row, requested: float, expected: float
) -> None:
    """Sessions of places, or power of the rating, each with the request already in it."""
    found = after(fleet_of(row).open_to(requested, (), NOW))
    assert found == {"a": pytest.approx(expected)}


@pytest.mark.parametrize(
    ("row", "requested", "is_open"),
    [
        (Row("a", 9), 7, True),
        (Row("a", 10), 7, False),
        (Row("a", 9, way=(7,)), 7, False),
        (Row("a", 9.5), 7, False),
        (Row("a", 4, limit=5), 7, True),
        (Row("a", 5, limit=5), 7, False),
        (Row("a", rated=100, power=60), 40, True),
        (Row("a", rated=100, power=60), 40.001, False),
        (Row("a", rated=100, background=60), 40.001, False),
        (Row("a", rated=100, way=(60,)), 40.001, False),
        (Row("a", rated=100, power=100), 0, True),
        (Row("a", rated=100, power=101), 0, False),
        (Row("a", rated=0), 1, False),
    ],
)
def test_a_full_one_is_never_open(row: Row, requested: float, *, is_open: bool) -> None:
    """Full is: no connector left, or no session of an operator's limit, or too little power."""
    fleet = fleet_of(row)
    assert names(fleet, requested) == ["a"] * is_open
    assert fleet.has_room(NOW) == (is_open or (requested > 0 and bool(row.rated)))


@pytest.mark.parametrize(
    ("each", "jobs", "rated"), [(0.1, 3, 0.3), (0.7, 10, 7), (7.4, 10, 74), (1.1, 100, 110)]
)
def test_power_exactly_at_the_rating_fits(each: float, jobs: int, rated: float) -> None:
    """Though a sum of such numbers is often a little more than it should be."""
    fleet = fleet_of(Row("a", places=1000, rated=rated))
    for _ in range(jobs):
        assert names(fleet, each) == ["a"]
        fleet.ledger.dispatch("a", NOW, each)
    assert names(fleet, each) == []


@pytest.mark.parametrize("closed", CLOSED)
def test_one_that_may_not_be_used_is_never_open(closed: str) -> None:
    """Whatever the reason, though it is the lightest, and though it alone is named."""
    fleet = fleet_of(Row("a", closed=closed), Row("b", 9))
    assert fleet.ledger.ineligible(fleet.ledger.accounts["a"], NOW) is not None
    assert names(fleet) == ["b"]
    assert names(fleet, 7, NOW, "a") == []
    assert after(fleet.open_to(7, ["a"], NOW, ahead=True)) == {}


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ((), ["a", "b", "c"]),
        (("b",), ["b"]),
        (("c", "a"), ["a", "c"]),
        (("a", "nowhere"), ["a"]),
        (("nowhere",), []),
        (("full",), []),
    ],
)
def test_only_the_named_are_open_where_some_are_named(
    named: tuple[str, ...], expected: list[str]
) -> None:
    """Names that nobody has, or that are full, are no others' gain."""
    fleet = fleet_of(Row("a"), Row("b"), Row("c"), Row("full", 10))
    assert names(fleet, 7, NOW, *named) == expected


def test_time_alone_closes_one_whose_page_grows_too_old() -> None:
    """Nothing is heard of it, and nothing changes elsewhere; a new page opens it."""
    fleet = fleet_of(Row("a"), Row("b"))
    fleet.ledger.read("b", Row("b").page(), NOW + 1)
    assert names(fleet, 7, NOW + STALE) == ["a", "b"]
    assert names(fleet, 7, NOW + STALE + 0.01) == ["b"]
    fleet.ledger.read("a", Row("a").page(), NOW + STALE + 0.5)
    assert names(fleet, 7, NOW + STALE + 0.6) == ["a", "b"]


@pytest.mark.parametrize("closed", ["drained", "no consumer"])
def test_one_too_old_stays_closed_when_another_reason_ends(closed: str) -> None:
    """That its page grew too old while it was closed anyway is not forgotten."""
    fleet = fleet_of(Row("a", closed=closed), Row("b"))
    later = NOW + STALE + 1
    fleet.ledger.read("b", Row("b").page(), later)
    assert names(fleet, 7, later) == ["b"]
    fleet.ledger.control("a", Control("a", Availability.AVAILABLE, None, 2))
    fleet.ledger.queued("a", 0, 1)
    assert names(fleet, 7, later) == ["b"]
    fleet.ledger.read("a", Row("a").page(), later)
    assert names(fleet, 7, later) == ["a", "b"]


def test_an_old_gauge_among_new_ones_closes_its_substation() -> None:
    """A page that has lost its power must not have that counted as it was for ever."""
    row = Row("a", hearing=False, rated=100, power=10)
    fleet = fleet_of(row, Row("b"))
    for asked_at in (NOW + 1, NOW + STALE + 1):
        fleet.ledger.read("a", Reading(0, 10, rated_power_kw=100), asked_at)
        fleet.ledger.read("b", Row("b").page(), asked_at)
    assert names(fleet, 7, NOW + STALE) == ["a", "b"]
    assert names(fleet, 7, NOW + STALE + 1) == ["b"]


def test_where_no_page_is_current_the_ledger_alone_decides() -> None:
    """Then those are open whose queue is known to have a consumer and whose scale is set."""
    fleet = fleet_of(
        Row("a", 2),
        Row("b", 5, way=(7, 7)),
        Row("full", 10),
        Row("nobody", consumers=0),
        Row("not looked at", consumers=None),
        *(Row(closed, closed=closed) for closed in CLOSED),
    )
    assert not fleet.blind(NOW)
    later = NOW + STALE + 0.1
    assert fleet.blind(later)
    found = fleet.open_to(7, (), later)
    assert found is not None
    assert found.blind
    assert after(found) == {
        "a": pytest.approx(0.3), "b": pytest.approx(0.8),
        "failed": pytest.approx(0.1), "stale": pytest.approx(0.1),
    }  # fmt: skip
    fleet.ledger.read("b", Row("b", 5).page(), later)
    assert not fleet.blind(later)
    assert names(fleet, 7, later) == ["b"]


def test_one_current_page_is_enough_for_the_gauges_to_decide() -> None:
    """Even where it is of a full one: no other is open for that."""
    fleet = fleet_of(Row("a", closed="failed"), Row("full", 10))
    assert not fleet.blind(NOW)
    assert names(fleet) == []


def come_back(row: Row, slow_start: float) -> Fleet:
    """Make a fleet of one that failed for long and is read again at ``NOW``."""
    fleet = fleet_of(row, slow_start=slow_start)
    fleet.ledger.fail(row.name, "no answer", NOW - STALE - 1)
    fleet.ledger.fail(row.name, "no answer", NOW)
    read(fleet.ledger, row, NOW)
    return fleet


def fill(fleet: Fleet, now: float) -> int:
    """Send all that is open at once; gives how many that is."""
    sent = 0
    while (found := fleet.open_to(1, (), now)) is not None:
        fleet.ledger.dispatch(found.name(0), now, 1)
        sent += 1
    return sent


@pytest.mark.parametrize(
    ("seconds", "load", "sent"),
    [(0, 0, 1), (1, 0, 1), (3, 0, 3), (9.9, 0, 9), (10, 0, 10), (0, 4, 1), (5, 4, 3), (0, 10, 0)],
)
def test_one_that_comes_back_ramps_up(seconds: float, load: float, sent: int) -> None:
    """What it has may stay, one more is open at once, and the rest in the time it is given."""
    fleet = come_back(Row("a", load), slow_start=10)
    fleet.ledger.read("a", Row("a", load).page(), NOW + seconds)
    assert fill(fleet, NOW + seconds) == sent


def test_time_alone_ramps_up() -> None:
    """Nothing is heard of it meanwhile."""
    fleet = come_back(Row("a", places=8), slow_start=1)
    sent = [fill(fleet, NOW + eighths / 8) for eighths in range(10)]
    assert sent == [1, 0, 1, 1, 1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("session", "seconds", "sent"),
    [(5, 0, 1), (5, 5, 6), (5, 10, 12), (None, 0, 2), (None, 5, 10), (None, 10, 20)],
)
def test_what_may_wait_where_only_pages_tell_ramps_up_too(
    session: float | None, seconds: float, sent: int
) -> None:
    """One without counters that comes back is not given all it may ever have at once."""
    row = Row("a", hearing=False, session=session)
    fleet = come_back(row, slow_start=10)
    fleet.ledger.read("a", row.page(), NOW + seconds)
    assert fill(fleet, NOW + seconds) == sent


@pytest.mark.parametrize(("session", "waiting"), [(None, 10), (100, 1), (10, 1), (5, 2), (2, 5)])
def test_jobs_may_wait_where_only_pages_tell(session: float | None, waiting: int) -> None:
    """As many as can be completed in two periods between pages; as it has places if unknown."""
    row = Row("a", hearing=False, session=session)
    fleet = fleet_of(row)
    assert fleet.room(fleet.ledger.accounts["a"], NOW) == 10 + waiting
    assert fill(fleet, NOW) == 10 + waiting
    assert fleet.open_to(1, (), NOW, ahead=True) is None, "that is all, whoever waits"


def test_time_alone_tells_that_events_do_not_come() -> None:
    """A page shows what no event has told: after a second, jobs may wait there; the event ends it.

    No event told of the one that was taken, so it is the pages that tell.
    """
    fleet = fleet_of(Row("a", 10, session=5))
    fleet.ledger.read("a", Row("a", 10, session=5).page(), NOW)
    completed = Counts(10, 12, 2, 0, RUN)
    fleet.ledger.read("a", Reading(10, 10, counts=completed), NOW + 1)
    assert names(fleet, 1, NOW + 2) == []
    assert names(fleet, 1, NOW + 2.01) == ["a"]
    fleet.ledger.report("a", completed)
    assert names(fleet, 1, NOW + 2.01) == []


def test_one_is_sent_ahead_only_where_none_has_a_connector_free() -> None:
    """Then one at each that hears; and not where the power is taken."""
    fleet = fleet_of(
        Row("a", 10), Row("b", 9), Row("weak", 10, rated=80), Row("drained", closed="drained")
    )
    first = fleet.open_to(7, (), NOW, ahead=True)
    assert first is not None
    assert (list(after(first)), first.ahead) == (["b"], False)
    fleet.ledger.dispatch("b", NOW)
    assert fleet.open_to(7, (), NOW) is None
    second = fleet.open_to(7, (), NOW, ahead=True)
    assert second is not None
    assert (list(after(second)), second.ahead) == (["a", "b"], True)
    assert (fleet.has_room(NOW), fleet.has_room(NOW, ahead=True)) == (False, True)
    for name in ("a", "b"):
        fleet.ledger.dispatch(name, NOW)
    assert fleet.open_to(7, (), NOW, ahead=True) is None


def test_what_it_gives_beside_each_that_is_open() -> None:
    """The gauge as read and the power left, each at its place, and not those of the closed."""
    fleet = fleet_of(
        Row("a", closed="drained"),
        Row("b", 3, way=(5, 5), rated=100, power=20, background=10),
        Row("c", 4),
    )
    found = fleet.open_to(7, (), NOW)
    assert found is not None
    assert [found.name(place) for place in range(2)] == ["b", "c"]
    assert found.gauge.tolist() == [3, 4]
    assert found.headroom.tolist() == [pytest.approx(60), -inf]


@pytest.mark.parametrize(
    ("named", "rating"),
    [
        ((), inf),
        (("a",), 50),
        (("a", "b"), 150),
        (("a", "c"), inf),
        (("d",), inf),
        (("a", "d"), 50),
    ],
)
def test_the_largest_rating(named: tuple[str, ...], rating: float) -> None:
    """Of those named, or of all; one that does not tell may have any, and so may one unknown."""
    fleet = fleet_of(Row("a", rated=50), Row("b", rated=150), Row("c"))
    assert fleet.largest_rating(named, NOW) == rating
    fleet.ledger.keep({"a": None, "b": None})
    assert fleet.largest_rating((), NOW) == 150
    fleet.ledger.read("a", Row("a", rated=200).page(), NOW + 1)
    assert fleet.largest_rating((), NOW + 1) == 200
    fleet.ledger.keep({})
    assert fleet.largest_rating((), NOW) == inf


@pytest.mark.parametrize(
    ("most", "named", "expected"),
    [
        (9, (), ["s1", "s3", "s2", "s0", "shut"]),
        (2, (), ["s1", "s3"]),
        (4, (), ["s1", "s3", "s2", "s0"]),
        (2, ("s0", "s3"), ["s3", "s0"]),
        (4, ("shut", "s0", "s2"), ["s2", "s0", "shut"]),
        (1, ("shut",), ["shut"]),
        (2, ("s2", "nowhere"), ["s2"]),
    ],
)
def test_the_lightest_are_named_in_their_order(
    most: int, named: tuple[str, ...], expected: list[str]
) -> None:
    """Those that the request names come before all others, the closed ones among them last."""
    fleet = fleet_of(
        Row("s0", 8), Row("s1"), Row("s2", rated=100, power=50), Row("s3", 2),
        Row("shut", closed="drained"),
    )  # fmt: skip
    found = fleet.lightest(most, named, NOW)
    assert found[: len(expected)] == expected
    assert len(found) == len(set(found)) == min(most, 5)


def test_few_of_very_many_are_named_and_those_are_the_lightest() -> None:
    """Among a thousand, whatever their order."""
    fleet = fleet_of(*(Row(f"s{n}", n * 7 % 1000, places=2000) for n in range(1000)))
    loads = [fleet.ledger.accounts[name].load for name in fleet.lightest(20, (), NOW)]
    assert loads == list(range(20))


def test_substations_come_and_go() -> None:
    """Those that leave are closed, those that come are closed until they are read."""
    fleet = fleet_of(Row("a", 1), Row("b", 2))
    ledger = fleet.ledger
    assert (names(fleet), len(fleet)) == (["a", "b"], 2)
    ledger.keep({"b": None})
    assert (names(fleet), len(fleet)) == (["b"], 1)
    ledger.keep({"c": None})  # as many, of another name
    assert names(fleet) == []
    enter(ledger, Row("c", 3))
    assert after(fleet.open_to(7, (), NOW)) == {"c": pytest.approx(0.4)}
    ledger.keep({"b": None, "c": None})
    enter(ledger, Row("b", 4))
    assert names(fleet) == ["b", "c"]
    ledger.keep({})
    assert names(fleet) == []
    assert len(fleet) == 0
    assert fleet.lightest(20, (), NOW) == []


def test_one_that_left_and_came_back_begins_anew() -> None:
    """Whether or not a decision was made meanwhile, nothing is known of it any more."""
    fleet = fleet_of(Row("a"), Row("b"))
    assert names(fleet) == ["a", "b"]
    fleet.ledger.keep({"b": None})
    fleet.ledger.keep({"a": None, "b": None})
    assert names(fleet) == ["b"]
    enter(fleet.ledger, Row("a", 6))
    assert after(fleet.open_to(7, (), NOW))["a"] == pytest.approx(0.7)


def test_a_fleet_that_begins_with_nobody_takes_in_who_comes() -> None:
    """Before any target file was read there is nobody, and nobody is open."""
    fleet = fleet_of()
    assert (names(fleet), fleet.has_room(NOW)) == ([], False)
    fleet.ledger.keep({"a": None})
    enter(fleet.ledger, Row("a"))
    assert names(fleet) == ["a"]


def test_changes_are_seen_without_being_told() -> None:
    """Each thing that the ledger hears shows in the very next decision."""
    fleet = fleet_of(Row("a", 2, session=5), Row("b"))
    ledger = fleet.ledger

    def seen() -> float | None:
        return after(fleet.open_to(7, (), NOW)).get("a")

    assert seen() == pytest.approx(0.3)
    ledger.dispatch("a", NOW)
    assert seen() == pytest.approx(0.4)
    ledger.undo("a")
    assert seen() == pytest.approx(0.3)
    ledger.report("a", Counts(1, 2, 1, 0, RUN))
    assert seen() == pytest.approx(0.2)
    ledger.control("a", Control("a", Availability.AVAILABLE, 4, 1))
    assert seen() == pytest.approx(0.5)
    ledger.control("a", Control("a", Availability.DRAINING, None, 2))
    assert seen() is None
    ledger.control("a", Control("a", Availability.AVAILABLE, None, 3))
    assert seen() == pytest.approx(0.2)
    ledger.queued("a", 0, 0)
    assert seen() is None
    ledger.queued("a", 0, 1)
    ledger.let_go("a")
    assert seen() is None
    read(ledger, Row("a", 5), NOW)
    assert seen() == pytest.approx(0.6)
    ledger.fail("a", "no answer", NOW)
    assert seen() is None
    ledger.read("a", Row("a", 5).page(), NOW)
    assert seen() == pytest.approx(0.6)
    ledger.refuse("a", "unroutable", NOW)
    assert seen() is None


def test_an_ejection_ends_with_time_alone() -> None:
    """Nothing is heard of it in between but its pages."""
    fleet = fleet_of(Row("a", closed="ejected"), Row("b"))
    until = fleet.ledger.accounts["a"].health.ejected_until
    fleet.ledger.read("a", Row("a").page(), until - PERIOD)
    assert names(fleet, 7, until - 0.01) == []
    assert names(fleet, 7, until) == ["a"]
