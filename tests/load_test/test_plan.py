"""The plan: when requests are due, and what they ask for."""

# ruff: noqa: S311  # the runs are to be repeatable, not secret

from itertools import islice, pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.errors import ConfigurationError
from grid.messages import ChargeRequest
from load_test.plan import Plan, bodies, offsets


def test_plan_spaces_even_arrivals_by_the_rate() -> None:
    """Requests at a rate of 4 are due a quarter of a second apart, the first at once."""
    assert list(offsets(Plan(4, rate=4), Random(0))) == [0, 0.25, 0.5, 0.75]


def test_plan_of_a_closed_loop_has_no_times() -> None:
    """With a concurrency every request is due at once: the answers set the pace."""
    assert list(offsets(Plan(3, concurrency=2), Random(0))) == [0, 0, 0]


def test_plan_of_poisson_arrivals_has_the_rate_on_average() -> None:
    """Random arrivals come at the rate asked for, with gaps as spread as their mean."""
    due = list(offsets(Plan(20_000, rate=50, poisson=True), Random(1)))
    gaps = [later - earlier for earlier, later in pairwise(due)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(1 / 50, rel=0.03)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.05)


@given(st.integers(), st.booleans())
def test_plan_is_the_same_for_the_same_seed(seed: int, poisson: bool) -> None:  # noqa: FBT001
    """Two runs of one seed send the same requests at the same times, which never fall."""
    plan = Plan(20, rate=3, poisson=poisson)
    first = list(offsets(plan, Random(seed)))
    assert first == list(offsets(plan, Random(seed))) == sorted(first)
    assert list(bodies(plan, Random(seed))) == list(bodies(plan, Random(seed)))


@given(st.integers())
def test_plan_makes_valid_requests_of_different_vehicles(seed: int) -> None:
    """What is sent lies within the contract, and no two vehicles are the same."""
    sent = list(bodies(Plan(50, rate=1), Random(seed)))
    assert len({ChargeRequest("a", 1.0, **body).vehicle_id for body in sent}) == 50


def test_plan_makes_bodies_lazily() -> None:
    """A long run costs nothing before it starts."""
    assert len(list(islice(bodies(Plan(10**12, rate=1), Random(0)), 3))) == 3


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        ({"requests": 0, "rate": 1}, "requests must be at least 1, got 0"),
        ({"requests": 1, "rate": 0.0}, "rate must be above 0 a second, got 0"),
        ({"requests": 1, "rate": float("nan")}, "rate must be above 0 a second, got nan"),
        ({"requests": 1, "rate": float("inf")}, "rate must be above 0 a second, got inf"),
        ({"requests": 1, "concurrency": 0}, "concurrency must be at least 1, got 0"),
        ({"requests": 1}, "either a rate or a concurrency"),
        ({"requests": 1, "rate": 1, "concurrency": 1}, "and not both"),
        ({"requests": 1, "concurrency": 1, "poisson": True}, "Poisson arrivals need a rate"),
    ],
)
def test_plan_refuses_impossible_arguments(plan: dict[str, float], problem: str) -> None:
    """The error names the value that is wrong."""
    with pytest.raises(ConfigurationError, match=problem):
        Plan(**plan)  # type: ignore[arg-type]
