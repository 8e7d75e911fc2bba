from __future__ import annotations

import json
from collections.abc import Mapping
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given

from dispatcher.decision.account import NO_READING
from dispatcher.decision.explain import (
    AHEAD,
    BLIND,
    LISTED,
    NO_POWER,
    NOT_NAMED,
    TAKEN,
    candidate,
    explain,
    record,
    why_not,
)
from dispatcher.decision.fleet import Fleet
from dispatcher.decision.ledger import DRAINED, NO_ANCHOR, NO_CONSUMER
from dispatcher.decision.line import Wish
from dispatcher.decision.policy import LeastLoaded
from dispatcher.decision.router import Choice
from grid.controls import Availability
from tests.dispatcher.decision import oracle
from tests.dispatcher.decision.fleets import CLOSED, NOW, STALE, Row, fleet_of
from tests.dispatcher.decision.histories import CHANGES, NAMED, POWERS, SLOW_START, Change, World

LATER = NOW + 0.1234


def wish(power_kw: float = 7, *named: str) -> Wish:
    """Make the requirements of a request."""
    return Wish((0, 0, 0, ""), named, power_kw, inf)


def recorded(
    fleet: Fleet, wanted: Wish, now: float = NOW, *, ahead: bool = False
) -> Mapping[str, Any]:
    """Decide, and return the record of the decision."""
    found = fleet.open_to(wanted.power_kw, wanted.named, now, ahead=ahead)
    assert found is not None
    place, reason = LeastLoaded().choose(found, Random(0))  # noqa: S311
    choice = Choice(found.name(place), reason, found)
    return record("least-loaded", choice, wanted, fleet, now)


def reasons(kept: Mapping[str, Any]) -> dict[str, str | None]:
    """Return why each candidate of a record could not be chosen."""
    return {each["substation"]: each["reason"] for each in kept["candidates"]}


def test_what_is_shown_of_a_substation() -> None:
    """Gauge, its age, jobs outstanding, utilisation, power, state and limit, and eligibility."""
    row = Row(
        "a", 3, places=12, way=(11, 22), rated=200, power=30.00049, background=40, limit=10,
    )  # fmt: skip
    fleet = fleet_of(row, Row("b"))
    assert recorded(fleet, wish(7, "a"), LATER)["candidates"][0] == {
        "substation": "a",
        "load": 5,
        "connectors": 12,
        "utilisation": 0.515,
        "gauge": 3,
        "gauge_age_seconds": 0.123,
        "outstanding": 2,
        "power_kw": 103.0,
        "rated_power_kw": 200,
        "state": "available",
        "limit": 10,
        "eligible": True,
        "reason": None,
    }


def test_what_is_shown_of_one_that_was_never_read() -> None:
    """What is unknown is null, and does not count as idle."""
    fleet = fleet_of(Row("a", closed="never read"))
    shown = explain(candidate(fleet.ledger.accounts["a"], fleet, NOW))
    assert (shown["gauge_age_seconds"], shown["rated_power_kw"]) == (None, None)
    assert (shown["eligible"], shown["reason"]) == (False, NO_READING)


@pytest.mark.parametrize(
    ("closed", "why"),
    [
        ("drained", DRAINED),
        ("ejected", "ejected for another 5 s: it failed again and again"),
        ("failed", "HTTP 500"),
        ("refused", "unroutable"),
        ("no consumer", NO_CONSUMER),
        ("stale", "its load was read 5.0 s ago: that is too old"),
        ("never read", NO_READING),
        ("scale not set", NO_ANCHOR),
    ],
)
def test_why_one_may_not_be_used(closed: str, why: str) -> None:
    """Each cause of ineligibility has its own text."""
    kept = recorded(fleet_of(Row("a", closed=closed), Row("b", 9)), wish())
    first = next(each for each in kept["candidates"] if each["substation"] == "a")
    assert (first["eligible"], first["reason"]) == (False, why)
    assert first["state"] == (
        Availability.DRAINING if closed == "drained" else Availability.AVAILABLE
    )
    assert closed in CLOSED


@pytest.mark.parametrize(
    ("row", "wanted", "why"),
    [
        (Row("a", 9), wish(), None),
        (Row("a", 9.5), wish(), TAKEN),
        (Row("a", 10), wish(), TAKEN),
        (Row("a", 5, limit=5), wish(), TAKEN),
        (Row("a", rated=50), wish(50), None),
        (Row("a", rated=50), wish(50.1), NO_POWER),
        (Row("a", 10, rated=50), wish(50.1), TAKEN),
        (Row("a", 10, closed="drained"), wish(), DRAINED),
        (Row("a"), wish(7, "b"), NOT_NAMED),
        (Row("a"), wish(7, "b", "a"), None),
        (Row("a", rated=50, background=50), None, None),
        (Row("a", rated=50, background=50.1), None, NO_POWER),
        (Row("a", 10), None, TAKEN),
    ],
)
def test_why_one_cannot_take_a_request(row: Row, wanted: Wish | None, why: str | None) -> None:
    """It must be named, eligible, have a connector and enough power; the exact limits still fit.

    Without a request, power is short only if it exceeds the rating.
    """
    fleet = fleet_of(row, Row("b"))
    assert why_not(candidate(fleet.ledger.accounts["a"], fleet, NOW), wanted) == why


@pytest.mark.parametrize(("each", "jobs", "rated"), [(0.1, 3, 0.3), (1.1, 3, 3.3)])
def test_power_exactly_at_the_rating_is_shown_to_fit(each: float, jobs: int, rated: float) -> None:
    """Although the floating-point sum of the powers is slightly above the rating."""
    row = Row("a", places=1000, rated=rated, way=(each,) * (jobs - 1))
    assert sum(row.way) + each > rated
    assert reasons(recorded(fleet_of(row), wish(each))) == {"a": None}


@given(CHANGES, POWERS, NAMED)
def test_what_is_shown_as_eligible_is_what_is_open(
    changes: list[Change], requested: float, named: list[str]
) -> None:
    """The api and the record never show a substation as available that cannot be chosen."""
    world = World()
    for change in changes:
        change(world)
        fleet, now = world.fleet, world.now
        seen = [candidate(each, fleet, now) for each in fleet.ledger.accounts.values()]
        eligible = {
            each.substation for each in seen if why_not(each, wish(requested, *named)) is None
        }
        assert eligible == oracle.open_names(fleet, requested, named, now, SLOW_START)


@pytest.mark.parametrize(("count", "listed"), [(1, 1), (3, 3), (20, 20), (21, 20), (500, 20)])
def test_the_record_lists_the_lightest(count: int, listed: int) -> None:
    """A decision among many is explained by the 20 with the lowest utilisation."""
    assert LISTED == 20
    fleet = fleet_of(*(Row(f"s{n:03}", n, places=1000) for n in range(count)))
    kept = recorded(fleet, wish())
    assert [each["substation"] for each in kept["candidates"]] == [
        f"s{n:03}" for n in range(listed)
    ]
    assert kept["policy"] == "least-loaded"
    assert kept["reason"] == "lowest utilisation after placing it: 0.001"


def test_the_record_never_lacks_the_chosen() -> None:
    """If the chosen one is not among the lightest, it comes last."""
    fleet = fleet_of(*(Row(f"s{n:03}", n, places=1000) for n in range(100)))
    found = fleet.open_to(7, (), NOW)
    assert found is not None
    kept = record("random", Choice("s099", "drawn among 100", found), wish(), fleet, NOW)
    names = [each["substation"] for each in kept["candidates"]]
    assert names == [*(f"s{n:03}" for n in range(20)), "s099"]
    assert (kept["policy"], kept["reason"]) == ("random", "drawn among 100")


def test_the_record_has_those_named_though_they_are_heavy_or_closed() -> None:
    """A record has to explain why a job went to none of the other substations it could go to."""
    others = (Row(f"s{n:03}", places=1000) for n in range(100))
    fleet = fleet_of(*others, Row("heavy", 5), Row("heavier", 9), Row("shut", closed="drained"))
    kept = recorded(fleet, wish(7, "shut", "heavy", "heavier"))
    assert [each["substation"] for each in kept["candidates"][:3]] == ["heavy", "heavier", "shut"]
    assert list(reasons(kept).values()) == [None, None, DRAINED, *[NOT_NAMED] * 17]


def test_the_record_says_that_the_ledger_alone_decided() -> None:
    """Then those that it may be sent to are eligible, old as their pages are."""
    fleet = fleet_of(Row("a", 1), Row("b", 2), Row("c", consumers=None))
    kept = recorded(fleet, wish(), NOW + STALE + 0.5)
    assert kept["reason"] == f"lowest utilisation after placing it: 0.2{BLIND}"
    assert reasons(kept) == {
        "a": None, "b": None, "c": "its load was read 2.5 s ago: that is too old",
    }  # fmt: skip


def test_the_record_says_that_it_was_sent_ahead() -> None:
    """The substation it went to is shown as full, which explains the reason."""
    kept = recorded(fleet_of(Row("a", 10)), wish(), ahead=True)
    assert kept["reason"] == f"lowest utilisation after placing it: 1.1{AHEAD}"
    assert reasons(kept) == {"a": TAKEN}


def test_the_record_is_ready_for_json() -> None:
    """Also of substations of which hardly anything is known."""
    fleet = fleet_of(Row("a"), *(Row(closed, closed=closed) for closed in CLOSED))
    kept = recorded(fleet, wish(7, "a"))
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept
