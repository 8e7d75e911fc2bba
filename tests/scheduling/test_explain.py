from __future__ import annotations

import json
from collections.abc import Mapping
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given

from grid.controls import Availability
from grid.events import Counts
from scheduling.candidates import LISTED, CandidateTable
from scheduling.explain import (
    AHEAD,
    BLIND,
    NO_CONNECTOR,
    NO_POWER,
    NOT_ALLOWED,
    Explainer,
    candidates,
    shown,
)
from scheduling.load_tracker import DRAINED, NO_BASELINE, NO_CONSUMER
from scheduling.order import Requirements
from scheduling.policies import LeastLoaded, Pick
from scheduling.substation_state import NO_READING
from tests.scheduling import oracle
from tests.scheduling.histories import CHANGES, NAMED, POWERS, SLOW_START, Change, World, after_each
from tests.scheduling.tables import CLOSED, NOW, RUN, STALE, Row, table_of

LATER = NOW + 0.1234


def requirements(power_kw: float = 7, *allowed: str) -> Requirements:
    """Make the requirements of a request."""
    return Requirements((0, 0, 0, ""), allowed, power_kw, inf)


def recorded(
    table: CandidateTable, wanted: Requirements, now: float = NOW, *, ahead: bool = False
) -> Mapping[str, Any]:
    """Decide, and return the record of the decision."""
    found = table.candidates_for(wanted.power_kw, wanted.allowed, now, ahead=ahead)
    assert found is not None
    pick = LeastLoaded().pick(found, Random(0))  # noqa: S311
    return Explainer(table, "least-loaded").explanation(pick, found, wanted, now)


def reasons(record: Mapping[str, Any]) -> dict[str, str | None]:
    """Return why each candidate of a record could not be chosen."""
    return {each["substation"]: each["reason"] for each in record["candidates"]}


def test_explanation_shows_gauge_load_power_state_and_eligibility() -> None:
    """Gauge, its age, jobs outstanding, utilisation, power, state and limit, and eligibility."""
    row = Row(
        "a", 3, places=12, in_flight_kw=(11, 22), rated=200, power=30.00049, background=40,
        limit=10,
    )  # fmt: skip
    table = table_of(row, Row("b"))
    assert recorded(table, requirements(7, "a"), LATER)["candidates"][0] == {
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


def test_explanation_of_a_substation_never_read_shows_null() -> None:
    """What is unknown is null, and does not count as idle."""
    table = table_of(Row("a", closed="never read"))
    (found,) = candidates(table, NOW)
    seen = shown(found)
    assert (seen["gauge_age_seconds"], seen["rated_power_kw"]) == (None, None)
    assert (seen["eligible"], seen["reason"]) == (False, NO_READING)


@pytest.mark.parametrize(
    ("closed", "why"),
    [
        ("drained", DRAINED),
        ("ejected", "ejected for another 5 s after repeated failures"),
        ("failed", "HTTP 500"),
        ("refused", "unroutable"),
        ("no consumer", NO_CONSUMER),
        ("stale", "its load was read 5.0 s ago: that is too old"),
        ("never read", NO_READING),
        ("baseline unknown", NO_BASELINE),
    ],
)
def test_explanation_names_each_reason_of_ineligibility(closed: str, why: str) -> None:
    """Each cause of ineligibility has its own text."""
    record = recorded(table_of(Row("a", closed=closed), Row("b", 9)), requirements())
    first = next(each for each in record["candidates"] if each["substation"] == "a")
    assert (first["eligible"], first["reason"]) == (False, why)
    assert first["state"] == (
        Availability.DRAINING if closed == "drained" else Availability.AVAILABLE
    )
    assert closed in CLOSED


@pytest.mark.parametrize(
    ("row", "wanted", "why"),
    [
        (Row("a", 9), requirements(), None),
        (Row("a", 9.5), requirements(), NO_CONNECTOR),
        (Row("a", 10), requirements(), NO_CONNECTOR),
        (Row("a", 5, limit=5), requirements(), NO_CONNECTOR),
        (Row("a", rated=50), requirements(50), None),
        (Row("a", rated=50), requirements(50.1), NO_POWER),
        (Row("a", 10, rated=50), requirements(50.1), NO_CONNECTOR),
        (Row("a", 10, closed="drained"), requirements(), DRAINED),
        (Row("a"), requirements(7, "b"), NOT_ALLOWED),
        (Row("a"), requirements(7, "b", "a"), None),
        (Row("a", rated=50, background=50), None, None),
        (Row("a", rated=50, background=50.1), None, NO_POWER),
        (Row("a", 10), None, NO_CONNECTOR),
    ],
)
def test_explanation_names_why_a_request_does_not_fit(
    row: Row, wanted: Requirements | None, why: str | None
) -> None:
    """It must be named, eligible, have a connector and enough power; the exact limits still fit.

    Without a request, power is short only if it exceeds the rating.
    """
    table = table_of(row, Row("b"))
    assert candidates(table, NOW, wanted)[0].reason == why


@pytest.mark.parametrize(("each", "jobs", "rated"), [(0.1, 3, 0.3), (1.1, 3, 3.3)])
def test_explanation_shows_power_exactly_at_the_rating_as_fitting(
    each: float, jobs: int, rated: float
) -> None:
    """Although the floating-point sum of the powers is slightly above the rating."""
    row = Row("a", places=1000, rated=rated, in_flight_kw=(each,) * (jobs - 1))
    assert sum(row.in_flight_kw) + each > rated
    assert reasons(recorded(table_of(row), requirements(each))) == {"a": None}


@given(CHANGES, POWERS, NAMED)
def test_explanation_shows_exactly_the_candidates_as_eligible(
    changes: list[Change], requested: float, allowed: list[str]
) -> None:
    """The api and the record never show a substation as available that cannot be chosen."""
    for world in after_each(changes):
        table, now = world.table, world.now
        seen = candidates(table, now, requirements(requested, *allowed))
        eligible = {each.substation for each in seen if each.reason is None}
        states = table.tracker.substations
        assert eligible == {
            name
            for name in oracle.open_names(table, requested, allowed, now, SLOW_START)
            if oracle.keeps_limits(states[name], requested, now)
        }


@pytest.mark.parametrize(("count", "listed"), [(1, 1), (3, 3), (20, 20), (21, 20), (500, 20)])
def test_decision_record_lists_the_least_utilised(count: int, listed: int) -> None:
    """A decision among many is explained by the 20 with the lowest utilisation."""
    assert LISTED == 20
    table = table_of(*(Row(f"s{n:03}", n, places=1000) for n in range(count)))
    record = recorded(table, requirements())
    assert [each["substation"] for each in record["candidates"]] == [
        f"s{n:03}" for n in range(listed)
    ]
    assert record["policy"] == "least-loaded"
    assert record["reason"] == "lowest utilisation after placing it: 0.001"


def test_decision_record_always_contains_the_chosen_substation() -> None:
    """If the chosen one is not among the least utilised, it comes last."""
    table = table_of(*(Row(f"s{n:03}", n, places=1000) for n in range(100)))
    found = table.candidates_for(7, (), NOW)
    assert found is not None
    pick = Pick(table.names.index("s099"), "drawn among 100")
    record = Explainer(table, "random").explanation(pick, found, requirements(), NOW)
    names = [each["substation"] for each in record["candidates"]]
    assert names == [*(f"s{n:03}" for n in range(20)), "s099"]
    assert (record["policy"], record["reason"]) == ("random", "drawn among 100")


def test_decision_record_contains_all_allowed_substations() -> None:
    """A record has to explain why a job went to none of the other substations it could go to."""
    others = (Row(f"s{n:03}", places=1000) for n in range(100))
    table = table_of(*others, Row("heavy", 5), Row("heavier", 9), Row("shut", closed="drained"))
    record = recorded(table, requirements(7, "shut", "heavy", "heavier"))
    assert [each["substation"] for each in record["candidates"][:3]] == [
        "heavy",
        "heavier",
        "shut",
    ]
    assert list(reasons(record).values()) == [None, None, DRAINED, *[NOT_ALLOWED] * 17]


def test_decision_record_says_that_no_page_was_current() -> None:
    """Then those that it may be sent to are eligible, old as their pages are."""
    table = table_of(Row("a", 1), Row("b", 2), Row("c", consumers=None))
    record = recorded(table, requirements(), NOW + STALE + 0.5)
    assert record["reason"] == f"lowest utilisation after placing it: 0.2{BLIND}"
    assert reasons(record) == {
        "a": None, "b": None, "c": "its load was read 2.5 s ago: that is too old",
    }  # fmt: skip


def test_decision_record_says_that_the_job_was_dispatched_ahead() -> None:
    """The substation it went to is shown as full, which explains the reason."""
    record = recorded(table_of(Row("a", 10)), requirements(), ahead=True)
    assert record["reason"] == f"lowest utilisation after placing it: 1.1{AHEAD}"
    assert reasons(record) == {"a": NO_CONNECTOR}


def test_decision_record_is_valid_json() -> None:
    """Also of substations of which hardly anything is known."""
    table = table_of(Row("a"), *(Row(closed, closed=closed) for closed in CLOSED))
    record = recorded(table, requirements(7, "a"))
    assert json.loads(json.dumps(record, allow_nan=False)) == record


@given(CHANGES, POWERS, NAMED)
def test_cached_explanations_equal_fresh_ones(
    changes: list[Change], requested: float, allowed: list[str]
) -> None:
    """Whatever changes of the substations, by pages, events, dispatches or with time."""
    world = World()
    kept = Explainer(world.table, "least-loaded")
    wanted = requirements(requested, *allowed)
    for change in changes:
        change(world)
        table, now = world.table, world.now
        found = table.candidates_for(requested, allowed, now)
        if found is None:
            continue
        pick = LeastLoaded().pick(found, Random(0))  # noqa: S311
        anew = Explainer(table, "least-loaded").explanation(pick, found, wanted, now)
        assert kept.explanation(pick, found, wanted, now) == anew


def test_explanation_updates_outstanding_jobs_when_the_load_is_unchanged() -> None:
    """A session begins: the job is not outstanding any more, and the load is as it was."""
    table = table_of(Row("a", 2), Row("b", 9))
    explainer = Explainer(table, "least-loaded")

    def outstanding() -> float:
        found = table.candidates_for(7, (), NOW)
        assert found is not None
        pick = LeastLoaded().pick(found, Random(0))  # noqa: S311
        shown = explainer.explanation(pick, found, requirements(), NOW)["candidates"]
        return float(next(each["outstanding"] for each in shown if each["substation"] == "a"))

    table.tracker.dispatch("a", NOW, 50)
    assert outstanding() == 1
    table.tracker.report("a", Counts(3, 3, 0, 0, RUN))
    assert outstanding() == 0
