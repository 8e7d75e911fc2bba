"""Which jobs are accepted and have not ended, whatever part of the log is read first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dispatcher import open_jobs
from dispatcher.open_jobs import OpenJobs
from grid import kinds, parking
from grid.events import REQUEUED, Event, State
from grid.kinds import Booking
from grid.messages import ChargeRequest

MOST = 1_000


def open_jobs_of(*events: Event, first: int = 0) -> OpenJobs:
    """Return what follows from these events, each a message of its own."""
    jobs = OpenJobs()
    for offset, each in enumerate(events, first):
        jobs.take(each, offset)
    return jobs


def event(kind: str, job: str = "j", substation: str = "s1", replays: int = 0) -> Event:
    """Return an event of a job."""
    where = "" if kind == State.QUEUED else substation
    return Event(kind, 1.0, job, where, detail=parking.noted(replays))


def promise(job: str = "j", at: float = 1.0) -> Event:
    """Return the event that a start at s1 is promised to a job."""
    return kinds.booked(booking(job), at)


def withdrawal(job: str = "j", at: float = 1.0) -> Event:
    """Return the event that the start of a job at s1 cannot be kept."""
    return kinds.withdrawn(booking(job), at, "")


def booking(job: str, asked_at: float = 1.0) -> Booking:
    """Return a start at s1 that may be promised to a job."""
    return Booking(ChargeRequest(job, asked_at), "s1", 100.0, 200.0)


QUEUED, ASSIGNED = event(State.QUEUED), event(State.ASSIGNED)
CHARGING, COMPLETED = event(State.CHARGING), event(State.COMPLETED)


def test_open_jobs_has_job_from_acceptance_to_end() -> None:
    """It waits, is assigned, begins, and is removed."""
    jobs = open_jobs_of(QUEUED, first=7)
    assert (jobs.waiting, jobs.offset("j")) == (1, 7)
    jobs.take(ASSIGNED, 8)
    assert (jobs.waiting, jobs.assigned(), jobs.offset("j")) == (0, {"s1": ["j"]}, 7)
    assert jobs.silent("j")
    jobs.take(CHARGING, 9)
    assert (jobs.waiting, jobs.assigned(), jobs.silent("j")) == (0, {}, False)
    jobs.take(COMPLETED, 10)
    assert jobs.offset("j") is None


@given(st.permutations([QUEUED, ASSIGNED, CHARGING, COMPLETED]))
def test_open_jobs_ignores_events_read_after_the_end(events: list[Event]) -> None:
    """An api tries to write that a job was accepted until the log takes it, perhaps late."""
    jobs = open_jobs_of(*events)
    assert (jobs.waiting, jobs.assigned()) == (0, {})


@given(st.permutations([QUEUED, ASSIGNED]))
def test_open_jobs_assigns_job_in_either_order_of_events(events: list[Event]) -> None:
    """The offset of its record is known as well."""
    jobs = open_jobs_of(*events)
    assert (jobs.waiting, jobs.assigned()) == (0, {"s1": ["j"]})
    assert jobs.offset("j") == events.index(QUEUED)


def test_open_jobs_has_parked_job_waiting_once_replayed() -> None:
    """With the number of its replays, which tells it from the job that was parked before."""
    jobs = open_jobs_of(QUEUED, event(State.PARKED), QUEUED)
    assert jobs.waiting == 0
    jobs.take(event(State.QUEUED, replays=1), 3)
    assert (jobs.waiting, jobs.replays("j")) == (1, 1)
    jobs.take(event(State.CANCELLED, replays=1), 4)
    assert (jobs.waiting, jobs.replays("j")) == (0, 0)


def test_open_jobs_adds_jobs_open_in_earlier_part_of_log() -> None:
    """Unless a job was assigned, or has ended, since."""
    earlier = open_jobs_of(
        *(event(State.QUEUED, job) for job in ("a", "b", "c", "d")),
        event(State.ASSIGNED, "d"),
        event(State.QUEUED, "e", replays=2),
    )
    jobs = open_jobs_of(
        event(State.COMPLETED, "a"), event(State.ASSIGNED, "b"), event(State.QUEUED, "x"), first=50
    )
    assert not jobs.complete
    jobs.absorb(earlier)
    assert jobs.complete
    assert jobs.missing(0, (), (), MOST) == ["c", "e", "x"]
    assert jobs.offset("b") == 1
    assert sorted(jobs.assigned()["s1"]) == ["b", "d"]
    assert jobs.replays("e") == 2


# events of jobs as the log may have them, in any order
JOBS = st.sampled_from("abc")
TIMES = st.sampled_from([0.5, 1.0, 1.5])  # before, with and after the decisions
MIXED = st.lists(
    st.builds(
        event,
        st.sampled_from([*State, REQUEUED]),
        JOBS,
        st.sampled_from(["s1", "s2"]),
        st.sampled_from([0, 0, 1]),
    )
    | st.builds(promise, JOBS, TIMES)
    | st.builds(withdrawal, JOBS, TIMES),
    max_size=12,
)


@given(MIXED, st.data())
def test_open_jobs_is_same_for_log_read_in_two_parts(
    events: list[Event], data: st.DataObject
) -> None:
    """Wherever the log is cut, and whichever part is read first."""
    cut = data.draw(st.integers(0, len(events)))
    whole, later = open_jobs_of(*events), open_jobs_of(*events[cut:], first=cut)
    later.absorb(open_jobs_of(*events[:cut]))
    assert later.missing(0, (), (), MOST) == whole.missing(0, (), (), MOST)
    for job in "abc":
        for replays in (0, 1):
            assert later.has_ended(job, replays) == whole.has_ended(job, replays)
        assert later.silent(job) == whole.silent(job)
        assert later.is_overtaken(job) == whole.is_overtaken(job)
        assert later.charging_at(job) == whole.charging_at(job)
        assert later.substation(job) == whole.substation(job)
        assert later.offset(job) == whole.offset(job)
        assert later.replays(job) == whole.replays(job)
        assert later.told_at(job) == whole.told_at(job)
        assert later.is_booked(job) == whole.is_booked(job)
        assert later.was_promised_at(job) == whole.was_promised_at(job)


@pytest.mark.parametrize(
    ("before", "applies"), [([ASSIGNED], True), ([ASSIGNED, CHARGING], True), ([], False)]
)
def test_open_jobs_applies_requeued_event_to_what_its_writer_had_read(
    before: list[Event],
    applies: bool,  # noqa: FBT001
) -> None:
    after = len(before) + 1
    requeued = kinds.requeued("j", 1.0, "s1", after)
    jobs = open_jobs_of(QUEUED, *before, requeued)
    assert jobs.waiting == 1
    late = open_jobs_of(QUEUED, *before, *([] if applies else [ASSIGNED]), ASSIGNED, requeued)
    assert (late.waiting, late.substation("j")) == (0, "s1")
    elsewhere = open_jobs_of(QUEUED, *before, event(State.ASSIGNED, substation="s2"), requeued)
    assert elsewhere.substation("j") == "s2"


@pytest.mark.parametrize("change", [promise, withdrawal])
@pytest.mark.parametrize(
    ("before", "holds"),
    [
        ([], True),
        ([promise(at=1.0)], True),
        ([promise(at=3.0)], False),
        ([ASSIGNED], True),  # its queue did not take it
        ([ASSIGNED, promise(at=1.5)], True),
        ([withdrawal(at=1.0)], True),
        ([withdrawal(at=3.0)], False),
        ([ASSIGNED, kinds.requeued("j", 1.5, "s1", 9)], True),
        ([replace(ASSIGNED, at=2.0)], False),
        ([ASSIGNED, CHARGING], False),
        ([ASSIGNED, COMPLETED], False),
    ],
    ids=lambda value: " ".join(each.kind for each in value) if isinstance(value, list) else None,
)
def test_open_jobs_ignores_outdated_changes_of_promises(
    change: Callable[..., Event],
    before: list[Event],
    holds: bool,  # noqa: FBT001
) -> None:
    """A start is promised, or withdrawn, at 2.0; where the job was assigned, mostly at 1.0."""
    jobs = open_jobs_of(QUEUED, *before)
    known = jobs.told_at("j"), jobs.is_booked("j"), jobs.was_promised_at("j")
    jobs.take(change(at=2.0), 9)
    told = (2.0, True, "") if change is promise else (2.0, False, "s1")
    now = jobs.told_at("j"), jobs.is_booked("j"), jobs.was_promised_at("j")
    assert now == (told if holds else known)


def test_open_jobs_keeps_promise_of_job_that_is_requested_anew() -> None:
    """It was cancelled before; its new queued event is written late."""
    jobs = open_jobs_of(QUEUED, Event(State.CANCELLED, 5.0, "j"))
    jobs.take(kinds.booked(booking("j"), 12.0), 9)
    assert not jobs.is_booked("j")
    jobs.take(kinds.booked(booking("j", asked_at=10.0), 12.0), 10)
    assert jobs.is_booked("j")
    jobs.take(withdrawal(at=13.0), 11)
    assert (jobs.is_booked("j"), jobs.was_promised_at("j")) == (False, "s1")


def test_open_jobs_ignores_its_own_promise_read_back_after_it_was_withdrawn() -> None:
    jobs = open_jobs_of(QUEUED)
    jobs.book(booking("j"), 40.0)
    jobs.withdraw("j", "s1", 45.0)
    jobs.take(promise(at=40.0), 9)
    assert (jobs.is_booked("j"), jobs.was_promised_at("j")) == (False, "s1")


def test_open_jobs_tells_of_a_start_later_than_a_clock_that_is_ahead() -> None:
    """Else readers would take the decision, or the start before, for the newer one."""
    jobs = open_jobs_of(QUEUED, replace(ASSIGNED, at=10.0))
    assert jobs.tells_at("j", 11.0) == 11.0
    assert 10.0 < jobs.tells_at("j", 9.0) < 10.1
    jobs.book(booking("j"), 20.0)
    assert 20.0 < jobs.tells_at("j", 11.0) < 20.1
    assert jobs.tells_at("unknown", 1.0) == 1.0


def test_open_jobs_ignores_late_end_from_before_a_replay() -> None:
    """Its writer tries again until the log takes it."""
    jobs = open_jobs_of(
        QUEUED, event(State.PARKED), event(State.QUEUED, replays=1), event(State.PARKED)
    )
    assert jobs.waiting == 1
    assert not jobs.has_ended("j", 1)


def test_open_jobs_has_job_that_was_requested_anew_after_parking() -> None:
    """Its sender has corrected it; the same request read again stays ended."""
    asked = [Event(State.QUEUED, at, "j", detail={"requested_at": at}) for at in (1.0, 100.0)]
    parked = Event(State.PARKED, 50.0, "j")
    jobs = open_jobs_of(asked[0], parked, asked[0])
    assert jobs.waiting == 0
    jobs.take(asked[1], 3)
    assert jobs.waiting == 1
    assert not jobs.has_ended("j", 0, 100.0)


def test_open_jobs_reports_oldest_jobs_as_missing() -> None:
    """Queues are served in order, so the newest are still in them."""
    jobs = open_jobs_of(*(event(State.QUEUED, str(number)) for number in range(10)))
    assert jobs.missing(10, (), (), MOST) == []
    assert jobs.missing(7, (), (), MOST) == ["0", "1", "2"]
    assert jobs.missing(7, (), (), 2) == ["0", "1"]
    assert jobs.missing(5, {"0", "2", "strange"}, (), MOST) == ["1", "3", "4"]
    jobs.take(event(State.ASSIGNED, "9"), 10)
    assert jobs.missing(9, (), (), MOST) == []
    assert jobs.missing(8, (), ["9"], MOST) == ["0", "1"]
    assert jobs.missing(0, {str(number) for number in range(9)}, ["9"], MOST) == ["9"]
    assert jobs.missing(0, {str(number) for number in range(10)}, ["9"], MOST) == []


@pytest.mark.parametrize("is_recorded", [False, True])
def test_open_jobs_counts_cancelled_request_until_it_has_come(is_recorded: bool) -> None:  # noqa: FBT001
    """In the place of its request: behind the older ones, and behind all if it was requeued."""
    jobs = open_jobs_of(*(event(State.QUEUED, job) for job in "abcd"))
    jobs.requeue("a")
    for job in "ac":
        jobs.cancel_undelivered(job)
        if is_recorded:
            jobs.take(event(State.CANCELLED, job, ""), 4)
    assert jobs.missing(4, (), (), MOST) == []
    assert jobs.missing(1, (), (), MOST) == ["b", "c", "d"]
    assert jobs.missing(1, {"b", "c"}, (), MOST) == ["d"]
    jobs.take(event(State.QUEUED, "e"), 0)  # the log was deleted, and declared again
    assert jobs.missing(1, (), (), MOST) == ["b", "c", "d", "e"]
    for job in "ac":
        jobs.forget_undelivered(job)
    assert list(jobs.undelivered) == []
    assert jobs.missing(0, (), (), MOST) == (["b", "d", "e"] if is_recorded else [*"bcdea"])


def test_open_jobs_keeps_record_of_requeued_job() -> None:
    """It was assigned to a substation that does not have it."""
    jobs = open_jobs_of(QUEUED, ASSIGNED)
    assert jobs.substation("j") == "s1"
    jobs.requeue("j", "s1")
    assert (jobs.waiting, jobs.substation("j"), jobs.offset("j")) == (1, "", 0)
    jobs.drop("j")
    assert jobs.waiting == 0


def test_open_jobs_says_which_job_was_overtaken() -> None:
    """Not by a job sent before it or elsewhere, nor once it was sent there again."""
    jobs = open_jobs_of(*(event(State.ASSIGNED, job) for job in ("a", "b", "c")))
    jobs.take(event(State.ASSIGNED, "d", "s2"), 3)
    jobs.take(event(State.CHARGING, "d", "s2"), 4)
    jobs.take(event(State.CHARGING, "a"), 5)
    assert not any(map(jobs.is_overtaken, "abcd"))
    jobs.take(event(State.CHARGING, "c"), 6)
    assert [job for job in "abcd" if jobs.is_overtaken(job)] == ["b"]
    jobs.take(event(State.ASSIGNED, "b"), 7)
    assert not jobs.is_overtaken("b")


def test_open_jobs_forgets_only_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """And those only after the earlier part of the log was added."""
    monkeypatch.setattr(open_jobs, "ENDS_REMEMBERED", 2)
    jobs = open_jobs_of(*(event(State.COMPLETED, str(number)) for number in range(6)))
    jobs.absorb(open_jobs_of(*(event(State.QUEUED, str(number)) for number in range(6))))
    assert jobs.waiting == 0
    jobs.take(event(State.COMPLETED, "6"), 6)
    jobs.take(event(State.QUEUED, "6"), 7)
    assert jobs.waiting == 0
    jobs.take(event(State.QUEUED, "0"), 8)
    assert jobs.waiting == 1
