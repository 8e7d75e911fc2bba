"""Starts that are promised to jobs: which can be, which are due, and which cannot be kept. Pure.

A promise is a booking in the event log (``scheduling.bookings``). So another dispatcher keeps it as
well, and a job is sent in time though its message waits behind many others.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable
from math import inf
from typing import Final

from dispatcher.inputs import Moment
from dispatcher.jobs import Job, JobState
from dispatcher.open_jobs import OpenJobs
from grid.kinds import Booking
from grid.messages import MAX_UNIX_TIME, ChargeRequest
from grid.times import to_the_second
from scheduling.bookings import Bookings, Offer, SessionEnd
from scheduling.candidates import CandidateTable
from scheduling.order import Requirements, requirements

# what became of the starts that jobs asked for
GRANTED, REFUSED, MOVED, WITHDRAWN = "granted", "refused", "moved", "withdrawn"
MOST_SHARE: Final = 0.5  # of the prefetch: the jobs of so many promises are held, beside others
WRITTEN_AGAIN_SECONDS: Final = 6 * 3600.0  # a promise may outlive what the event log keeps
LATE_SECONDS: Final = 30.0  # for so long a start may be late, before another is sought
RETRY_INTERVAL: Final = 1.0  # between two searches for other starts, or two attempts to tell of one


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
        self._write_at = WRITTEN_AGAIN_SECONDS
        self._knows_all = False  # the table's bookings know of the sessions of all substations

    def refresh(self, in_hand: Collection[Job], clock: float) -> None:
        """Bring the table's bookings up to what the event log and the jobs in hand say.

        A booking whose job has expired is forgotten.
        """
        for each in list(self._open_jobs.bookings):
            expires_at = each.request.expires_at
            if expires_at is not None and expires_at <= clock:
                self._open_jobs.unbook(each.request.id)  # it was not kept, and nobody waits for it
        bookings = self._open_jobs.bookings
        # only an offer asks for the other substations: thousands of sessions take milliseconds
        where = {each.substation for each in bookings}
        self._table.book(self._made(bookings, in_hand, clock, where) if bookings else None)
        self._knows_all = False

    def offer(self, needs: Requirements, in_hand: Collection[Job], at: Moment) -> Offer | None:
        """Return the earliest start for a job; None if no substation may be sent jobs just now."""
        if (bookings := self._table.bookings) is None or not self._knows_all:
            where = self._table.tracker.substations
            bookings = self._made(self._open_jobs.bookings, in_hand, at.clock, where)
            self._table.book(bookings)
            self._knows_all = True
        return bookings.offer(needs, self._eligible(at.now))

    def book(self, booking: Booking, at: float) -> None:
        """Promise a start ``at``, in Unix seconds; one that the job had does not hold any more."""
        self._open_jobs.book(booking, at)
        if self._table.bookings is not None:
            self._table.bookings.add(booking)

    def due(self, clock: float) -> list[Booking]:
        """Return the bookings that are to begin: none whose vehicle has left.

        One whose patience has just ended is begun all the same: the passes over the jobs come a
        moment after its start.
        """
        return [
            each for each in self._open_jobs.bookings
            if each.start <= clock and not _is_over(each.request, clock)
        ]  # fmt: skip

    def find_broken(
        self, in_hand: Collection[Job], at: Moment
    ) -> list[tuple[Booking, Booking | None]]:
        """Return the bookings that cannot be kept, each with another: the earliest start there is.

        They are long overdue, or their substation is drained, or has left. The other is None if
        there is none, or it would be of no use to the job.
        """
        if at.now < self._look_at:
            return []
        self._look_at = at.now + RETRY_INTERVAL
        kept: list[Booking] = []
        broken: list[Booking] = []
        for each in self._not_sent(self._open_jobs.bookings, in_hand):
            (broken if self._is_broken(each, at.clock) else kept).append(each)
        if not broken:
            return []
        names = self._eligible(at.now)
        left = self._made(kept, in_hand, at.clock, self._table.tracker.substations)
        found: list[tuple[Booking, Booking | None]] = []
        for each in sorted(broken, key=lambda booking: booking.start):
            needs = self.needs_of(each)
            offer = left.offer(needs, names)
            if offer is None or offer.start >= needs.expires_at:
                found.append((each, None))
                continue
            other = Booking(each.request, offer.substation, offer.start, offer.end)
            left.add(other)
            if not _is_at(each, offer):
                found.append((each, other))
        return found

    def due_to_rewrite(self, now: float) -> list[tuple[float, Booking]]:
        """Return all promises, and when they were made, if they are to be written again."""
        if now < self._write_at:
            return []
        self._write_at = now + WRITTEN_AGAIN_SECONDS
        return list(self._open_jobs.booked.values())

    def why_broken(self, booking: Booking) -> str:
        """Return why a promise cannot be kept, in words."""
        state = self._table.tracker.substations.get(booking.substation)
        why = "no connector was free in time, or the power"
        if state is None:
            why = "the substation has left"
        elif state.drained:
            why = "the substation is drained"
        return f"{moved_from(booking.substation)}: {why}"

    def needs_of(self, booking: Booking) -> Requirements:
        """Return what the job of a booking needs."""
        return requirements(booking.request, self._charge_speed)

    def _is_broken(self, booking: Booking, clock: float) -> bool:
        state = self._table.tracker.substations.get(booking.substation)
        return state is None or state.drained or booking.start + LATE_SECONDS <= clock

    def _eligible(self, now: float) -> list[str]:
        """Return the substations that may be sent jobs."""
        tracker = self._table.tracker
        known = tracker.substations.items()
        return [name for name, state in known if tracker.ineligible_reason(state, now) is None]

    def _not_sent(self, bookings: Iterable[Booking], in_hand: Iterable[Job]) -> list[Booking]:
        """Return the bookings without those whose jobs are on their way."""
        sent = {job.id for job in in_hand if job.state is JobState.ASSIGNED}
        return [each for each in bookings if each.request.id not in sent]

    def _made(
        self,
        bookings: Collection[Booking],
        in_hand: Collection[Job],
        clock: float,
        substations: Container[str],
    ) -> Bookings:
        """Return the bookings as of now, with the sessions at these substations."""
        sessions = self._open_jobs.sessions(substations)
        for job in in_hand:  # those on their way, which the open jobs do not know yet
            seconds = job.requirements.seconds
            if job.state is JobState.ASSIGNED and seconds:
                end = SessionEnd(job.assigned_at + seconds, job.requirements.power_kw)
                sessions.setdefault(job.substation, {})[job.id] = end
        ends = {name: list(each.values()) for name, each in sessions.items()}
        left = self._not_sent(bookings, in_hand)  # the others count as sessions
        return Bookings(left, ends, self._table.tracker.substations, clock)


def _is_over(request: ChargeRequest, clock: float) -> bool:
    departs_at, until = request.departure_time, request.waits_until
    has_left = departs_at is not None and departs_at <= clock
    return has_left or (until is not None and until + LATE_SECONDS <= clock)


def _is_at(booking: Booking, offer: Offer) -> bool:
    return (booking.substation, booking.start) == (offer.substation, offer.start)


def promised(booking: Booking) -> str:
    """Return what is promised, in words."""
    return f"its start at {booking.substation} is promised for {_time(booking.start)}"


def moved_from(substation: str) -> str:
    """Return why a job is promised another start than before, in words."""
    return f"its start at {substation} could not be kept"


def refusal(needs: Requirements, nearest: Booking, clock: float) -> str:
    """Return why no start is promised to a job now, in words, and the nearest there is."""
    if needs.departs_at < inf and nearest.start > needs.latest_start:
        why = "it would not be done at its departure"
    elif nearest.start >= needs.waits_until:
        why = "none is within its max_wait_seconds"
    else:
        wanted = _time(max(clock, needs.earliest_start))
        why = f"no connector with enough power is free at {wanted} for as long as it takes"
    return (
        f"no start is promised to it: {why}; the nearest one is {_time(nearest.start)} at "
        f"{nearest.substation}, until {_time(nearest.end)}"
    )


def too_many(most: int) -> str:
    """Return why no start is promised to a job though there may be one, in words."""
    return f"no start is promised to it: {most} are promised already, half of PREFETCH"


def _time(at: float) -> str:
    return to_the_second(min(at, MAX_UNIX_TIME))  # a session may end after all times
