"""All substations side by side, as a decision needs them: a row for each figure. Pure.

The rows follow from the ledger's accounts and are kept up to date as those change, so that one
decision among a thousand substations is a few operations on whole rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isnan, nan
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dispatcher.decision.account import Account, share_of
from dispatcher.decision.ledger import Ledger
from dispatcher.decision.rows import Figures, Row, Rows
from dispatcher.readings import LOAD

Numbers: TypeAlias = NDArray[np.intp]

DIGITS: Final = 9  # of a share of power: what two sums differ by beyond is no difference
FULL: Final = 1.0 + 10.0**-DIGITS
BRIEF_SECONDS: Final = 60.0  # a session: where they take longer, nobody is sent ahead
RENEW_SECONDS: Final = 0.05  # between two looks at what time alone changes


class Open(NamedTuple):
    """The substations that a request may be sent to now, at least one, each at its place.

    ``after`` is the utilisation with the request placed there, ``numbers`` which of all ``names``
    each place is. ``blind`` says that no gauge is current, and the ledger alone decides; ``ahead``
    that all have their connectors taken, and the request is to be the next at one of them.
    """

    names: Sequence[str]
    numbers: Numbers
    after: Row
    rows: Rows
    blind: bool
    ahead: bool

    @property
    def gauge(self) -> Row:
        """The load of each as its page said."""
        return self.rows.gauge[self.numbers]

    @property
    def headroom(self) -> Row:
        """The power left at each, without the request, in kW."""
        return self.rows.headroom[self.numbers]

    def name(self, place: int) -> str:
        """Give the substation at a place."""
        return self.names[int(self.numbers[place])]


class Fleet:
    """The substations of a ledger.

    ``period`` is the time between two pages and ``slow_start`` how long one that comes back ramps
    up, both in seconds. ``kept`` is the substation that is kept for one request, if any is.
    """

    def __init__(self, ledger: Ledger, period: float, slow_start: float) -> None:
        self.ledger = ledger
        self.kept: str | None = None
        self._period = period
        self._slow_start = slow_start
        self._current_until = -inf  # when the first of the pages is too old
        self._passing: dict[str, Account] = {}  # what follows from these changes with time
        self._renew_at = -inf
        self._opened = True
        self._begin()

    def __len__(self) -> int:
        """Give how many substations there are."""
        return len(self.ledger.accounts)

    def open_to(
        self,
        power_kw: float,
        named: Sequence[str],
        now: float,
        *,
        ahead: bool = False,
        kept_too: bool = False,
    ) -> Open | None:
        """Give the substations with room for a request of that power, or None where none has.

        ``named`` are the only ones it may go to, or none where any will do. With ``ahead``, where
        all have their connectors taken, those count at which it would be the next. The one that is
        ``kept`` is open only with ``kept_too``.
        """
        self._refresh(now)
        rows, (share, blind) = self._rows, self._judged(now)
        after, power_fits = share, None
        if self._powered:
            power = rows.power + power_kw * rows.per_kw
            after, power_fits = np.maximum(share, power), power <= FULL
        elsewhere = self._elsewhere(named)
        kept = None if kept_too or self.kept is None else self._numbers.get(self.kept)
        for most in (rows.most, rows.ahead) if ahead else (rows.most,):
            fits = share <= most
            if power_fits is not None:
                fits &= power_fits
            if elsewhere is not None:
                fits[elsewhere] = False
            if kept is not None:
                fits[kept] = False
            numbers = fits.nonzero()[0]
            if numbers.size:
                sent_ahead = most is rows.ahead
                return Open(self._names, numbers, after[numbers], rows, blind, sent_ahead)
        return None

    @property
    def powered(self) -> bool:
        """Tell whether any substation says what power it is built for."""
        return self._powered

    def has_room(self, now: float, *, power_kw: float = 0.0, ahead: bool = False) -> bool:
        """Tell whether any substation has room for a request of that power."""
        return self.open_to(power_kw, (), now, ahead=ahead) is not None

    def opened(self, now: float) -> bool:
        """Tell whether there may be more room anywhere than when this was last asked."""
        self._refresh(now)
        opened, self._opened = self._opened or now > self._current_until, False
        return opened

    def blind(self, now: float) -> bool:
        """Tell whether not one substation's gauges are current: then the ledger alone decides."""
        self._refresh(now)
        return self._judged(now)[1]

    def room(self, account: Account, now: float) -> float:
        """Give how far a substation's load may go by what is known of it, nobody sent ahead."""
        return self._room(account, now, deaf=account.deaf(now))

    def largest_rating(self, named: Sequence[str], now: float) -> float:
        """Give the highest rated power in kW that a request may ever find; infinite if unknown."""
        self._refresh(now)
        rated = self._rows.rated
        if named:
            rated = rated[[self._numbers[name] for name in named if name in self._numbers]]
        return float(rated.max()) if rated.size else inf

    def soonest(
        self, power_kw: float, named: Sequence[str], now: float, first: str | None = None
    ) -> str | None:
        """Name the substation with a free place where the least power must become free for that.

        None where it would fit at none of these even beside what other consumers draw alone;
        ``first`` where it will do.
        """
        self._refresh(now)
        rows, share = self._rows, self._judged(now)[0]
        good = (share <= rows.most) & (rows.alone + power_kw * rows.per_kw <= FULL)
        if (elsewhere := self._elsewhere(named)) is not None:
            good[elsewhere] = False
        if first is not None and good[self._numbers.get(first, [])].any():
            return first
        if not good.any():
            return None
        return self._names[int(np.where(good, -rows.headroom, inf).argmin())]

    def lightest(self, most: int, named: Sequence[str], now: float) -> list[str]:
        """Name the substations of the lowest utilisation, at most so many; those named first."""
        self._refresh(now)
        after = np.maximum(self._judged(now)[0], self._rows.power)
        if (elsewhere := self._elsewhere(named)) is not None:
            after[elsewhere] = nan  # which sorts behind even those that are closed
        numbers = np.arange(len(after))
        if len(after) > most:
            numbers = np.argpartition(after, most)[:most]
        numbers = numbers[np.argsort(after[numbers], kind="stable")]
        return [self._names[number] for number in numbers]

    def _judged(self, now: float) -> tuple[Row, bool]:
        """Give the shares by what is known of each now, and whether that is the ledger alone."""
        rows = self._rows
        if now <= self._current_until:
            return rows.share, False
        current = rows.asked_at >= now - self.ledger.stale_after
        if not current.any():
            return rows.blind, True
        oldest = np.min(rows.asked_at, where=current, initial=inf)
        if current.all() or not np.any(~current & (rows.share < inf)):
            self._current_until = float(oldest) + self.ledger.stale_after
            return rows.share, False
        return np.where(current, rows.share, inf), False

    def _elsewhere(self, named: Sequence[str]) -> NDArray[np.bool_] | None:
        """Tell which substations a request may not go to; None where it may go to all."""
        if not named:
            return None
        elsewhere = np.ones(len(self._names), dtype=np.bool_)
        for name in named:
            if (number := self._numbers.get(name)) is not None:
                elsewhere[number] = False
        return elsewhere

    def _refresh(self, now: float) -> None:
        """Bring the rows up to what has changed in the ledger."""
        if self._passing and now >= self._renew_at:
            self._renew_at = now + RENEW_SECONDS
            for account in self._passing.values():
                self.ledger.touch(account)
            self._passing.clear()
        changed, accounts = self.ledger.take_changed(), self.ledger.accounts
        if not changed:
            return
        if len(self._names) != len(accounts) or not all(
            each.substation in self._numbers for each in changed
        ):
            self._begin()
            changed = list(accounts.values())
        for account in changed:
            self._write(account, now)

    def _begin(self) -> None:
        self._names = sorted(self.ledger.accounts)
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._rows = Rows(len(self._names))
        self._powered = False
        self._current_until = -inf
        self._opened = True

    def _write(self, account: Account, now: float) -> None:
        number = self._numbers.get(account.substation)
        if number is None or self.ledger.accounts.get(account.substation) is not account:
            return  # it left, and another of its name may have come
        deaf = account.deaf(now)
        figures, before = self._figures(account, now, deaf=deaf), self._rows.figures[number]
        if figures != before:
            self._rows.write(number, figures)
            self._opened = self._opened or figures.opens(before)
            self._powered = self._powered or figures.rated < inf
            if isnan(figures.asked_at):  # it may have been the last that could be read
                self._current_until = -inf
            else:
                current_until = figures.asked_at + self.ledger.stale_after
                self._current_until = min(self._current_until, current_until)
        fades = deaf and account.session_seconds is not None
        if fades or account.owed is not None or account.health.unsteady(now):
            self._passing[account.substation] = account

    def _figures(self, account: Account, now: float, *, deaf: bool) -> Figures:
        places, rated = account.places, account.rated_power_kw
        barred = self.ledger.barred(account, now) is not None
        load = account.expected_load(now) if deaf else account.load
        share = inf if barred else (load + 1.0) / places
        # closed here, too: `_judged` looks again only when the page of another grows too old
        unreadable = account.problem is not None or now - account.oldest > self.ledger.stale_after
        room = self._room(account, now, deaf=deaf)
        power = 0.0 if rated is None else account.power_kw
        return Figures(
            inf if unreadable else share,
            share if account.consumers else inf,
            room / places,
            (room + 1.0 if not deaf and _may_queue(account) else room) / places,
            0.0 if rated is None else round(share_of(power, rated), DIGITS),
            1.0 / rated if rated else 0.0,
            0.0 if rated is None else round(share_of(account.background_kw, rated), DIGITS),
            inf if rated is None else rated,
            account.gauge(LOAD) or 0.0,
            -inf if rated is None else rated - power,
            nan if account.problem is not None else account.oldest,
        )

    def _room(self, account: Account, now: float, *, deaf: bool) -> float:
        room = places = account.places
        if account.health.back_at is not None:
            room = account.health.ramp(places, now, self._slow_start)
        if not deaf or account.capped:
            return room
        return room + account.ahead(self._period) * room / places


def _may_queue(account: Account) -> bool:
    """Tell whether one may be sent ahead to a substation that is full.

    Not where an operator has capped it or it ramps up: connectors are free there, and it would be
    charged at once. Nor where sessions take so long that a hand-over without a pause is nothing.
    """
    session = account.session_seconds
    brief = session is not None and session <= BRIEF_SECONDS
    return brief and not account.capped and account.health.back_at is None
