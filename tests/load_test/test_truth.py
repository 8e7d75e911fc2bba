"""The judge of routing: compared with the plainest way to say the same."""

from __future__ import annotations

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.events import State
from load_test.records import Job
from load_test.truth import Judgement, judge

NAMES = ("a", "b", "c", "d")


def job(
    id: str, substation: str, assigned: float, ended: float | None = None, *eligible: str
) -> Job:
    """Make a job that was assigned, and perhaps ended."""
    status = State.CHARGING if ended is None else State.COMPLETED
    return Job(id, status, substation, assigned, assigned, None, ended, eligible=eligible)


CASES = {
    "an empty grid: any will do": ([job("1", "a", 0)], [True], [1]),
    "one is lighter": ([job("1", "a", 0), job("2", "a", 1)], [True, False], [1, 2]),
    "one each": ([job("1", "a", 0), job("2", "b", 1)], [True, True], [1, 0]),
    "it ended before": ([job("1", "a", 0, 1), job("2", "a", 2)], [True, True], [1, 1]),
    "it ends as the next begins": ([job("1", "a", 0, 1), job("2", "a", 1)], [True, True], [1, 1]),
    "it ends after": ([job("1", "a", 0, 3), job("2", "a", 2)], [True, False], [1, 2]),
    "it took no time": ([job("1", "a", 0, 0), job("2", "a", 0)], [True, True], [1, 1]),
    "clocks disagree": ([job("1", "a", 5, 4), job("2", "a", 6)], [True, True], [1, 1]),
    "the lighter one was not eligible": (
        [job("1", "a", 0), job("2", "a", 1, None, "a")],
        [True, True],
        [1, 2],
    ),
    "nor known": ([job("1", "a", 0), job("2", "a", 1, None, "a", "x")], [True, True], [1, 2]),
}


@pytest.mark.parametrize(("jobs", "least", "spread"), CASES.values(), ids=CASES.keys())
def test_judge_compares_each_assignment_with_the_loads_of_that_moment(
    jobs: list[Job], least: list[bool], spread: list[float]
) -> None:
    """Two substations alike: each case says which jobs went to a least-loaded one."""
    judgements = judge(jobs, {"a": 1, "b": 1})
    assert [judgements[one.id].least_loaded for one in jobs] == least
    assert [judgements[one.id].spread for one in jobs] == spread


def test_judge_compares_load_relative_to_connectors() -> None:
    """Two sessions of ten weigh less than one of four, and the spread counts mean substations."""
    jobs = [job("1", "b", 0), job("2", "a", 1), job("3", "a", 2), job("4", "b", 3)]
    judgements = judge(jobs, {"a": 10, "b": 4})
    assert [judgements[one.id].least_loaded for one in jobs] == [True, True, True, False]
    assert judgements["4"].spread == pytest.approx((2 / 4 - 2 / 10) * 7)


def test_judge_gives_an_unknown_substation_the_mean_size() -> None:
    """A substation that only the jobs name takes part in the comparison."""
    judgements = judge([job("1", "x", 0), job("2", "x", 1)], {"a": 6})
    assert judgements == {"1": Judgement(True, 1.0), "2": Judgement(False, 2.0)}  # noqa: FBT003


def test_judge_orders_jobs_of_one_instant_by_queueing() -> None:
    """A batch decided at one reading of the clock is not judged as if it were shuffled."""
    order = ["b", "a", "b", "a"]
    jobs = [
        Job(str(number), State.CHARGING, name, queued=number, assigned=10.0)
        for number, name in enumerate(order)
    ]
    judgements = judge(reversed(jobs), {"a": 1, "b": 1})
    assert all(judgement.least_loaded for judgement in judgements.values())


def test_judge_ignores_jobs_that_were_never_assigned() -> None:
    """A job that was parked or still waits says nothing of the routing."""
    assert judge([Job("1", State.QUEUED)], {"a": 1}) == {}


durations = st.none() | st.integers(0, 6)
jobs_of_a_run = st.lists(
    st.tuples(
        st.sampled_from(NAMES), st.integers(0, 20), durations, st.sets(st.sampled_from(NAMES))
    ),
    max_size=40,
)
sizes = st.fixed_dictionaries({}, optional={name: st.integers(1, 8) for name in NAMES})


@given(jobs_of_a_run, sizes)
def test_judge_agrees_with_plain_counting(
    drawn: list[tuple[str, int, int | None, set[str]]], connectors: dict[str, float]
) -> None:
    """Whatever the jobs and sizes, the quick answer is the one that plain counting gives."""
    jobs = [
        job(str(number), name, at, None if lasts is None else at + lasts, *(chosen | {name}))
        for number, (name, at, lasts, chosen) in enumerate(drawn)
    ]
    judgements = judge(jobs, connectors)
    usual = fmean(connectors.values()) if connectors else 1.0
    size = dict.fromkeys((one.substation or "" for one in jobs), usual) | connectors
    mean_size = fmean(size.values()) if size else 1.0
    for index, one in enumerate(jobs):
        before = {name: _counted(jobs, index, name) / size[name] for name in size}
        chosen = one.substation or ""
        choice = [before[name] for name in one.eligible if name in size] or before.values()
        assert judgements[one.id].least_loaded == (before[chosen] <= min(choice))
        after = before | {chosen: (_counted(jobs, index, chosen) + 1) / size[chosen]}
        spread = (max(after.values()) - min(after.values())) * mean_size
        assert judgements[one.id].spread == pytest.approx(spread, abs=1e-6)


def _counted(jobs: list[Job], index: int, name: str) -> int:
    """Count the jobs at a substation just before one is assigned."""
    now = jobs[index].assigned or 0.0
    return sum(
        other.substation == name
        and ((other.assigned or 0.0) < now or (other.assigned == now and place < index))
        and (other.ended is None or other.ended > now)
        for place, other in enumerate(jobs)
    )
