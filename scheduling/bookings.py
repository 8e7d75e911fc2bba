"""Starts that are promised to jobs, and what they leave to others. Pure.

A booking is a connector of a substation, and the power, from a start to an end. A session is begun
only where, at each moment until its end, all bookings still find a connector and power. So a
promise is kept as long as sessions end when they are expected to, and nothing breaks.

Of a session it is known when it ends if its substation has said so, or its request how much energy
it needs. Any other is taken to last for ``UNKNOWN_SESSIONS`` mean sessions. Where the power of a
session is not known, it counts until all sessions there have ended.

Times are Unix seconds, whoever asks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import ceil, inf
from typing import Final, NamedTuple

from msgspec.structs import replace

from grid.kinds import Booking
from grid.messages import MAX_UNIX_TIME
from scheduling.connectors import OVERDUE_SHARE
from scheduling.order import Requirements
from scheduling.power_limits import TOLERANCE, usual_seconds
from scheduling.substation_state import SubstationState

UNKNOWN_SESSIONS: Final = 2.0


class SessionEnd(NamedTuple):
    """When a session is expected to end, and what it draws in kW; 0 where that is not known."""

    at: float
    power_kw: float


class Offer(NamedTuple):
    """The earliest start there is for a job, and whether it is one that the job can use."""

    substation: str
    start: float
    end: float
    fits: bool


class Room:
    """What one substation has left, at each time to come.

    Args:
        state: What is known of it now.
        bookings: Those there.
        sessions: When sessions and jobs in flight end, as far as that is known.
        clock: The time.
    """

    def __init__(
        self,
        state: SubstationState,
        bookings: Iterable[Booking],
        sessions: Iterable[SessionEnd],
        clock: float,
    ) -> None:
        self._state = state
        mean = usual_seconds(state.session_seconds)
        self._overdue_end = clock + OVERDUE_SHARE * mean
        self._unknown_seconds = UNKNOWN_SESSIONS * mean
        self._unknown_end = clock + self._unknown_seconds
        self._clock = clock
        self._ended = _Steps()  # the sessions
        self._begun, self._over = _Steps(), _Steps()  # the bookings
        for session in sessions:
            self.add_session(session)
        for booking in bookings:
            self.add_booking(booking)

    def add_session(self, session: SessionEnd) -> None:
        """Count a session, or a job in flight."""
        end = session.at if session.at > self._clock else self._overdue_end
        self._ended.add(end, session.power_kw)

    def add_booking(self, booking: Booking) -> None:
        """Count a booking."""
        self._begun.add(booking.start, booking.request.power_kw)
        self._over.add(booking.end, booking.request.power_kw)

    @property
    def promised(self) -> tuple[int, float]:
        """Return how many bookings there are, and when the first begins."""
        first = self._begun.between(-inf, inf)[:1]
        return len(self._begun), first[0] if first else inf

    def length(self, seconds: float) -> float:
        """Return how long a session takes that charges for so long; 0 where nobody said."""
        return seconds or self._unknown_seconds

    def fits(self, power_kw: float, start: float, end: float) -> bool:
        """Return whether a session of that power leaves all bookings what they need."""
        return self._first_full(power_kw, start, end) is None

    def fits_alone(self, power_kw: float, start: float, end: float) -> bool:
        """Return whether it would if no session were in progress now."""
        for at in self._changes(start, end):
            most_kw = self._state.most_kw(at)
            drawn_kw = self._state.background_kw + self._booked_kw(at) + power_kw
            if most_kw is not None and drawn_kw > most_kw * TOLERANCE:
                return False
            if self._booked(at) + 1 > self._state.places:
                return False
        return True

    def first_start(self, power_kw: float, earliest: float, seconds: float) -> float | None:
        """Return the first time from ``earliest`` at which a session fits; None if none does."""
        length, full_at = self.length(seconds), -inf
        for start in self._openings(earliest):
            if start <= full_at:
                continue  # it would last until then as well
            found = self._first_full(power_kw, start, start + length)
            if found is None:
                return start
            full_at = found
        return None

    def share_taken(self, at: float) -> float:
        """Return the share of the connectors that are taken at a time."""
        places = self._state.places
        return self._taken(at) / places if places else inf

    def _first_full(self, power_kw: float, start: float, end: float) -> float | None:
        """Return when a session of that power first takes what is booked; None if never."""
        times = self._changes(start, end)
        return next((at for at in times if not self._fits_at(at, power_kw)), None)

    def _fits_at(self, at: float, power_kw: float) -> bool:
        if self._taken(at) + 1 > self._state.places:
            return False
        most_kw = self._state.most_kw(at)
        return most_kw is None or self._drawn_kw(at) + power_kw <= most_kw * TOLERANCE

    def _taken(self, at: float) -> int:
        """Return how many connectors sessions and bookings take at a time."""
        known = len(self._ended) - self._ended.count(at)
        unknown = self._unknown if self._unknown_end > at else 0
        return known + unknown + self._booked(at)

    def _booked(self, at: float) -> int:
        """Return how many connectors bookings take at a time."""
        return self._begun.count(at) - self._over.count(at)

    def _booked_kw(self, at: float) -> float:
        """Return what the jobs of bookings draw at a time."""
        return self._begun.power_kw(at) - self._over.power_kw(at)

    def _drawn_kw(self, at: float) -> float:
        """Return what sessions, bookings and other consumers draw at a time."""
        state = self._state
        booked_kw = self._booked_kw(at)
        all_ended = self._ended.count(at) == len(self._ended)
        if all_ended and (not self._unknown or self._unknown_end <= at):
            return state.background_kw + booked_kw
        return max(state.background_kw, state.power_kw - self._ended.power_kw(at)) + booked_kw

    @property
    def _unknown(self) -> int:
        """Return of how many sessions and jobs in flight it is not known when they end."""
        return max(0, round(self._state.load) - len(self._ended))

    def _changes(self, start: float, end: float) -> Iterator[float]:
        """Yield the start, and when more is taken, or less is allowed, until the end."""
        yield start
        yield from self._begun.between(start, end)
        if (limits := self._state.power_limits) is not None:
            yield from (each.start for each in limits.steps if start < each.start < end)

    def _openings(self, earliest: float) -> Iterator[float]:
        """Yield ``earliest``, and all times after it at which there may be more left.

        Those are whole seconds: a client that asks for one writes it as it was read.
        """
        yield earliest
        times = {*self._ended.between(earliest, inf), *self._over.between(earliest, inf)}
        times.add(self._unknown_end)
        if (limits := self._state.power_limits) is not None:
            times.update(each.start for each in limits.steps)
        yield from sorted({float(ceil(each)) for each in times if each > earliest})


class _Steps:
    """Times in their order, and the power that each stands for."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._powers: list[float] = []
        self._sums: list[float] | None = None  # of the powers up to each; made when asked for

    def __len__(self) -> int:
        return len(self._times)

    def add(self, at: float, power_kw: float) -> None:
        place = bisect_right(self._times, at)
        self._times.insert(place, at)
        self._powers.insert(place, power_kw)
        self._sums = None

    def count(self, at: float) -> int:
        """Return how many are not after a time."""
        return bisect_right(self._times, at)

    def power_kw(self, at: float) -> float:
        """Return the power of those that are not after a time."""
        if self._sums is None:
            self._sums = [0.0, *accumulate(self._powers)]
        return self._sums[self.count(at)]

    def between(self, start: float, end: float) -> Sequence[float]:
        """Return the times after ``start`` and before ``end``."""
        return self._times[bisect_right(self._times, start) : bisect_left(self._times, end)]


class Bookings:
    """The bookings of all substations, as of one moment.

    Args:
        bookings: All that have not begun.
        sessions: When sessions and jobs in flight end, by substation, as far as that is known.
        states: The substations there are.
        clock: The time.
    """

    def __init__(
        self,
        bookings: Iterable[Booking],
        sessions: Mapping[str, Sequence[SessionEnd]],
        states: Mapping[str, SubstationState],
        clock: float,
    ) -> None:
        self._states, self._clock, self._sessions = states, clock, sessions
        self._booked: dict[str, Room] = {}  # the substations where anything is booked
        self._others: dict[str, Room] = {}  # those of the others that were asked for
        for each in bookings:
            self.add(each)

    def add(self, booking: Booking) -> None:
        """Count a booking; one at a substation that left matters to nobody.

        One that is late begins now.
        """
        name, late = booking.substation, self._clock - booking.start
        if late > 0:
            booking = replace(booking, start=self._clock, end=booking.end + late)
        if name in self._states:
            room = self._booked[name] = self._room(name)
            self._others.pop(name, None)
            room.add_booking(booking)

    def promised_at(self, substation: str) -> tuple[int, float]:
        """Return how many starts are promised at a substation, and when the first is."""
        room = self._booked.get(substation)
        return (0, inf) if room is None else room.promised

    def closed_to(
        self, power_kw: float, seconds: float, *, ahead: bool = False, alone: bool = False
    ) -> list[str]:
        """Return the substations where a session that begins now would break a promise.

        Args:
            power_kw: What it draws.
            seconds: How long it charges; 0 where nobody said.
            ahead: It does not begin at once, but when a connector becomes free.
            alone: The sessions in progress do not count: it waits until they end.
        """
        closed = []
        for name, room in self._booked.items():
            length = room.length(seconds)
            if ahead:  # one that is dispatched ahead waits for a session at most
                length += room.length(0.0)
            fits = room.fits_alone if alone else room.fits
            if not fits(power_kw, self._clock, self._clock + length):
                closed.append(name)
        return closed

    def on_dispatched(self, substation: str, power_kw: float, seconds: float) -> None:
        """Count a job that was dispatched since."""
        room = self._booked.get(substation) or self._others.get(substation)
        if seconds and room is not None:
            room.add_session(SessionEnd(self._clock + seconds, power_kw))

    def offer(self, needs: Requirements, substations: Collection[str]) -> Offer | None:
        """Return the earliest start for a job at one of these substations; None if it has none.

        Of several, that at the least taken one. A job that leaves can use each start by which it is
        done in time, and one that names its earliest start, but no departure, that one alone.
        """
        earliest = max(self._clock, needs.earliest_start)
        best: tuple[float, float, str, Room] | None = None
        for name in substations:
            if needs.allowed and name not in needs.allowed:
                continue
            room = self._room(name)
            start = room.first_start(needs.power_kw, earliest, needs.seconds)
            if start is None or start + room.length(needs.seconds) > MAX_UNIX_TIME:
                continue
            found = start, room.share_taken(start), name, room
            if best is None or found[:3] < best[:3]:
                best = found
        if best is None:
            return None
        start, _, name, room = best
        return Offer(
            name, start, start + room.length(needs.seconds), _can_use(needs, start, earliest)
        )

    def _room(self, name: str) -> Room:
        room = self._booked.get(name) or self._others.get(name)
        if room is None:
            sessions = self._sessions.get(name, ())
            room = self._others[name] = Room(self._states[name], (), sessions, self._clock)
        return room


def _can_use(needs: Requirements, start: float, earliest: float) -> bool:
    """Return whether a job can use a start, of those from ``earliest`` on."""
    if start >= needs.expires_at:
        return False
    if needs.departs_at < inf:
        return start <= needs.latest_start
    return needs.earliest_start == -inf or start == earliest
