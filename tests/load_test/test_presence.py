"""Which jobs make load: events alone, put right by what the substations say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grid.events import State
from load_test.presence import Sample, present
from load_test.records import Job
from load_test.truth import judge


def job(id: str, assigned: float, ended: float | None = None, substation: str = "a") -> Job:
    """Make a job that was assigned, and perhaps ended."""
    status = State.ASSIGNED if ended is None else State.COMPLETED
    return Job(id, status, substation, assigned, assigned, assigned, ended)


def said(at: float, a: float | None = 0.0, **more: float | None) -> Sample:
    """Make what the substations said."""
    return Sample(at, {"a": a, **more})


def ends(jobs: list[Job]) -> dict[str, float | None]:
    """Return each job's end."""
    return {each.id: each.ended for each in jobs}


def test_presence_without_a_sample_goes_by_events() -> None:
    """As with an api whose dispatcher has said nothing yet."""
    jobs = [job("1", 0), job("2", 1, 2), Job("3", State.QUEUED)]
    assert present(jobs, []) == jobs
    assert ends(present(jobs, [said(5, None)])) == ends(jobs)


def test_presence_drops_jobs_gone_before_the_run() -> None:
    """The oldest of those without an end, as many as no substation has; others are kept."""
    jobs = [job("old", 0), job("older", -1), job("new", 3), job("after", 11), job("ends", 2, 20)]
    found = ends(present(jobs, [said(10, 2)]))  # "new" and "ends", as of then
    assert found == {"new": None, "after": None, "ends": 20}


def test_presence_ends_a_lost_job_when_no_substation_has_it() -> None:
    """Not earlier, and not later: between two samples it may have been there."""
    jobs = [job("kept", 1), job("lost", 0)]
    found = ends(present(jobs, [said(0.5, 1), said(10, 2), said(20, 1), said(30, 1)]))
    assert found == {"lost": 20, "kept": None}


def test_presence_keeps_a_job_with_an_end_as_its_events_say() -> None:
    """What the dispatcher believes of it has no part in that."""
    jobs = [job(str(number), number, number + 50) for number in range(9)]
    assert ends(present(jobs, [said(20, 0), said(30, 99)], ["a"])) == ends(jobs)


def test_presence_ends_the_jobs_of_a_removed_substation() -> None:
    """A substation that was taken out, after what it charged has ended."""
    assert ends(present([job("1", 0, None, "b")], [said(1, b=1), said(2)])) == {"1": 2}


def test_presence_counts_sessions_without_a_job() -> None:
    """Their record was deleted: they make load all the same, where two looks agree on them."""
    samples = [said(10, 3), said(11, 2), said(12, 2), said(13, 1), said(14, 0)]
    found = present([], samples, ["a"])
    assert sorted((each.assigned, each.ended) for each in found) == [(10, 13), (10, 14)]
    assert present([], samples, []) == []
    assert present([], samples[:1], ["a"]) == []


def test_presence_needs_two_samples_for_a_session_without_a_job() -> None:
    """The first look may be older than the list of jobs: what it says is not believed alone."""
    assert present([job("1", 10.5, 12)], [said(10, 5), said(11, 1)], ["a"]) == [job("1", 10.5, 12)]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20) | st.none()), max_size=30),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), max_size=8),
)
def test_presence_load_never_stays_above_the_samples(
    lives: list[tuple[int, int | None]], samples: list[tuple[int, int]]
) -> None:
    """Just after each sample, no more jobs are open than were said or will end by themselves."""
    jobs = [
        job(str(number), begin, None if lasts is None else begin + lasts)
        for number, (begin, lasts) in enumerate(lives)
    ]
    found = present(jobs, [said(at, load) for at, load in samples], ["a"])
    assert {each.id for each in jobs if each.ended is not None} <= {each.id for each in found}
    for at, load in dict(samples).items():
        will_end = sum((each.assigned or 0) <= at < (each.ended or 0) for each in jobs)
        counted = sum(
            (each.assigned or 0) <= at and (each.ended is None or each.ended > at) for each in found
        )
        assert counted <= max(load, will_end)


def test_judge_ignores_lost_jobs_once_they_are_gone() -> None:
    """The judgement on each later job is the one without them."""
    lost = [job(f"lost{number}", 0) for number in range(643)]
    own = [job("1", 11, 12), job("2", 12, 13, "b"), job("3", 13, 14)]
    judgements = judge(present([*lost, *own], [said(10, b=0)]), {"a": 1, "b": 1})
    assert all(judgements[each.id].least_loaded for each in own)
    assert max(judgements[each.id].spread for each in own) == 1
