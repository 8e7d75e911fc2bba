"""Rates, waits and loads, second by second."""

from __future__ import annotations

from typing import Any

from api.jobs.figures import HISTORY_SECONDS, Figures
from api.jobs.projection import Projection
from grid import kinds
from grid.events import Event, State
from grid.messages import ChargeRequest
from tests.api.harness import AT, assigned


class Watched:
    """Figures of jobs that are applied to a projection."""

    def __init__(self) -> None:
        self.projection = Projection(1_000)
        self.figures = Figures()
        self.at = AT

    def apply(self, *found: Event) -> None:
        """Apply events."""
        for event in found:
            applied = self.projection.apply(event)
            assert applied is not None
            self.figures.apply(applied)

    def end_second(self, *rows: dict[str, Any]) -> None:
        """End a second."""
        self.at += 1
        self.figures.end_second(self.at, rows)

    def energy(self, at: float) -> dict[str, float]:
        """Return what each substation has delivered on the day of ``at``, in kWh."""
        return self.projection.stats.energy(at)


def queued(job: str, at: float = AT) -> Event:
    """Return the event of a request."""
    return kinds.queued(ChargeRequest(id=job, requested_at=at))


def test_figures_count_what_waits_and_how_long() -> None:
    """The oldest is the one that has waited longest; a decision or an end takes it out."""
    watched = Watched()
    watched.apply(queued("j1"), queued("j2", AT + 5), queued("j3", AT + 6))
    assert (watched.figures.waiting, watched.figures.oldest_at) == (3, AT)
    watched.apply(assigned("j1"), Event(State.EXPIRED, AT + 7, "j3"))
    assert (watched.figures.waiting, watched.figures.oldest_at) == (1, AT + 5)
    watched.apply(assigned("j2"))
    assert (watched.figures.waiting, watched.figures.oldest_at) == (0, None)


def test_figures_begin_with_what_waits_already() -> None:
    watched = Watched()
    watched.projection.apply(queued("j1"))
    watched.figures.begin(watched.projection.after(None, State.QUEUED), AT)
    assert (watched.figures.waiting, watched.figures.oldest_at) == (1, AT)


def test_figures_begin_anew_where_jobs_were_accepted_before_the_log_was_read() -> None:
    """The oldest of all is the first, and none stays that was sent before the log was read."""
    watched = Watched()
    watched.apply(queued("new", AT + 60), queued("sent", AT + 61))
    for event in (queued("old"), assigned("sent")):
        watched.projection.apply(event)
    watched.figures.begin(watched.projection.after(None, State.QUEUED), AT)
    assert (watched.figures.waiting, watched.figures.oldest_at) == (2, AT)


def test_figures_count_a_replayed_job_from_its_replay() -> None:
    """While it was parked it waited for an operator; also if the log has lost its request."""
    replay = Event(State.QUEUED, AT + 7_200, "j1", detail={"replays": 1})
    parked = Event(State.PARKED, AT + 1, "j1", reason="no such substation: s9")
    for events in ([queued("j1"), parked, replay], [replay]):
        live, restarted = Watched(), Watched()
        for event in events:
            live.apply(event)
            restarted.projection.apply(event)
        restarted.figures.begin(restarted.projection.after(None, State.QUEUED), AT)
        for watched in (live, restarted):
            assert (watched.figures.waiting, watched.figures.oldest_at) == (1, AT + 7_200)
    sent = Event(State.ASSIGNED, AT + 7_201, "j1", "s1", 2, detail={"replays": 1})
    live.apply(sent, Event(State.CHARGING, AT + 7_202, "j1", "s1"))
    live.end_second()
    assert live.figures.latency() == (2, 2)


def test_figures_count_a_job_whose_age_is_not_known_as_waiting() -> None:
    """It has no age rather than that of the year 1970, and hides that of no other."""
    watched = Watched()
    lost = Event(State.PARKED, AT, "lost")
    newer = Event(State.CHARGING, AT, "lost", "s1", detail={"replays": 1})
    for event in (lost, newer, queued("known", AT + 5)):
        watched.projection.apply(event)
    waiting = list(watched.projection.after(None))
    watched.figures.begin(waiting[:1], AT)
    assert (watched.figures.waiting, watched.figures.oldest_at) == (1, None)
    watched.figures.begin(waiting, AT)
    assert (watched.figures.waiting, watched.figures.oldest_at) == (2, AT + 5)


def booked(job: str, at: float, start: float) -> Event:
    """Return the event of a promised start."""
    booking = kinds.Booking(ChargeRequest(job, AT, reserve=True), "s1", start, start + 60)
    return kinds.booked(booking, at)


def test_figures_count_a_job_as_waiting_from_when_it_may_begin() -> None:
    """One that is to begin tomorrow raises no alert, and hides no other; nor after a restart."""
    later = kinds.queued(ChargeRequest("later", AT, earliest_start=AT + 3))
    reserves = kinds.queued(ChargeRequest("reserves", AT, reserve=True))
    found = [later, reserves, booked("reserves", AT, AT + 2), queued("now", AT + 1)]
    live, restarted = Watched(), Watched()
    live.apply(*found)
    for event in found:
        restarted.projection.apply(event)
    restarted.figures.begin(restarted.projection.after(None, State.QUEUED), AT + 1)
    for watched in (live, restarted):
        figures = watched.figures
        assert (figures.waiting, figures.oldest_at) == (1, AT + 1)
        watched.end_second()
        assert figures.waiting == 1
        watched.end_second()
        assert (figures.waiting, figures.oldest_at) == (2, AT + 1)
        watched.apply(assigned("now"))
        assert (figures.waiting, figures.oldest_at) == (1, AT + 2)
        watched.apply(booked("reserves", AT + 2, AT + 9))  # its start was put off
        assert (figures.waiting, figures.oldest_at) == (0, None)
        watched.end_second()
        assert (figures.waiting, figures.oldest_at) == (1, AT + 3)
        watched.apply(assigned("later"), Event(State.EXPIRED, AT + 3, "reserves"))
        assert (figures.waiting, figures.oldest_at) == (0, None)


def test_figures_count_a_promise_that_is_read_before_the_request() -> None:
    """Events of several writers come in any order."""
    watched = Watched()
    request = kinds.queued(ChargeRequest("j1", AT, reserve=True))
    watched.apply(booked("j1", AT + 1, AT + 2), request)
    assert (watched.figures.waiting, watched.figures.oldest_at) == (0, None)
    for _ in range(2):
        watched.end_second()
    assert (watched.figures.waiting, watched.figures.oldest_at) == (1, AT + 2)
    watched.apply(Event(State.CHARGING, AT + 2.5, "j1", "s1"))
    watched.end_second()
    assert watched.figures.latency() == (0.5, 0.5)


def test_figures_count_each_completion_and_each_request_once() -> None:
    """A second delivery of a job is no second charge."""
    watched = Watched()
    done = Event(State.COMPLETED, AT + 3, "j1", "s1")
    watched.apply(queued("j1"), assigned("j1"), queued("j1"))
    watched.apply(Event(State.CHARGING, AT + 1.5, "j1", "s1"), done, done)
    watched.end_second({"substation": "s1", "load": 2, "utilisation": 0.5, "eligible": True})
    (sample,) = watched.figures.history
    assert (sample.accepted, sample.assigned, sample.completed) == (1, 1, 1)
    assert (sample.p50, sample.p95, sample.spread) == (1.5, 1.5, 0)
    assert (sample.names, sample.loads) == (("s1",), [2])
    assert watched.figures.last_minute() == {"s1": (1, 1)}
    assert watched.figures.rates() == {"accepted": 1, "assigned": 1, "completed": 1}


def test_figures_forget_after_a_minute_and_five() -> None:
    """Counts by substation last a minute, the history five."""
    watched = Watched()
    watched.apply(assigned("j1"))
    for _ in range(60):
        watched.end_second()
        assert watched.figures.last_minute() == {"s1": (1, 0)}
    watched.end_second()
    assert watched.figures.last_minute() == {}
    for _ in range(HISTORY_SECONDS):
        watched.end_second()
    assert len(watched.figures.history) == HISTORY_SECONDS
    assert watched.figures.latency() == (None, None)


def test_figures_add_the_energy_of_a_day() -> None:
    """By substation, each completion once, also of those before this start; a day in UTC."""
    watched = Watched()
    watched.apply(Event(State.CHARGING, AT + 1, "j2", "s1"))
    for job, at in [("j1", AT), ("j2", AT + 5), ("j3", AT - 1)]:
        event = Event(State.COMPLETED, at, job, "s1", energy_kwh=2.5)
        watched.apply(event, event)
    assert watched.energy(AT + 10) == {"s1": 5.0}
    watched.apply(Event(State.COMPLETED, AT + 6, "j4", "s2", energy_kwh=1))
    assert watched.energy(AT + 10) == {"s1": 5.0, "s2": 1.0}
    assert watched.energy(AT + 86_400) == {}


def test_energy_of_a_session_that_was_cancelled_counts_once() -> None:
    """As in /stats; also if it was ended before this start."""
    watched = Watched()
    cut = Event(State.CANCELLED, AT + 2, "j1", "s1", energy_kwh=2)
    watched.apply(queued("j1"), assigned("j1"), cut, cut)
    assert watched.energy(AT + 10) == {"s1": 2.0}


def test_spread_is_of_those_that_can_be_used() -> None:
    """Full ones count, ineligible ones do not; what is no figure is ignored."""
    watched = Watched()
    row = {"load": 1, "eligible": True, "reason": None}
    watched.end_second(
        {**row, "substation": "s1", "utilisation": 0.25},
        {**row, "substation": "s2", "utilisation": 1, "eligible": False, "reason": "full"},
        {**row, "substation": "s3", "utilisation": 0, "eligible": False, "reason": "away"},
        {"substation": "s4", "load": "many", "utilisation": None, "eligible": True},
    )
    assert watched.figures.history[-1].spread == 0.75
    assert watched.figures.history[-1].names == ("s1", "s2", "s3")
