"""Filtering: which substations a job may be sent to now. Pure: time is an argument.

The figures of all substations stand side by side in arrays, which follow from the load tracker and
are kept up to date as that changes. So a decision among a thousand substations is a few operations
on whole arrays, and what it went by can be read from them afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from math import inf, isnan, nan
from typing import Final, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from scheduling.bookings import Bookings
from scheduling.figures import FULL, Array, Figures, FigureTable, read_only
from scheduling.limit_table import LimitTable
from scheduling.load_tracker import LoadTracker
from scheduling.lowest import Lowest
from scheduling.power_limits import Step, usual_seconds
from scheduling.readings import LOAD
from scheduling.substation_state import SubstationState, share_of

Numbers: TypeAlias = NDArray[np.intp]

BRIEF_SECONDS: Final = 60.0  # a session: where they take longer, nothing is dispatched ahead
RENEW_SECONDS: Final = 0.05  # between two updates of what changes with time alone
LISTED: Final = 20  # candidates that the explanation of a decision names
KEPT_POWERS: Final = 4  # for so many it is kept what each substation's utilisation would be
MAX_PER_KW: Final = 1e300  # the share of a rating near 0 that a kilowatt is: more would overflow


class Candidates(Struct, frozen=True):
    """The substations that a job may be sent to now, at least one.

    Args:
        names: All substations, also those that are no candidates; the number of one is its place
            here, and in each array.
        after: The utilisation of each with the job placed there; infinite where it may not go.
        lowest: The lowest of these.
        figures: The arrays of all figures; ``scheduling.figures.Figures`` says what each is.
        blind: No gauge is current: the load tracker alone decides.
        ahead: No connector is free: the job is to be the next at one of them.
        power_kw: What the job draws.
        labels: The labels of each substation in the target file, by name.
    """

    names: Sequence[str]
    after: Array
    lowest: float
    figures: FigureTable
    blind: bool
    ahead: bool
    power_kw: float
    labels: Mapping[str, Mapping[str, str]]

    @property
    def numbers(self) -> Numbers:
        """Return the numbers of the candidates, in order."""
        return (self.after < inf).nonzero()[0]

    def name(self, number: int) -> str:
        """Return the name of a substation."""
        return self.names[number]


class CandidateTable:
    """The substations of a load tracker, as decisions see them.

    Args:
        tracker: What is known of each.
        period: Seconds between two scrapes of a substation.
        slow_start: Seconds in which a substation that comes back takes up its load.

    Attributes:
        names: The names of all substations, by number.
        versions: By number: another one whenever anything has changed of the substation.
    """

    def __init__(self, tracker: LoadTracker, period: float, slow_start: float) -> None:
        self.tracker = tracker
        self.reserved: str | None = None  # the substation that is reserved for one job
        self.labels: Mapping[str, Mapping[str, str]] = {}  # of the target file, by substation
        self.bookings: Bookings | None = None  # as of now; None: nothing is booked
        self._period = period
        self._slow_start = slow_start
        self._limits: LimitTable | None = None  # None: nobody has power limits
        self._limits_version = 0
        self._current_until = -inf  # then the first of the pages is too old
        self._passing: dict[str, SubstationState] = {}  # those whose figures change with time
        self._renew_at = -inf
        self._opened = True
        self._changes = count()
        self._largest: float | None = None  # of the rated powers; None: not known yet
        self._current_at = nan  # when was asked last whose page is current
        self._current_then: NDArray[np.bool_] | None = None
        self._begin()

    def __len__(self) -> int:
        """Return how many substations there are."""
        return len(self.tracker.substations)

    def candidates_for(
        self,
        power_kw: float,
        allowed: Sequence[str],
        now: float,
        *,
        ahead: bool = False,
        reserved_too: bool = False,
        seconds: float | None = None,
    ) -> Candidates | None:
        """Return the substations with capacity for a job, or None where none has.

        Args:
            power_kw: What the job draws.
            allowed: The only substations it may go to; empty where any will do.
            now: In the tracker's seconds.
            ahead: Where no connector is free, those count at which it would be the next.
            reserved_too: The substation that is reserved counts as well.
            seconds: How long it charges, 0 where nobody said, so that it crosses no lower limit to
                come, and leaves what is booked; None where only what holds now counts.
        """
        self.refresh(now)
        figures, current, sent_ahead = self._figures, self._current(now), False
        after = self._after(power_kw, current, ahead=False)
        if seconds is not None and self.plans_ahead:
            after = _without(after, self._closed(power_kw, seconds, now, ahead=False))
        found = self._filter(after, allowed, reserved_too=reserved_too)
        if found is None and ahead:
            after, sent_ahead = self._after(power_kw, current, ahead=True), True
            if seconds is not None and self.plans_ahead:
                after = _without(after, self._closed(power_kw, seconds, now, ahead=True))
            found = self._filter(after, allowed, reserved_too=reserved_too)
        if found is None:
            return None
        blind = current is _NONE_CURRENT
        return Candidates(self.names, *found, figures, blind, sent_ahead, power_kw, self.labels)

    @property
    def powered(self) -> bool:
        """Return whether any substation names its rated power, or has power limits."""
        return self._powered

    @property
    def plans_ahead(self) -> bool:
        """Return whether it matters how long a job charges: there are power limits, or bookings."""
        return self._limits is not None or self.bookings is not None

    def book(self, bookings: Bookings | None) -> None:
        """Leave to each booking what it needs, as of now; None if there is none."""
        # with others, and without any, there may be more capacity
        self._opened = self._opened or bookings is not None or self.bookings is not None
        self.bookings = bookings

    def has_capacity(
        self,
        now: float,
        *,
        power_kw: float = 0.0,
        ahead: bool = False,
        seconds: float | None = None,
    ) -> bool:
        """Return whether any substation has capacity for a job of that power."""
        return self.candidates_for(power_kw, (), now, ahead=ahead, seconds=seconds) is not None

    def free_connectors(self, now: float) -> tuple[float, float]:
        """Return how many connectors are free, and how many there are, where jobs may be sent."""
        self.refresh(now)
        figures, current = self._figures, self._current(now)
        share = figures.share if current is None else self._shares(current)
        load = figures.load[share < inf]
        connectors = (load + 1.0) / share[share < inf]
        return float(np.maximum(connectors - load, 0.0).sum()), float(connectors.sum())

    def take_opened(self, now: float) -> bool:
        """Return whether there may be more capacity than when this was last asked."""
        self.refresh(now)
        opened, self._opened = self._opened or now > self._current_until, False
        return opened

    def blind(self, now: float) -> bool:
        """Return whether no substation's gauges are current: then the tracker alone decides."""
        self.refresh(now)
        return self._current(now) is _NONE_CURRENT

    def largest_rating(self, allowed: Sequence[str], now: float) -> float:
        """Return the highest rated power in kW that a job may ever find; infinite if unknown."""
        self.refresh(now)
        if not allowed:
            if self._largest is None:
                self._largest = float(self._figures.rated.max(initial=-inf))
            return self._largest if self.names else inf
        rated = self._figures.rated
        rated = rated[[self._numbers[name] for name in allowed if name in self._numbers]]
        return float(rated.max()) if rated.size else inf

    def soonest(
        self,
        power_kw: float,
        allowed: Sequence[str],
        now: float,
        first: str | None = None,
        *,
        seconds: float = 0.0,
    ) -> str | None:
        """Return the substation with a free connector where the least power must become free.

        None where a job of that power would fit at none even beside what other consumers draw
        alone; ``first`` where that will do.
        """
        self.refresh(now)
        figures = self._figures
        free = self._open(figures.open, figures.most, self._current(now)) < inf
        good = free & (figures.background + power_kw * figures.per_kw <= FULL)
        if self._limits is not None:
            states = (self.tracker.substations[self.names[n]] for n in self._limits.numbers)
            alone_kw = np.array([each.background_kw + power_kw for each in states])
            good[self._limits.crossed(alone_kw, seconds, self._clock(now))] = False
        if self.bookings is not None:
            good[self._booked(power_kw, seconds, alone=True)] = False
        if allowed:
            good &= self._is_allowed(allowed)
        if first is not None and good[self._numbers.get(first, [])].any():
            return first
        if not good.any():
            return None
        return self.names[int(np.where(good, -figures.headroom, inf).argmin())]

    def least_utilised(self, most: int, allowed: Sequence[str], now: float) -> list[int]:
        """Return the numbers of the least utilised substations, at most so many.

        Those that are allowed come first. What may be sent nothing is behind all others.
        """
        self.refresh(now)
        current = self._current(now)
        if current is None and most <= LISTED:
            lowest = self._lowest.places()[:most]
        else:
            figures = self._figures
            share = figures.share if current is None else self._shares(current)
            after = np.maximum(share, figures.power)
            lowest = np.argsort(after, kind="stable")[:most].tolist()
        if not allowed:
            return lowest
        figures_of = self._figures.figures
        own = {self._numbers[name] for name in allowed if name in self._numbers}
        ordered = sorted(own, key=lambda n: (max(self.share(n, now), figures_of[n].power), n))
        return [*ordered, *(n for n in lowest if n not in own)][:most]

    # what is shown of one of them

    def figures_of(self, number: int) -> Figures:
        """Return the figures by which a substation was judged last."""
        return self._figures.figures[number]

    def crossed_limit(
        self, number: int, power_kw: float, seconds: float, now: float
    ) -> Step | None:
        """Return the first limit that a job would cross at a substation, or None."""
        state = self.tracker.substations[self.names[number]]
        if state.power_limits is None:
            return None
        clock, drawn_kw = self._clock(now), self.figures_of(number).power_kw + power_kw
        end = clock + (seconds or usual_seconds(state.session_seconds))
        return state.power_limits.first_below(drawn_kw, clock, end)

    def share(self, number: int, now: float) -> float:
        """Return (load + 1) ÷ places of a substation; infinite where it may be sent nothing."""
        figures = self._figures.figures[number]
        if now <= self._current_until:
            return figures.share
        if self._current(now) is _NONE_CURRENT:
            return figures.blind
        is_current = figures.asked_at >= now - self.tracker.stale_after
        return figures.share if is_current else inf

    def is_booked(self, number: int, power_kw: float, seconds: float) -> bool:
        """Return whether a job would take what is booked at a substation."""
        return self.bookings is not None and number in self._booked(power_kw, seconds)

    # how candidates are found

    def _closed(self, power_kw: float, seconds: float, now: float, *, ahead: bool) -> Numbers:
        """Return where a job would cross a lower limit to come, or take what is booked."""
        closed: Numbers = np.zeros(0, dtype=np.intp)
        if self._limits is not None:
            drawn_kw = self._figures.power_kw[self._limits.numbers] + power_kw
            closed = self._limits.crossed(drawn_kw, seconds, self._clock(now))
        if self.bookings is not None:
            booked = self._booked(power_kw, seconds, ahead=ahead)
            closed = np.concatenate((closed, np.array(booked, dtype=np.intp)))
        return closed

    def _booked(
        self, power_kw: float, seconds: float, *, ahead: bool = False, alone: bool = False
    ) -> list[int]:
        if self.bookings is None:
            return []
        closed = self.bookings.closed_to(power_kw, seconds, ahead=ahead, alone=alone)
        return [self._numbers[name] for name in closed if name in self._numbers]

    def _after(self, power_kw: float, current: NDArray[np.bool_] | None, *, ahead: bool) -> Array:
        """Return the utilisation after placing a job; infinite where there is no capacity.

        Of a few powers it is kept, and follows the figures.
        """
        if current is not None or not self._powered:
            return self._after_anew(power_kw, current, ahead=ahead)
        if (known := self._kept.get((power_kw, ahead))) is None:
            if len(self._kept) == KEPT_POWERS:
                self._kept.clear()
            after = self._after_anew(power_kw, current, ahead=ahead)
            known = self._kept[power_kw, ahead] = after, read_only(after)
        return known[1]

    def _after_anew(
        self, power_kw: float, current: NDArray[np.bool_] | None, *, ahead: bool
    ) -> Array:
        figures = self._figures
        if ahead:
            free = self._open(figures.open_ahead, figures.most_ahead, current)
        else:
            free = self._open(figures.open, figures.most, current)
        if not self._powered:
            return free
        power = figures.power + power_kw * figures.per_kw
        after = np.maximum(free, power)
        after[power > FULL] = inf
        return after

    def _filter(
        self, after: Array, allowed: Sequence[str], *, reserved_too: bool
    ) -> tuple[Array, float] | None:
        """Return the utilisation where a job may go, and the lowest; None if it fits nowhere."""
        if allowed:
            after = np.where(self._is_allowed(allowed), after, inf)
        reserved = None if self.reserved is None else self._numbers.get(self.reserved)
        if reserved is not None and not reserved_too:
            after = after.copy()
            after[reserved] = inf
        if not after.size:
            return None
        lowest = float(after[after.argmin()])  # which numpy finds in a third of the time of a min
        return (after, lowest) if lowest < inf else None

    def _open(self, opened: Array, most: Array, current: NDArray[np.bool_] | None) -> Array:
        """Return the share of each substation that may be sent a job, else infinite."""
        if current is None:
            return opened
        share = self._shares(current)
        return np.where(share <= most, share, inf)

    def _shares(self, current: NDArray[np.bool_]) -> Array:
        """Return the shares, by the tracker alone where no page is current."""
        figures = self._figures
        if current is _NONE_CURRENT:
            return figures.blind
        return np.where(current, figures.share, inf)

    def _current(self, now: float) -> NDArray[np.bool_] | None:
        """Return whose page is current; None where that of each is from which anything follows."""
        if now <= self._current_until:
            return None
        if now != self._current_at:  # it is asked of each substation that is shown
            self._current_at, self._current_then = now, self._current_anew(now)
        return self._current_then

    def _current_anew(self, now: float) -> NDArray[np.bool_] | None:
        figures = self._figures
        current = figures.asked_at >= now - self.tracker.stale_after
        if not current.any():
            return _NONE_CURRENT
        oldest = np.min(figures.asked_at, where=current, initial=inf)
        if current.all() or not np.any(~current & (figures.share < inf)):
            self._current_until = float(oldest) + self.tracker.stale_after
            return None
        return current

    def _clock(self, now: float) -> float:
        return now + self.tracker.clock_offset

    def _is_allowed(self, allowed: Sequence[str]) -> NDArray[np.bool_]:
        found = np.zeros(len(self.names), dtype=np.bool_)
        for name in allowed:
            if (number := self._numbers.get(name)) is not None:
                found[number] = True
        return found

    # how the figures are kept

    def refresh(self, now: float) -> None:
        """Bring the figures up to what the tracker knows."""
        if self._passing and now >= self._renew_at:
            self._renew_at = now + RENEW_SECONDS
            for state in self._passing.values():
                self.tracker.touch(state)
            self._passing.clear()
        if self._limits is not None:
            for number in self._limits.take_changed(self._clock(now)):
                if (known := self.tracker.substations.get(self.names[number])) is not None:
                    self.tracker.touch(known)
        if not self.tracker.changed:
            return
        changed = self.tracker.take_changed()
        if self._generation != self.tracker.generation:
            self._begin()
            changed = list(self.tracker.substations.values())
        elif self._limits_version != self.tracker.limits_version:
            self._begin_limits()
        for state in changed:
            self._write(self._numbers[state.substation], state, now)

    def _begin(self) -> None:
        self._generation = self.tracker.generation
        self.names = sorted(self.tracker.substations)
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._figures = FigureTable(len(self.names))
        self.versions = [next(self._changes)] * len(self.names)
        # of which revision of its state the figures of each last, but for its load; -1: of none
        self._revisions = [-1] * len(self.names)
        self._utilisation = np.full(len(self.names), inf)
        self._lowest = Lowest(self._utilisation, LISTED)
        self._powered = False
        self._kept: dict[tuple[float, bool], tuple[Array, Array]] = {}
        self._largest = None
        self._current_until = -inf
        self._current_at = nan
        self._begin_limits()

    def _begin_limits(self) -> None:
        states = self.tracker.substations
        found = {n: states[name].power_limits for n, name in enumerate(self.names)}
        limits = {number: each for number, each in found.items() if each is not None}
        self._limits = LimitTable(limits) if limits else None
        self._powered = self._powered or bool(limits)
        for number in limits:
            self._note_session(number)
        self._limits_version = self.tracker.limits_version
        self._opened = True

    def _note_session(self, number: int) -> None:
        if self._limits is not None:
            state = self.tracker.substations[self.names[number]]
            self._limits.note_session(number, state.session_seconds)

    def _write(self, number: int, state: SubstationState, now: float) -> None:
        self.versions[number] = next(self._changes)
        self._current_at = nan
        before = self._figures.figures[number]
        if state.revision == self._revisions[number]:
            figures = before.loaded(state.places, state.load, state.power_kw)
        else:
            figures = self._figures_anew(number, state, now)
        if figures == before:
            return
        self._figures.write(number, figures)
        for (power_kw, ahead), (after, _) in self._kept.items():
            after[number] = figures.after(power_kw, ahead=ahead)
        self._utilisation[number] = utilisation = max(figures.share, figures.power)
        self._lowest.update(number, utilisation)
        self._opened = self._opened or figures.opens(before)
        self._powered = self._powered or figures.rated < inf
        if figures.rated != before.rated:
            self._largest = None
        if isnan(figures.asked_at):  # it may have been the last that could be read
            self._current_until = -inf
        else:
            current_until = figures.asked_at + self.tracker.stale_after
            self._current_until = min(self._current_until, current_until)

    def _figures_anew(self, number: int, state: SubstationState, now: float) -> Figures:
        """Return the figures of a substation, and note whether all but its load will last."""
        if self._limits is not None:
            self._note_session(number)
        events_stale = state.events_stale(now)
        unsteady = state.health.unsteady(now, self._slow_start)
        passing = unsteady or state.events_due is not None
        if passing or (events_stale and state.session_seconds is not None):
            self._passing[state.substation] = state
        self._revisions[number] = -1 if passing or events_stale else state.revision
        blocked = self.tracker.blocked_reason(state, now) is not None
        # here, too: `_current` looks again only when the page of another grows too old
        unreadable = state.problem is not None or now - state.oldest > self.tracker.stale_after
        most, most_ahead = self._most(state, now, events_stale=events_stale, unsteady=unsteady)
        rated = most_kw = state.rated_power_kw
        if state.power_limits is not None:
            most_kw = state.most_kw(self._clock(now))
        lasting = Figures(
            share=inf if blocked or unreadable else 0.0,
            blind=inf if blocked or not state.consumers else 0.0,
            most=most,
            most_ahead=most_ahead,
            per_kw=min(1.0 / most_kw, MAX_PER_KW) if most_kw else 0.0,
            background=0.0 if most_kw is None else share_of(state.background_kw, most_kw),
            rated=inf if rated is None else rated,
            most_kw=inf if most_kw is None else most_kw,
            gauge=state.gauge(LOAD) or 0.0,
            asked_at=nan if state.problem is not None else state.oldest,
        )
        load = state.expected_load(now) if events_stale else state.load
        return lasting.loaded(state.places, load, state.power_kw)

    def _most(
        self, state: SubstationState, now: float, *, events_stale: bool, unsteady: bool
    ) -> tuple[float, float]:
        """Return the largest share at which it may be sent a job, and the same while others wait.

        Then one job may be dispatched ahead to a substation that is full. Not where an operator has
        capped it: connectors are free there, and the job would be charged at once. Nor where
        sessions take so long that a moment between two is nothing.
        """
        places = capacity = state.places
        starting = unsteady and state.health.is_starting(now, self._slow_start)
        if starting:
            capacity = state.health.slow_start_limit(places, now, self._slow_start)
        if events_stale and not state.capped:
            capacity += state.ahead(self._period) * capacity / places
        session = state.session_seconds
        brief = session is not None and session <= BRIEF_SECONDS
        ahead = brief and not (events_stale or starting or state.capped)
        return capacity / places, (capacity + ahead) / places


_NONE_CURRENT: Final[NDArray[np.bool_]] = np.zeros(0, dtype=np.bool_)


def _without(after: Array, numbers: Numbers) -> Array:
    """Return utilisations with no capacity at some substations."""
    if not numbers.size:
        return after
    after = after.copy()
    after[numbers] = inf
    return after
