from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from api import answers
from api.jobs.job import MAX_FURTHER_COMPLETIONS, Job
from api.jobs.packed import pack, unpack
from api.jobs.projection import Projection
from bench.api_memory import memory_of
from grid import events, kinds, parking
from grid.events import BOOKED, ENDED, MARKER, SUBSTATIONS, Event, State
from grid.messages import ChargeRequest

S1, S2 = "s1", "s2"


def queued(at: float = 1, job: str = "j", **fields: object) -> Event:
    """Return the event of an accepted request."""
    return Event(State.QUEUED, at, job, detail={"id": job, "requested_at": at, **fields})


def assigned(
    at: float, substation: str = S1, attempt: int = 1, job: str = "j", replays: int = 0
) -> Event:
    """Return the event of a decision; its record is derived from it."""
    detail = {"requested_at": 1, "reason": f"{at} {substation} {attempt}", "candidates": []}
    detail |= parking.noted(replays)
    return Event(State.ASSIGNED, at, job, substation, attempt, detail=detail)


def charging(at: float, substation: str = S1, attempt: int = 1, job: str = "j") -> Event:
    """Return the event of a session that began."""
    return Event(State.CHARGING, at, job, substation, attempt)


def completed(at: float, substation: str = S1, attempt: int = 1, job: str = "j") -> Event:
    """Return the event of a session that ended."""
    return Event(State.COMPLETED, at, job, substation, attempt)


def parked(at: float, reason: str = "why", job: str = "j", replays: int = 0) -> Event:
    """Return the event of a parked request."""
    return Event(State.PARKED, at, job, reason=reason, detail=parking.noted(replays))


def replayed(at: float, replays: int = 1, reason: str = "replayed", job: str = "j") -> Event:
    """Return the event of a replay by an operator."""
    return Event(State.QUEUED, at, job, reason=reason, detail=parking.noted(replays))


def cancelled(at: float, replays: int = 0, job: str = "j") -> Event:
    """Return the event of a job that an operator discarded."""
    return Event(State.CANCELLED, at, job, reason="given up", detail=parking.noted(replays))


def booked(
    at: float, substation: str = S1, start: float = 9, job: str = "j", reason: str = ""
) -> Event:
    """Return the event of a start that was promised, as the dispatcher writes it."""
    request = ChargeRequest(job, 1, reserve=True)
    return kinds.booked(kinds.Booking(request, substation, start, start + 1), at, reason)


def refused(at: float, job: str = "j", substation: str = S1) -> Event:
    """Return the event of a start that was refused; without a substation there was none."""
    nearest = kinds.Booking(ChargeRequest(job, 1, reserve=True), substation, at + 5, at + 6)
    return kinds.refused(job, at, nearest if substation else None)


def after(*events: Event, most: int = 100) -> Projection:
    """Return the projection of some events."""
    projection = Projection(most)
    for event in events:
        projection.apply(event)
    return projection


def job_after(*events: Event) -> Job:
    """Return the one job that some events are about."""
    job = after(*events).get("j")
    assert job is not None
    return job


def seen(job: Job) -> str:
    """Return all that the api shows of a job."""
    return answers.encode(answers.full_charge(job)).decode()


@pytest.mark.parametrize(
    ("events", "status", "substation", "times"),
    [
        ([queued()], "queued", None, {"queued": 1}),
        ([assigned(2)], "assigned", S1, {"queued": 1, "assigned": 2}),
        ([queued(), assigned(2)], "assigned", S1, {"queued": 1, "assigned": 2}),
        (
            [queued(), assigned(2), charging(3)],
            "charging",
            S1,
            {"queued": 1, "assigned": 2, "charging": 3},
        ),
        (
            [queued(), assigned(2), charging(3), completed(7)],
            "completed",
            S1,
            {"queued": 1, "assigned": 2, "charging": 3, "completed": 7},
        ),
        # a job that went elsewhere, since its first queue refused it or its substation died
        ([assigned(2), assigned(3, S2, 2)], "assigned", S2, {"queued": 1, "assigned": 3}),
        (
            [assigned(2), charging(3), assigned(4, S2)],
            "assigned",
            S2,
            {"queued": 1, "assigned": 4},
        ),
        (
            [assigned(2), charging(3), assigned(4, S2), charging(5, S2)],
            "charging",
            S2,
            {"queued": 1, "assigned": 4, "charging": 5},
        ),
        # charged again where it was, after a restart
        ([charging(3), charging(9, S1, 2)], "charging", S1, {"charging": 9}),
        # the substation's clock is behind the dispatcher's
        (
            [assigned(2), charging(1.9)],
            "charging",
            S1,
            {"queued": 1, "assigned": 2, "charging": 1.9},
        ),
        # charged twice: the first completion counts
        ([completed(7), completed(8, S2)], "completed", S1, {"completed": 7}),
        ([queued(), parked(2)], "parked", None, {"queued": 1, "parked": 2}),
        ([completed(8), parked(7)], "parked", None, {"completed": 8, "parked": 7}),
        ([completed(7), parked(8)], "completed", S1, {"completed": 7, "parked": 8}),
        # replayed: what was before is over
        ([queued(), parked(2), replayed(3)], "queued", None, {"queued": 1, "parked": 2}),
        (
            [queued(), assigned(2), charging(3), parked(4), replayed(5)],
            "queued",
            None,
            {"queued": 1, "parked": 4},
        ),
        (
            [queued(), assigned(2), parked(4), replayed(5), assigned(6, S2, replays=1)],
            "assigned",
            S2,
            {"queued": 1, "assigned": 6, "parked": 4},
        ),
        # the tool was killed before it wrote the record of the replay
        (
            [queued(), parked(4), assigned(6, replays=1), charging(7), completed(8)],
            "completed",
            S1,
            {"queued": 1, "assigned": 6, "charging": 7, "completed": 8, "parked": 4},
        ),
        (
            [queued(), parked(2), replayed(3), parked(4, replays=1)],
            "parked",
            None,
            {"queued": 1, "parked": 4},
        ),
        # discarded where it was parked, and not where it was replayed after that
        ([parked(2), cancelled(3)], "cancelled", None, {"cancelled": 3, "parked": 2}),
        ([parked(2), cancelled(3), replayed(4)], "queued", None, {"cancelled": 3, "parked": 2}),
        (
            [parked(2), replayed(4), completed(5), cancelled(6, 1)],
            "completed",
            S1,
            {"cancelled": 6, "completed": 5, "parked": 2},
        ),
    ],
)
def test_job_state_is_derived_from_its_events(
    events: list[Event], status: str, substation: str | None, times: dict[str, float]
) -> None:
    """State, substation and times are derived from the events, in the orders that occur."""
    job = job_after(*events)
    assert (job.status, job.substation, job.times) == (status, substation, times)
    assert list(job.times) == list(times), "in the order of a job's life"


def test_job_has_its_request_decision_and_reason() -> None:
    """What the client asked for, why it was sent there, and why it was parked."""
    job = job_after(queued(vehicle_id="v"), assigned(2), assigned(3, S2, 2))
    assert job.request["vehicle_id"] == "v"
    assert job.decision == assigned(3, S2, 2).detail
    assert (job.attempt, job.reason) == (2, None)
    assert job_after(queued(), parked(3, "second"), parked(2, "first")).reason == "first"
    assert job_after(parked(2), replayed(4, 1, "again"), replayed(3, 1, "first")).reason == "first"
    assert job_after(parked(2), replayed(3), completed(4)).reason == "replayed"
    assert job_after(parked(2), replayed(3), parked(4, "still", replays=1)).reason == "still"


EVENT = st.one_of(
    st.just(queued(vehicle_id="v")),
    st.builds(assigned, st.integers(1, 6), st.sampled_from([S1, S2]), st.integers(1, 3)),
    st.builds(charging, st.integers(1, 6), st.sampled_from([S1, S2]), st.integers(1, 3)),
    st.builds(completed, st.integers(1, 6), st.sampled_from([S1, S2]), st.integers(1, 3)),
    st.builds(parked, st.integers(1, 6), st.sampled_from(["", "a", "b"])),
    st.builds(cancelled, st.integers(1, 6), st.integers(0, 2)),
    st.builds(replayed, st.integers(1, 6), st.integers(1, 2), st.sampled_from(["", "a", "b"])),
    st.builds(parked, st.integers(1, 6), st.just("again"), replays=st.integers(1, 2)),
    st.builds(assigned, st.integers(1, 6), st.just(S2), replays=st.integers(1, 2)),
    st.builds(
        booked,
        st.integers(1, 6),
        st.sampled_from([S1, S2]),
        st.integers(5, 7),
        reason=st.sampled_from(["", "a"]),
    ),
    st.builds(refused, st.integers(1, 6), substation=st.sampled_from(["", S2])),
)


@given(st.lists(EVENT, min_size=1, max_size=9), st.data())
def test_job_is_independent_of_event_order_and_repetition(
    events: list[Event], data: st.DataObject
) -> None:
    """A job is the same for any order of its events, with any of them read twice."""
    again = data.draw(st.lists(st.sampled_from(events), max_size=5))
    shuffled = data.draw(st.permutations(events + again))
    assert seen(job_after(*events)) == seen(job_after(*shuffled))


@given(
    st.sets(st.tuples(st.sampled_from([S1, S2]), st.integers(1, 20)), max_size=6), st.integers(1, 3)
)
def test_each_completion_beyond_the_first_is_a_duplicate(
    ends: set[tuple[str, int]], times: int
) -> None:
    """However often each completion is read, it counts once."""
    events = [completed(at, substation) for substation, at in ends] * times
    job = job_after(queued(), *events)
    assert job.duplicates == max(0, len(ends) - 1)


@given(st.lists(st.tuples(st.sampled_from([S1, S2]), st.integers(1, 9)), max_size=40))
def test_duplicates_of_a_job_are_counted_exactly_up_to_the_maximum(
    ends: list[tuple[str, int]],
) -> None:
    """They are, in any order, with any repetition, and after the job was packed and unpacked."""
    most = 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("api.jobs.job.MAX_FURTHER_COMPLETIONS", most)
        job = job_after(queued(), *(completed(at, substation) for substation, at in ends))
        assert job.duplicates == min(most, max(0, len(set(ends)) - 1))
        if ends:
            first_at, first_substation = min((at, substation) for substation, at in ends)
            assert (job.times[State.COMPLETED], job.substation) == (first_at, first_substation)
        assert unpack("j", pack(job)).further_completions == job.further_completions


def test_job_keeps_a_bounded_number_of_completions() -> None:
    """A substation may write any number of them: an api must still start and stay small."""
    job = job_after(queued())
    tracemalloc.start()
    try:
        for number in range(20_000):
            job.apply(State.COMPLETED, completed(number + 0.5))
        memory, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert job.duplicates == MAX_FURTHER_COMPLETIONS
    assert memory < 50_000
    assert job.times[State.COMPLETED] == 0.5


JOBS = st.integers(0, 30).map(lambda number: f"j{number}")
ANY = st.one_of(
    st.builds(queued, st.integers(1, 99), JOBS),
    st.builds(assigned, st.integers(1, 99), job=JOBS),
    st.builds(completed, st.integers(1, 99), job=JOBS),
    st.builds(parked, st.integers(1, 99), job=JOBS, replays=st.integers(0, 1)),
    st.builds(replayed, st.integers(1, 99), job=JOBS),
    st.builds(booked, st.integers(1, 99), job=JOBS),
    st.builds(refused, st.integers(1, 99), job=JOBS),
)


@given(st.lists(ANY, max_size=120), st.integers(1, 12))
def test_memory_is_bounded_and_the_counts_add_up(events: list[Event], most: int) -> None:
    """No more jobs are kept in full than allowed; counts by state and lookups match the jobs."""
    projection = Projection(most)
    for event in events:
        projection.apply(event)
        jobs = list(projection.after(None))
        assert projection.in_full <= most
        assert sum(job.status in ENDED for job in jobs) <= most
        assert +projection.by_status == Counter(job.status for job in jobs)
        assert all(projection.get(job.id) == job for job in jobs)
        assert [job.number for job in jobs] == sorted(job.number for job in jobs)


def test_projection_drops_the_jobs_that_ended_first() -> None:
    """A job that has not ended is never forgotten, and outlives all that have."""
    first = [queued(1, "a"), queued(2, "b"), queued(3, "c"), completed(4, job="c")]
    projection = after(*first, completed(5, job="b"), most=3)
    projection.apply(queued(6, "d"))
    assert [job.id for job in projection.after(None)] == ["a", "b", "d"]
    projection.apply(queued(7, "e"))
    assert [job.id for job in projection.after(None)] == ["a", "d", "e"]
    projection.apply(queued(8, "f"))
    assert [job.id for job in projection.after(None)] == ["a", "d", "e", "f"]


def test_projection_never_forgets_a_job_that_has_not_ended() -> None:
    """Jobs beyond the limit can still be read, listed, counted and updated."""
    most, number = 20, 3_000
    projection = Projection(most)
    for each in range(number):
        projection.apply(queued(each, f"j{each}", vehicle_id=f"v{each}"))
    assert projection.in_full == most
    assert projection.by_status == {State.QUEUED: number}
    assert [job.id for job in projection.after(None)] == [f"j{each}" for each in range(number)]
    assert [job.id for job in islice(projection.after("j7"), 2)] == ["j8", "j9"]
    oldest = projection.get("j0")
    assert oldest is not None
    assert (oldest.status, oldest.request["vehicle_id"]) == (State.QUEUED, "v0")
    for each in range(100):
        projection.apply(assigned(number + each, job=f"j{each}"))
    projection.apply(charging(2 * number, job="j5"))
    assert projection.in_full == most
    for status, ids in {State.ASSIGNED: 99, State.CHARGING: 1, State.QUEUED: number - 100}.items():
        assert projection.by_status[status] == ids
        assert len(list(projection.after(None, status))) == ids
    assert [job.id for job in projection.after(None, State.CHARGING, S1)] == ["j5"]
    assert list(projection.after(None, None, S2)) == []
    for each in range(number):
        projection.apply(completed(3 * number, job=f"j{each}"))
    assert +projection.by_status == {State.COMPLETED: most}
    assert len(list(projection.after(None))) == most


@given(st.lists(ANY, max_size=80), st.integers(1, 5), st.sampled_from([None, *State]))
def test_packed_job_is_shown_like_one_kept_in_full(
    events: list[Event], most: int, status: State | None
) -> None:
    """All but its decision, in a list and alone, and after later events.

    This does not hold for jobs that had ended, or whose first event was a session: they may have
    been forgotten.
    """
    small, large = Projection(most), Projection(1_000)
    first: dict[str, str] = {}
    for event in events:
        small.apply(event)
        large.apply(event)
        first.setdefault(event.job, event.kind)
        wanted = {
            job.id: packed_away(job)
            for job in large.after(None, status)
            if not job.ends and first[job.id] in (State.QUEUED, State.ASSIGNED, BOOKED)
        }
        found = {job.id: packed_away(job) for job in small.after(None, status)}
        assert wanted.items() <= found.items()
        assert [name for name in found if name in wanted] == list(wanted)
        for name, told in wanted.items():
            assert (job := small.get(name)) is not None
            assert packed_away(job) == told


def packed_away(job: Job) -> dict[str, Any]:
    """Return what the api shows of a job that may have been packed."""
    told: dict[str, Any] = {**answers.full_charge(job)}
    if job.queued is None:
        told["times"].pop(State.QUEUED, None)  # only the decision had this time
    # what only the decision tells is gone with it
    return told | {"decision": None, "details": {**told["details"], "loads": {}, "reason": None}}


def test_projection_drops_jobs_that_only_a_substation_reports() -> None:
    """A substation that invents sessions must not fill the memory: no api accepted these jobs."""
    projection = after(queued(1), *(charging(2, job=f"x{each}") for each in range(100)), most=10)
    assert len(list(projection.after(None))) == 11
    assert projection.by_status == {State.QUEUED: 1, State.CHARGING: 10}


def test_jobs_share_the_name_of_the_substation_that_charged_them() -> None:
    """Each event that is read has a text of its own; an api that starts keeps very many."""
    projection = Projection(10)
    sessions = [Event(State.CHARGING, 1.0, job, "substation1", 1) for job in ("a", "b")]
    for event in events.decode(events.encode(sessions)):
        projection.apply(event)
    one, other = (projection.get(job) for job in ("a", "b"))
    assert one is not None
    assert other is not None
    assert one.substation == "substation1"
    assert one.substation is other.substation


def test_packed_job_takes_a_fraction_of_the_memory() -> None:
    """Measured: 227 bytes with its id and indexes, instead of 948."""
    number = 4_000
    full, packed = (memory_of(number, most) for most in (number, 1))
    assert packed < 400 * number
    assert packed < full / 3


KEYED = "key-1"  # as of an Idempotency-Key


@given(st.lists(EVENT, min_size=1, max_size=9), st.lists(EVENT, max_size=3))
def test_retired_job_with_a_key_keeps_all_but_its_decision(
    before: list[Event], after_it: list[Event]
) -> None:
    """A job that no longer fits into memory is shown as before, and follows later events."""
    named = [replace(event, job=KEYED) for event in before + after_it]
    kept, whole = Projection(1), Projection(1)
    for event in named[: len(before)]:
        kept.apply(event)
    kept.apply(queued(9, "another"))
    for event in named:
        whole.apply(event)
        if event is named[len(before) - 1]:
            assert without_decision(kept) == without_decision(whole)
            job = kept.get(KEYED)
            assert job is not None
            assert job.decision is None
    for event in named[len(before) :]:
        kept.apply(event)
        kept.apply(queued(9, "another"))
    assert without_decision(kept) == without_decision(whole)
    assert +kept.by_status == Counter(job.status for job in kept.after(None))


def without_decision(projection: Projection) -> dict[str, Any]:
    """Return what the api shows of the job with a key, as far as it is kept."""
    job = projection.get(KEYED)
    assert job is not None
    told: dict[str, Any] = {**answers.full_charge(job)}
    if job.queued is None:
        told["times"].pop(State.QUEUED, None)  # only the decision had this time
    # what only the decision tells is gone with it
    return told | {"decision": None, "details": {**told["details"], "loads": {}, "reason": None}}


def test_retired_job_without_a_key_is_dropped() -> None:
    """Clients cannot ask for them again by a key, so keeping them would waste memory."""
    projection = after(queued(1), completed(2), queued(3, "b"), most=1)
    assert projection.get("j") is None


def test_retired_job_is_dropped_with_the_log() -> None:
    """Jobs are dropped by age and by size, as in the log."""
    projection = Projection(1, max_age=10, max_bytes=100)
    for at, job in enumerate(("key-1", "key-2", "key-3")):
        projection.apply(queued(at, job))
        projection.apply(completed(at, job=job))
        projection.read(40)
    assert all(projection.get(f"key-{number}") for number in (1, 2, 3))
    projection.read(50)
    assert [bool(projection.get(f"key-{number}")) for number in (1, 2, 3)] == [False, True, True]
    projection.apply(queued(11.5, "key-4"))
    assert [bool(projection.get(f"key-{number}")) for number in (1, 2, 3, 4)] == [
        False,
        False,
        True,
        True,
    ]


def test_projection_drops_a_job_with_two_ends_once() -> None:
    """Which end came first may become known late, but it is still one job."""
    first = [completed(8, job="a"), parked(7, job="a"), completed(9, job="b")]
    projection = after(*first, queued(1, "c"), queued(2, "d"), most=2)
    assert [job.id for job in projection.after(None)] == ["c", "d"]


def test_projection_keeps_a_job_that_was_replayed() -> None:
    """It is not forgotten because it ended before the replay, and not twice for ending twice."""
    first = [parked(1, job="a"), replayed(2, job="a"), parked(3, job="b"), queued(4, "c")]
    projection = after(*first, most=3)
    projection.apply(queued(5, "d"))
    assert [job.id for job in projection.after(None)] == ["a", "c", "d"]
    for event in (completed(6, job="a"), queued(7, "e"), queued(8, "f")):
        projection.apply(event)
    assert [job.id for job in projection.after(None)] == ["c", "d", "e", "f"]


@given(st.lists(ANY, max_size=80), st.integers(1, 7), st.integers(3, 40))
def test_pages_cover_all_jobs_exactly_once(events: list[Event], size: int, most: int) -> None:
    """Reading page by page, each after the last id of the one before, returns every job once."""
    projection = after(*events, most=most)
    found: list[Job] = []
    last: str | None = None
    while page := list(islice(projection.after(last), size)):
        found += page
        last = page[-1].id
    assert found == list(projection.after(None))
    assert len({job.id for job in found}) == len(found)


def test_page_after_an_unknown_job_raises() -> None:
    """A job that is not in the log has no position in the list."""
    with pytest.raises(KeyError):
        list(after(queued()).after("nobody"))


def test_latest_snapshot_of_the_substations_holds() -> None:
    """An older snapshot that arrives later changes nothing, nor does a marker."""
    projection = after(
        Event(SUBSTATIONS, 2, detail={"substations": [{"substation": "s2"}]}),
        Event(SUBSTATIONS, 1, detail={"substations": [{"substation": "s1"}]}),
        Event(MARKER, 3, "mark"),
    )
    assert projection.substations is not None
    assert projection.known_substations() == {"s2"}
    assert projection.get("mark") is None


def test_projection_takes_snapshots_after_the_clock_was_set_back() -> None:
    """Else the substations would stand still until the clock has made up for it."""
    projection = Projection(max_jobs=100)
    for at, name in ((1_000, "s1"), (400, "s2"), (401, "s4")):
        snapshot = Event(SUBSTATIONS, at, detail={"substations": [{"substation": name}]})
        projection.apply(snapshot, at + 0.01)
    assert projection.known_substations() == {"s4"}
    projection.apply(Event(SUBSTATIONS, 400, detail={"substations": [{"substation": "s5"}]}), 402)
    assert projection.known_substations() == {"s4"}


def test_projection_drops_jobs_that_ended_before_max_age() -> None:
    """An api that runs for weeks keeps no more than one that has just read the event log."""
    projection = Projection(max_jobs=100, max_age=10)
    for number in range(5):
        projection.apply(Event(State.QUEUED, float(number), job=f"j{number}"))
        projection.apply(Event(State.COMPLETED, float(number), job=f"j{number}", substation="s1"))
    projection.apply(Event(State.QUEUED, 12.5, job="new"))
    assert [job.id for job in projection.after(None)] == ["j3", "j4", "new"]
    assert projection.by_status[State.COMPLETED] == 2


def test_projection_treats_future_times_as_now() -> None:
    """Later dates count as now: no job is forgotten because of them, and no snapshot stays."""
    projection = Projection(max_jobs=100, max_age=10)
    for name in ("j1", "j2"):
        projection.apply(Event(State.QUEUED, 1, job=name), 1)
        projection.apply(Event(State.COMPLETED, 2, job=name, substation="s1"), 2)
    projection.apply(Event(SUBSTATIONS, 3600, detail={"substations": [{"substation": "s1"}]}), 3)
    projection.apply(Event(State.QUEUED, 3600, job="j3"), 3)
    projection.apply(Event(SUBSTATIONS, 4, detail={"substations": [{"substation": "s2"}]}), 4)
    assert [job.id for job in projection.after(None)] == ["j1", "j2", "j3"]
    assert projection.known_substations() == {"s2"}


def test_projection_keeps_a_job_whose_end_is_dated_before_its_request() -> None:
    """A job is not older than its request, whatever time the substation gives for its end."""
    projection = Projection(max_jobs=100, max_age=10)
    projection.apply(Event(State.QUEUED, 1000, job="j1"))
    projection.apply(Event(State.COMPLETED, 0, job="j1", substation="s1"))
    projection.apply(Event(State.QUEUED, 1001, job="j2"))
    assert [job.id for job in projection.after(None)] == ["j1", "j2"]


@pytest.mark.parametrize("rows", [None, 1, [1], [{}], [{"substation": 1}]])
def test_projection_ignores_an_invalid_snapshot(rows: object) -> None:
    """Others write to the event log, too: the last valid snapshot still holds."""
    good = Event(SUBSTATIONS, 1, detail={"substations": [{"substation": "s1"}]})
    projection = after(good, Event(SUBSTATIONS, 2, detail={"substations": rows}))
    assert projection.known_substations() == {"s1"}


def test_job_keeps_what_it_was_told_last_of_its_start() -> None:
    """A promise may be replaced; it is still known once the job has begun or ended."""
    job = job_after(queued(), booked(3, S2, 20, reason="s1 was drained"), booked(2, S1, 10))
    assert job.promise is not None
    assert (job.promise.substation, job.promise.start) == (S2, 20)
    assert job.promise.reason == "s1 was drained"
    job = job_after(queued(), booked(2), assigned(3), charging(9), completed(12))
    assert (job.status, job.promise is not None) == (State.COMPLETED, True)
    told = job_after(queued(), booked(2), refused(3, substation="")).booked
    assert told is not None
    assert (told.granted, told.substation) == (False, "")
    assert job_after(queued(), booked(2), refused(3)).promise is None


def test_projection_ignores_a_promise_that_is_malformed() -> None:
    """It names no job, and replaces none that is right."""
    wrong = replace(booked(3), detail={"granted": True, "start": "soon"})
    assert after(wrong).get("j") is None
    job = job_after(queued(), booked(2, start=7), wrong)
    assert (job.promise is not None, job.may_begin_at) == (True, 7)


def test_projection_never_forgets_a_job_that_is_promised_a_start() -> None:
    """Also if the log has lost its request: only the dispatcher writes of promises."""
    projection = after(booked(1), *(charging(2, job=f"x{each}") for each in range(9)), most=3)
    assert projection.in_full == 3
    job = projection.get("j")
    assert job is not None
    assert job.promise is not None


@pytest.mark.parametrize(
    ("found", "since"),
    [
        ([queued(2)], 2),
        ([queued(2, earliest_start=7)], 7),
        ([queued(2, earliest_start=1)], 2),
        ([queued(2, earliest_start="soon")], 2),
        ([queued(2, earliest_start=7), booked(3, start=8)], 8),
        ([queued(2, earliest_start=7), refused(3)], 7),
        ([queued(2, earliest_start=5), parked(6), replayed(9)], 9),
        ([queued(2, earliest_start=12), parked(6), replayed(9)], 12),
        ([booked(3, start=8)], None),
    ],
)
def test_job_waits_from_when_it_may_begin(found: list[Event], since: float | None) -> None:
    """The time before is no wait; also after it was packed, and read from the log."""
    job = job_after(*found)
    assert job.waits_since == since
    assert unpack("j", pack(job)).waits_since == since
    assert job_after(*events.decode(events.encode(found))).waits_since == since
