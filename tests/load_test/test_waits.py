"""Waits: their percentiles, and their mean beside one central queue."""

from __future__ import annotations

from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.events import State
from load_test.records import Job, job
from load_test.waits import Waits, beside_ideal, percentiles

OWN = frozenset("abc")


def charged(id: str, queued: float, charging: float | None, ended: float | None) -> Job:
    """Make a job with these times."""
    status = State.CHARGING if ended is None else State.COMPLETED
    return Job(id, status, "s1", queued, charging, charging, ended)


TWO = [charged("a", 10, 10, 14), charged("b", 11, 15, 16)]
OPEN = [charged("x", 9, 9, None), charged("a", 10, 15, 16)]


@pytest.mark.parametrize(
    ("jobs", "connectors", "mean", "ideal"),
    [
        pytest.param([charged("a", 10, 11, 15)], 1, 1, 0, id="alone"),
        pytest.param(TWO, 1, 2, 1.5, id="one after another"),
        pytest.param(TWO, 2, 2, 0, id="two at once"),
        pytest.param(TWO[::-1], 1, 2, 1.5, id="in any order"),
        pytest.param([charged("x", 9, 9, 14), charged("a", 10, 14.5, 15)], 1, 4.5, 4, id="others"),
        pytest.param(
            [charged("a", 10, 10, 12), charged("x", 11, 14, 90)], 1, 0, 0, id="later ones"
        ),
        pytest.param(OPEN, 2, 5, 0, id="room beside one that has not ended"),
        pytest.param(OPEN, 1, 5, 6, id="one that has not ended lasts to the latest time"),
        pytest.param([charged("a", 10, 12, 11), charged("b", 10, 12, 13)], 1, 2, 0, id="no time"),
        pytest.param([charged("a", 10, 11, 12), charged("b", 10, None, 12)], 1, 1, 0, id="never"),
    ],
)
def test_ideal_wait_is_that_of_one_central_queue(
    jobs: list[Job], connectors: int, mean: float, ideal: float
) -> None:
    """Other clients' jobs hold connectors there, and are not averaged over."""
    found = beside_ideal(OWN, jobs, connectors)
    assert found == pytest.approx((mean, ideal))
    assert found.above == pytest.approx(mean - ideal)


def test_wait_figures_are_none_where_unknown() -> None:
    """Without connectors there is no ideal; without a job of ours that charged there is no wait."""
    assert beside_ideal(OWN, [charged("a", 1, 3, 4)], None) == (2, None)
    assert beside_ideal(OWN, [charged("x", 1, 3, 4)], 1) == (None, None)
    assert beside_ideal(OWN, [], 1).above is None
    assert Waits(2, None).above is None


def test_job_waits_from_its_earliest_start() -> None:
    """It was requested an hour before."""
    times = {
        "queued": "2026-01-01T00:00:00Z",
        "charging": "2026-01-01T01:00:02Z",
        "completed": "2026-01-01T01:00:05Z",
    }
    request = {"earliest_start": "2026-01-01T01:00:00Z"}
    value = {"id": "a", "status": "completed", "substation": "s1", "duplicates": 0}
    assert beside_ideal(OWN, [job({**value, "times": times, "request": request})], 1).mean == 2


def test_waits_have_microsecond_resolution() -> None:
    """A wait of a few microseconds is seen, as the api writes its times."""
    times = {
        "queued": "2026-01-01T00:00:00.000001Z",
        "charging": "2026-01-01T00:00:00.000005Z",
        "completed": "2026-01-01T00:00:03Z",
    }
    value = {"id": "a", "status": "completed", "substation": "s1", "duplicates": 0, "times": times}
    assert beside_ideal(OWN, [job(value)], 1).mean == pytest.approx(4e-6, abs=5e-7)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=300))
def test_percentiles_agree_with_the_standard_library(values: list[float]) -> None:
    """Between two values a percentile lies in proportion, as in ``statistics.quantiles``."""
    cuts = quantiles(values, n=100, method="inclusive")
    assert percentiles(values) == pytest.approx((cuts[49], cuts[94], cuts[98]))


def test_percentiles_of_one_or_no_value() -> None:
    """One value is each of its percentiles; no value has none."""
    assert percentiles([2.0]) == (2.0, 2.0, 2.0)
    assert percentiles([]) is None
