from __future__ import annotations

from math import inf

import pytest

from tests.scheduling.tables import (
    CLOSED,
    NOW,
    STALE,
    Row,
    after,
    names,
    table_of,
)


@pytest.mark.parametrize(
    ("row", "requested", "expected"),
    [
        (Row("a"), 7, 0.1),  # (0 + 1) / 10
        (Row("a", 3), 7, 0.4),
        (Row("a", 3, in_flight_kw=(7, 7)), 7, 0.6),
        (Row("a", 1, places=4), 7, 0.5),
        (Row("a", 1, places=10, limit=4), 7, 0.5),
        (Row("a", 1, places=4, limit=10), 7, 0.5),
        (Row("a", rated=100), 7, 0.1),  # the connectors decide
        (Row("a", rated=100), 50, 0.5),  # the power decides
        (Row("a", 1, rated=100, power=20), 11, 0.31),
        (Row("a", 1, rated=100), 42.6, 0.5),  # of a session that does not tell: 7.4 kW
        (Row("a", 1, rated=100, power=20, background=30), 10, 0.6),
        (Row("a", 1, rated=100, power=20, background=30, in_flight_kw=(15, 5)), 10, 0.8),
        (Row("a", 1, rated=100, observations=False, in_flight_kw=(42.6,)), 10, 0.6),
        (Row("a", 2, power=500), 500, 0.3),  # no rating: the power does not count
    ],
)
def test_utilisation_is_the_larger_share_of_connectors_or_power(
    row: Row, requested: float, expected: float
) -> None:
    """Sessions of places, or power of the rating, each with the request already in it."""
    found = after(table_of(row).candidates_for(requested, (), NOW))
    assert found == {"a": pytest.approx(expected)}


@pytest.mark.parametrize(
    ("row", "requested", "is_open"),
    [
        (Row("a", 9), 7, True),
        (Row("a", 10), 7, False),
        (Row("a", 9, in_flight_kw=(7,)), 7, False),
        (Row("a", 9.5), 7, False),
        (Row("a", 4, limit=5), 7, True),
        (Row("a", 5, limit=5), 7, False),
        (Row("a", rated=100, power=60), 40, True),
        (Row("a", rated=100, power=60), 40.001, False),
        (Row("a", rated=100, background=60), 40.001, False),
        (Row("a", rated=100, in_flight_kw=(60,)), 40.001, False),
        (Row("a", rated=100, power=100), 0, True),
        (Row("a", rated=100, power=101), 0, False),
        (Row("a", rated=0), 1, False),
    ],
)
def test_full_substation_is_no_candidate(row: Row, requested: float, *, is_open: bool) -> None:
    """Full is: no connector left, or no session of an operator's limit, or too little power."""
    table = table_of(row)
    assert names(table, requested) == ["a"] * is_open
    assert table.has_capacity(NOW) == (is_open or (requested > 0 and bool(row.rated)))


@pytest.mark.parametrize(
    ("each", "jobs", "rated"), [(0.1, 3, 0.3), (0.7, 10, 7), (7.4, 10, 74), (1.1, 100, 110)]
)
def test_candidates_include_power_exactly_at_the_rating(
    each: float, jobs: int, rated: float
) -> None:
    """Though a sum of such numbers is often a little more than it should be."""
    table = table_of(Row("a", places=1000, rated=rated))
    for _ in range(jobs):
        assert names(table, each) == ["a"]
        table.tracker.dispatch("a", NOW, each)
    assert names(table, each) == []


@pytest.mark.parametrize("closed", CLOSED)
def test_ineligible_substation_is_no_candidate(closed: str) -> None:
    """Whatever the reason, even if it is the least utilised, and even if it alone is allowed."""
    table = table_of(Row("a", closed=closed), Row("b", 9))
    assert table.tracker.ineligible_reason(table.tracker.substations["a"], NOW) is not None
    assert names(table) == ["b"]
    assert names(table, 7, NOW, "a") == []
    assert after(table.candidates_for(7, ["a"], NOW, ahead=True)) == {}


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ((), ["a", "b", "c"]),
        (("b",), ["b"]),
        (("c", "a"), ["a", "c"]),
        (("a", "nowhere"), ["a"]),
        (("nowhere",), []),
        (("full",), []),
    ],
)
def test_candidates_are_only_the_allowed_substations(
    allowed: tuple[str, ...], expected: list[str]
) -> None:
    """Names that nobody has, or that are full, are no others' gain."""
    table = table_of(Row("a"), Row("b"), Row("c"), Row("full", 10))
    assert names(table, 7, NOW, *allowed) == expected


def test_candidates_without_current_pages_follow_the_load_tracker() -> None:
    """Then the candidates are those whose queue has a consumer and whose baseline is set."""
    table = table_of(
        Row("a", 2),
        Row("b", 5, in_flight_kw=(7, 7)),
        Row("full", 10),
        Row("nobody", consumers=0),
        Row("not looked at", consumers=None),
        *(Row(closed, closed=closed) for closed in CLOSED),
    )
    assert not table.blind(NOW)
    later = NOW + STALE + 0.1
    assert table.blind(later)
    found = table.candidates_for(7, (), later)
    assert found is not None
    assert found.blind
    assert after(found) == {
        "a": pytest.approx(0.3), "b": pytest.approx(0.8),
        "failed": pytest.approx(0.1), "stale": pytest.approx(0.1),
    }  # fmt: skip
    table.tracker.read("b", Row("b", 5).page(), later)
    assert not table.blind(later)
    assert names(table, 7, later) == ["b"]


def test_candidates_with_one_current_page_follow_the_gauges() -> None:
    """Even where it is of a full one: no other is open for that."""
    table = table_of(Row("a", closed="failed"), Row("full", 10))
    assert not table.blind(NOW)
    assert names(table) == []


def test_candidates_for_dispatch_ahead_need_all_connectors_taken() -> None:
    """Then one at each whose events arrive; and not where the power is taken."""
    table = table_of(
        Row("a", 10), Row("b", 9), Row("weak", 10, rated=80), Row("drained", closed="drained")
    )
    first = table.candidates_for(7, (), NOW, ahead=True)
    assert first is not None
    assert (list(after(first)), first.ahead) == (["b"], False)
    table.tracker.dispatch("b", NOW)
    assert table.candidates_for(7, (), NOW) is None
    second = table.candidates_for(7, (), NOW, ahead=True)
    assert second is not None
    assert (list(after(second)), second.ahead) == (["a", "b"], True)
    assert (table.has_capacity(NOW), table.has_capacity(NOW, ahead=True)) == (False, True)
    for name in ("a", "b"):
        table.tracker.dispatch(name, NOW)
    assert table.candidates_for(7, (), NOW, ahead=True) is None


def test_candidates_carry_gauge_and_headroom() -> None:
    """The gauge as read and the power left, each at its place, and not those of the closed."""
    table = table_of(
        Row("a", closed="drained"),
        Row("b", 3, in_flight_kw=(5, 5), rated=100, power=20, background=10),
        Row("c", 4),
    )
    found = table.candidates_for(7, (), NOW)
    assert found is not None
    assert [found.name(number) for number in found.numbers] == ["b", "c"]
    assert found.figures.gauge[found.numbers].tolist() == [3, 4]
    assert found.figures.headroom[found.numbers].tolist() == [pytest.approx(60), -inf]


@pytest.mark.parametrize(
    ("allowed", "rating"),
    [
        ((), inf),
        (("a",), 50),
        (("a", "b"), 150),
        (("a", "c"), inf),
        (("d",), inf),
        (("a", "d"), 50),
    ],
)
def test_candidate_table_knows_the_largest_rating(allowed: tuple[str, ...], rating: float) -> None:
    """Of those named, or of all; one that does not tell may have any, and so may one unknown."""
    table = table_of(Row("a", rated=50), Row("b", rated=150), Row("c"))
    assert table.largest_rating(allowed, NOW) == rating
    table.tracker.keep({"a": None, "b": None})
    assert table.largest_rating((), NOW) == 150
    table.tracker.read("a", Row("a", rated=200).page(), NOW + 1)
    assert table.largest_rating((), NOW + 1) == 200
    table.tracker.read("a", Row("a", rated=0).page(), NOW + 1)
    assert table.largest_rating(("a",), NOW + 1) == 0
    table.tracker.keep({})
    assert table.largest_rating((), NOW) == inf


@pytest.mark.parametrize(
    ("most", "allowed", "expected"),
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
def test_least_utilised_are_listed_in_order(
    most: int, allowed: tuple[str, ...], expected: list[str]
) -> None:
    """Those that the request names come before all others, the closed ones among them last."""
    table = table_of(
        Row("s0", 8), Row("s1"), Row("s2", rated=100, power=50), Row("s3", 2),
        Row("shut", closed="drained"),
    )  # fmt: skip
    found = [table.names[number] for number in table.least_utilised(most, allowed, NOW)]
    assert found[: len(expected)] == expected
    assert len(found) == len(set(found)) == min(most, 5)


def test_least_utilised_of_a_thousand_are_found() -> None:
    """Among a thousand, whatever their order."""
    table = table_of(*(Row(f"s{n}", n * 7 % 1000, places=2000) for n in range(1000)))
    names = table.names
    least = [names[number] for number in table.least_utilised(20, (), NOW)]
    loads = [table.tracker.substations[name].load for name in least]
    assert loads == list(range(20))
