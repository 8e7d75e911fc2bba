from __future__ import annotations

from math import inf
from random import Random
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dispatcher.job_index import JobIndex
from grid.events import ASIDE, ENDED, FINAL, MARKER, SUBSTATIONS, Event, State

PLENTY = 1_000


def assigned(where: str, at: float, attempt: int = 1, job: str = "j") -> Event:
    """Return the event of a decision."""
    return Event(State.ASSIGNED, at, job=job, substation=where, attempt=attempt)


def charging(where: str, at: float, job: str = "j") -> Event:
    """Return the event of a session that began."""
    return Event(State.CHARGING, at, job=job, substation=where)


def ended(kind: str = State.COMPLETED, at: float = 9, job: str = "j", replays: int = 0) -> Event:
    """Return the event of a job's end, after so many replays."""
    return Event(kind, at, job=job, detail={"replays": replays})


def index_of(*events: Event, most: int = PLENTY) -> JobIndex:
    """Return the job index after these events, in this order."""
    index = JobIndex(most)
    for each in events:
        index.apply(each)
    return index


def answers(index: JobIndex, job: str = "j") -> tuple[str | None, str | None, bool]:
    """Return all answers of the index about a job."""
    return index.charging_at(job), index.assigned_to(job), index.ended(job)


@pytest.mark.parametrize(
    ("events", "charging_at", "sent_to"),
    [
        ([], None, None),
        ([Event(State.QUEUED, 1, job="j")], None, None),
        ([Event(MARKER, 1, job="j"), Event(SUBSTATIONS, 1)], None, None),
        ([assigned("a", 1)], None, "a"),
        ([assigned("a", 1), charging("a", 2)], "a", "a"),
        ([charging("a", 2)], "a", None),
        ([charging("a", 2), charging("b", 3)], "b", None),
        ([assigned("a", 1), assigned("b", 2)], None, "b"),
        ([assigned("a", 1, 1), assigned("b", 1, 2)], None, "b"),
        ([assigned("a", 1), charging("a", 2), assigned("b", 3)], None, "b"),
        ([assigned("a", 1), charging("a", 2), assigned("b", 3), charging("b", 4)], "b", "b"),
        ([assigned("a", 1), charging("a", 2), assigned("b", 3), assigned("a", 4)], None, "a"),
        ([assigned("a", 3), charging("a", 2)], "a", "a"),  # its substation's clock is behind
        ([assigned("a", 3), charging("b", 3)], "b", "a"),  # not after it began
        ([assigned("", 1), charging("", 2)], None, None),
    ],
)
def test_job_index_has_where_job_charges_and_was_sent(
    events: list[Event], charging_at: str | None, sent_to: str | None
) -> None:
    """A session lasts until its job is assigned elsewhere, later than it began."""
    assert answers(index_of(*events)) == (charging_at, sent_to, False)
    assert answers(index_of(*reversed(events))) == (charging_at, sent_to, False)


@pytest.mark.parametrize("kind", sorted(ENDED))
def test_job_index_has_no_session_after_any_end(kind: str) -> None:
    """After completed, cancelled, expired or parked, nothing is charging any more."""
    events = [assigned("a", 1), charging("a", 2), ended(kind)]
    assert answers(index_of(*events)) == (None, "a", True)
    assert answers(index_of(*reversed(events))) == (None, "a", True)


@pytest.mark.parametrize("kind", [State.PARKED, State.CANCELLED])
def test_job_index_does_not_count_end_before_a_replay(kind: str) -> None:
    """A replay ends only when it is parked again; a completed job has ended for good."""
    index = index_of(ended(kind, 5))
    assert index.ended("j", 0)
    assert not index.ended("j", 1)
    for again in (ended(kind, 7, replays=1), ended(kind, 5)):
        index.apply(again)
        assert index.ended("j", 0)
        assert index.ended("j", 1)
        assert not index.ended("j", 2)
    assert index_of(ended(kind, 5), ended(State.COMPLETED, 8)).ended("j", 1)


def test_job_index_has_session_of_replayed_job() -> None:
    """A living substation keeps what it charges, although the job was parked before."""
    events = [charging("a", 2), ended(State.PARKED, 3), assigned("b", 4), charging("b", 5)]
    assert index_of(*events).charging_at("j") == "b"
    assert index_of(*reversed(events)).charging_at("j") == "b"
    assert index_of(*events[:3]).charging_at("j") is None


@pytest.mark.parametrize(
    ("events", "since"),
    [
        ([assigned("a", 5)], False),
        ([assigned("b", 3), assigned("a", 5)], False),
        ([assigned("a", 5), assigned("b", 6)], True),
        ([assigned("a", 5), assigned("b", 3)], True),  # the clock of the second decision is behind
        ([assigned("b", 6), assigned("a", 5)], True),  # an event delayed by a broken link
        ([assigned("b", 3)], False),  # the second decision is not read yet
        ([assigned("b", 3), assigned("a", 5), assigned("b", 3)], False),  # read twice
        ([assigned("a", 5), *(assigned("c", at) for at in range(6, 12)), assigned("b", 12)], True),
    ],
)
def test_job_index_says_whether_job_was_sent_there_since(events: list[Event], since: bool) -> None:  # noqa: FBT001
    """By the clocks or by the order in the log: either may be wrong, and nothing may be lost."""
    assert index_of(*events).assigned_since("j", "b", "a", 5) is since


def test_job_index_keeps_jobs_apart() -> None:
    """Events of one job do not change another."""
    index = index_of(charging("a", 1, job="j1"), assigned("b", 2, job="j2"), ended(job="j3"))
    assert answers(index, "j1") == ("a", None, False)
    assert answers(index, "j2") == (None, "b", False)
    assert answers(index, "j3") == (None, None, True)


@pytest.mark.parametrize("make", [assigned, charging])
def test_job_index_forgets_oldest_job_first(make: object) -> None:
    """At most ``most`` jobs are remembered, whatever the kind of their events."""
    assert callable(make)
    index = index_of(*(make("a", 1, job=f"j{number}") for number in range(5)), most=3)
    found = [index.charging_at(f"j{n}") or index.assigned_to(f"j{n}") for n in range(5)]
    assert found == [None, None, "a", "a", "a"]


def test_job_index_is_bounded() -> None:
    """However many jobs come, nothing grows beyond its bound."""
    index = JobIndex(10)
    for number in range(1_000):
        job = f"j{number}"
        for event in (charging("a", 2, job), assigned("a", 1, job=job), ended(job=job)):
            index.apply(event)
            index.apply(ended(State.PARKED, job=job))
            index.apply(charging("a", 2, f"late{number}"))
    assert len(index) <= 10
    assert index.ended("j999")
    assert not index.ended("j0")


NEWS = st.one_of(
    st.builds(
        assigned,
        st.sampled_from("abc"),
        st.integers(1, 5),
        st.integers(1, 3),
        st.sampled_from(["j", "k"]),
    ),
    st.builds(charging, st.sampled_from("abc"), st.integers(1, 5), st.sampled_from(["j", "k"])),
    st.builds(
        ended,
        st.sampled_from(sorted(ENDED)),
        st.integers(1, 5),
        st.sampled_from(["j", "k"]),
        st.integers(0, 2),
    ),
)


@given(st.lists(NEWS, max_size=12), st.randoms(use_true_random=False))
def test_job_index_does_not_depend_on_order_or_repetition(
    news: list[Event], random: Random
) -> None:
    """For a log in any order and with repetitions, the answers are those of plain rules."""
    again = news + [random.choice(news) for _ in news]
    random.shuffle(again)
    for job in ("j", "k"):
        assert answers(index_of(*again), job) == by_the_rules(news, job)
        assert index_of(*again).ended(job, 1) == over(news, job, 1)
        assert index_of(*again).end(job) == end(news, job)


def end(news: list[Event], job: str) -> Event | None:
    """Return a job's first final end in the whole log, or else its last parking or cancellation."""
    own = [each for each in news if each.job == job]
    final = [each for each in own if each.kind in FINAL]
    if final:
        return replace(min(final, key=lambda each: (each.at, each.kind)), detail={})
    aside = [each for each in own if each.kind in ASIDE]
    if not aside:
        return None
    replays = max(each.detail["replays"] for each in aside)
    last = max(aside, key=lambda each: (each.at, each.kind))
    return replace(last, detail={"replays": replays} if replays else {})


def over(news: list[Event], job: str, replays: int) -> bool:
    """Return whether, by the whole log, a job with so many replays has ended."""
    own = [each for each in news if each.job == job and each.kind in ENDED]
    return any(e.kind in FINAL or e.detail["replays"] >= replays for e in own)


def by_the_rules(news: list[Event], job: str) -> tuple[str | None, str | None, bool]:
    """Return the answers computed from the whole log at once."""
    own = [each for each in news if each.job == job]
    sent = [(e.at, e.attempt, e.substation) for e in own if e.kind == State.ASSIGNED]
    begun = [(e.at, e.substation) for e in own if e.kind == State.CHARGING]
    aside = [e.at for e in own if e.kind in ASIDE]
    where = None
    if begun and not any(e.kind in FINAL for e in own):
        since, at = max(begun)
        gone = any(each >= since for each in aside)
        gone = gone or any(e[0] > since and e[2] != at for e in sent)
        where = None if gone else at
    return where, max(sent)[2] if sent else None, over(news, job, 0)


def test_job_index_applies_event_in_microseconds() -> None:
    """Thousands of jobs a second have three events each, so one may take a few microseconds."""
    events = [
        event
        for number in range(20_000)
        for event in (
            assigned("a", 1, job=f"j{number}"),
            charging("a", 2, f"j{number}"),
            ended(job=f"j{number}"),
        )
    ]
    index = JobIndex(10_000)
    began = process_time()
    for each in events:
        index.apply(each)
    assert (process_time() - began) / len(events) < 20e-6


def test_job_index_knows_where_job_was_sent_until_it_is_reclaimed() -> None:
    """A job that ended here was sent nowhere, which differs from an unknown job."""
    sent = JobIndex()
    assert not sent.has_sent("j1")
    assert sent.sent_from_here("j1") is None
    sent.note_sent("j1", "s1", 5.0)
    sent.note_sent("j2", "", 6.0)
    assert sent.has_sent("j1")
    assert sent.has_sent("j2")
    assert (sent.sent_from_here("j1"), sent.sent_from_here("j2")) == ("s1", "")
    sent.note_sent("j1", "s2", 7.0)
    assert sent.sent_from_here("j1") == "s2"
    assert (sent.sent_from_here_at("j1"), sent.sent_from_here_at("j3")) == (7.0, -inf)
    sent.forget_sent("j1")
    sent.forget_sent("j1")
    assert not sent.has_sent("j1")


def test_job_index_forgets_oldest_sent_job_first() -> None:
    """A dispatcher that runs for years must not remember all it ever sent."""
    sent = JobIndex(3)
    for job in ("j1", "j2", "j3", "j4"):
        sent.note_sent(job, "s1", 5.0)
    assert [job for job in ("j1", "j2", "j3", "j4") if sent.has_sent(job)] == ["j2", "j3", "j4"]
