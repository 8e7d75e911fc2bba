"""Starts that are promised to jobs: which can be, which are due, and which cannot be kept. Pure.

A promise is a booking in the event log (``scheduling.bookings``). So another dispatcher keeps it as
well, and a job is sent in time though its message waits behind many others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from math import inf
from typing import Final

from dispatcher.inputs import Moment
from dispatcher.jobs import Job, JobState
from dispatcher.open_jobs import OpenJobs
from grid.kinds import Booking
from scheduling.bookings import Bookings, Offer, SessionEnd
from scheduling.candidates import CandidateTable
from scheduling.order import Requirements, requirements

GRANTED, REFUSED, MOVED = "granted", "refused", "moved"  # what became of what a job asked for
LATE_SECONDS: Final = 30.0  # for so long a start may be late, before another is sought
RETRY_INTERVAL: Final = 1.0  # between two searches for other starts


class Promises:
    """The starts that are promised, and have not begun.

    Args:
        table: Leaves to each booking what it needs.
        open_jobs: Has the bookings, and when sessions end.
        charge_speed: How many seconds of charging pass in one.
    """

    def __init__(self, table: CandidateTable, open_jobs: OpenJobs, charge_speed: float) -> None:
        self._table = table
        self._open_jobs = open_jobs
        self._charge_speed = charge_speed
        self._look_at = 0.0

    def refresh(self, in_hand: Iterable[Job], clock: float) -> None:
        """Bring the table's bookings up to what the event log and the jobs in hand say."""
        for each in list(self._open_jobs.bookings):
            expires_at = each.request.expires_at
            if expires_at is not None and expires_at <= clock:
                self._open_jobs.unbook(each.request.id)  # it was not kept, and nobody waits for it
        bookings = self._open_jobs.bookings
        self._table.book(self._made(bookings, in_hand, clock) if bookings else None)

    def offer(
        self, needs: Requirements, in_hand: Iterable[Job], at: Moment, but: Booking | None = None
    ) -> Offer | None:
        """Return the earliest start for a job; None if no substation may be sent jobs just now.

        ``but`` is the start that it has, if it is to have another.
        """
        tracker, bookings = self._table.tracker, self._table.bookings
        known = tracker.substations.items()
        names = [name for name, state in known if tracker.ineligible_reason(state, at.now) is None]
        if bookings is None or but is not None:
            others = [each for each in self._open_jobs.bookings if each is not but]
            bookings = self._made(others, in_hand, at.clock)
        return bookings.offer(needs, names)

    def book(self, booking: Booking, clock: float) -> None:
        """Promise a start; one that the job had does not hold any more."""
        self._open_jobs.book(booking, clock)
        if self._table.bookings is not None:
            self._table.bookings.add(booking)

    def due(self, clock: float) -> list[Booking]:
        """Return the bookings that are to begin."""
        return [each for each in self._open_jobs.bookings if each.start <= clock]

    def pop_broken(self, now: float, clock: float) -> list[Booking]:
        """Return the bookings that cannot be kept: those long overdue, or at no place any more."""
        if now < self._look_at:
            return []
        self._look_at = now + RETRY_INTERVAL
        return [each for each in self._open_jobs.bookings if self._is_broken(each, clock)]

    def needs_of(self, booking: Booking) -> Requirements:
        """Return what the job of a booking needs."""
        return requirements(booking.request, self._charge_speed)

    def _is_broken(self, booking: Booking, clock: float) -> bool:
        state = self._table.tracker.substations.get(booking.substation)
        return state is None or state.drained or booking.start + LATE_SECONDS <= clock

    def _made(
        self, bookings: Collection[Booking], in_hand: Iterable[Job], clock: float
    ) -> Bookings:
        sessions = self._open_jobs.sessions()
        for job in in_hand:  # those on their way, which the open jobs do not know yet
            seconds = job.requirements.seconds
            if job.state is JobState.ASSIGNED and seconds:
                end = SessionEnd(job.assigned_at + seconds, job.requirements.power_kw)
                sessions.setdefault(job.substation, {})[job.id] = end
        ends = {name: list(each.values()) for name, each in sessions.items()}
        return Bookings(bookings, ends, self._table.tracker.substations, clock)


def promised(booking: Booking) -> str:
    """Return what is promised, in words."""
    return f"its start at {booking.substation} is promised for {_time(booking.start)}"


def refusal(needs: Requirements, nearest: Booking) -> str:
    """Return why no start is promised to a job, in words, and the nearest there is."""
    if needs.departs_at < inf:
        why = "from none it would be done at its departure"
    elif needs.earliest_start > -inf:
        why = f"every connector is taken at {_time(needs.earliest_start)}, or the power"
    else:
        why = "none is early enough for its max_wait_seconds"
    return (
        f"no start is promised to it: {why}; the nearest one is {_time(nearest.start)} at "
        f"{nearest.substation}"
    )


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
