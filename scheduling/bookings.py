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

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

from grid.kinds import Booking
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


@dataclass(slots=True)
class Room:
    """What one substation has left, at each time to come.

    Args:
        state: What is known of it now.
        bookings: Those there, with the power of each, in kW.
        sessions: When sessions and jobs in flight end, as far as that is known.
        clock: The time.
    """

    state: SubstationState
    bookings: Sequence[tuple[Booking, float]]
    sessions: list[SessionEnd]
    clock: float
    _overdue_end: float = field(init=False)
    _unknown_end: float = field(init=False)

    def __post_init__(self) -> None:
        mean = usual_seconds(self.state.session_seconds)
        self._overdue_end = self.clock + OVERDUE_SHARE * mean
        self._unknown_end = self.clock + UNKNOWN_SESSIONS * mean

    def length(self, seconds: float) -> float:
        """Return how long a session takes that charges for so long; 0 where nobody said."""
        return seconds or UNKNOWN_SESSIONS * usual_seconds(self.state.session_seconds)

    def fits(self, power_kw: float, start: float, end: float) -> bool:
        """Return whether a session of that power leaves all bookings what they need."""
        return all(self._fits_at(at, power_kw) for at in self._changes(start, end))

    def first_start(self, power_kw: float, earliest: float, seconds: float) -> float | None:
        """Return the first time from ``earliest`` at which a session fits; None if none does."""
        length = self.length(seconds)
        for start in self._openings(earliest):
            if self.fits(power_kw, start, start + length):
                return start
        return None

    def share_taken(self, at: float) -> float:
        """Return the share of the connectors that are taken at a time."""
        return self._taken(at) / self.state.places if self.state.places else inf

    def _fits_at(self, at: float, power_kw: float) -> bool:
        if self._taken(at) + 1 > self.state.places:
            return False
        most_kw = self.state.most_kw(at)
        return most_kw is None or self._drawn_kw(at) + power_kw <= most_kw * TOLERANCE

    def _taken(self, at: float) -> int:
        """Return how many connectors sessions and bookings take at a time."""
        known = sum(self._end(each) > at for each in self.sessions)
        unknown = self._unknown if self._unknown_end > at else 0
        return known + unknown + sum(each.start <= at < each.end for each, _ in self.bookings)

    def _drawn_kw(self, at: float) -> float:
        """Return what sessions, bookings and other consumers draw at a time."""
        state = self.state
        booked_kw = sum(kw for each, kw in self.bookings if each.start <= at < each.end)
        ended = [each for each in self.sessions if self._end(each) <= at]
        if len(ended) == len(self.sessions) and (not self._unknown or self._unknown_end <= at):
            return state.background_kw + booked_kw
        ended_kw = sum(each.power_kw for each in ended)
        return max(state.background_kw, state.power_kw - ended_kw) + booked_kw

    @property
    def _unknown(self) -> int:
        """Return of how many sessions and jobs in flight it is not known when they end."""
        return max(0, round(self.state.load) - len(self.sessions))

    def _end(self, session: SessionEnd) -> float:
        return session.at if session.at > self.clock else self._overdue_end

    def _changes(self, start: float, end: float) -> Iterator[float]:
        """Yield the start, and when more is taken, or less is allowed, until the end."""
        yield start
        for each, _ in self.bookings:
            if start < each.start < end:
                yield each.start
        limits = self.state.power_limits
        for step in () if limits is None else limits.steps:
            if start < step.start < end:
                yield step.start

    def _openings(self, earliest: float) -> list[float]:
        """Return ``earliest``, and all times after it at which there may be more left."""
        times = [self._end(each) for each in self.sessions]
        times += [each.end for each, _ in self.bookings]
        times.append(self._unknown_end)
        if self.state.power_limits is not None:
            times += [each.start for each in self.state.power_limits.steps]
        return [earliest, *sorted({each for each in times if each > earliest})]


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
        booked: dict[str, list[tuple[Booking, float]]] = {}
        for each in bookings:
            booked.setdefault(each.substation, []).append((each, each.request.power_kw))
        # those that may refuse somebody
        self._booked = {name: self._room(name, found) for name, found in booked.items()
                        if name in states}  # fmt: skip

    def closed_to(self, power_kw: float, seconds: float, *, ahead: bool = False) -> list[str]:
        """Return the substations where a session that begins now would break a promise.

        Args:
            power_kw: What it draws.
            seconds: How long it charges; 0 where nobody said.
            ahead: It does not begin at once, but when a connector becomes free.
        """
        closed = []
        for name, room in self._booked.items():
            length = room.length(seconds)
            if ahead:  # one that is dispatched ahead waits for a session at most
                length += room.length(0.0)
            if not room.fits(power_kw, self._clock, self._clock + length):
                closed.append(name)
        return closed

    def on_dispatched(self, substation: str, power_kw: float, seconds: float) -> None:
        """Count a job that was dispatched since."""
        if seconds and (room := self._booked.get(substation)) is not None:
            room.sessions.append(SessionEnd(self._clock + seconds, power_kw))

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
            room = self._booked.get(name) or self._room(name, [])
            start = room.first_start(needs.power_kw, earliest, needs.seconds)
            if start is None:
                continue
            found = start, room.share_taken(start), name, room
            if best is None or found[:3] < best[:3]:
                best = found
        if best is None:
            return None
        start, _, name, room = best
        return Offer(
            name, start, start + room.length(needs.seconds), start <= _latest(needs, earliest)
        )

    def _room(self, name: str, booked: Sequence[tuple[Booking, float]]) -> Room:
        return Room(self._states[name], booked, list(self._sessions.get(name, ())), self._clock)


def _latest(needs: Requirements, earliest: float) -> float:
    """Return the latest start that a job can use."""
    if needs.departs_at < inf:
        return needs.latest_start
    return inf if needs.earliest_start == -inf else earliest
