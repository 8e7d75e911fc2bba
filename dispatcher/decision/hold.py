"""Room that is kept for one request which the others would overtake without end. Pure.

A request that needs much power fits nowhere while smaller ones take each kilowatt that becomes
free. After a while one substation is kept for it, and nothing else goes there until it fits. As in
EASY backfilling (Lifka 1995) that is done for one request at a time, and whoever it is done for
keeps it: the others still use what is left everywhere else.
"""

from __future__ import annotations

from typing import Final, Generic

from dispatcher.decision.fleet import Fleet
from dispatcher.decision.line import Line, W

PATIENCE_SECONDS: Final = 5.0  # a request may be overtaken for so long
LOOK_SECONDS: Final = 1.0  # between two looks at those for which nothing can be kept


class Hold(Generic[W]):
    """Who lacks power since when, and for whom a substation of ``fleet`` is kept."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._since: dict[W, float] = {}  # when each first lacked power, though not a connector
        self._one: W | None = None  # whom it is kept for
        self._in_vain: set[W] = set()  # those that would not fit anywhere even alone, for a while
        self._look_at = 0.0

    def is_for(self, one: W) -> bool:
        """Tell whether a substation is kept for that one."""
        return one is self._one

    def review(self, line: Line[W], now: float) -> bool:
        """Let go before a round of what is kept in vain, or for nobody; tells whether it did."""
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._in_vain.clear()
            self._since = {one: self._since[one] for one in line if one in self._since}
        one = self._one
        if one is None or (any(each is one for each in line) and self._keep(one, now)):
            return False
        self.release()
        return True

    def passed_over(self, one: W, now: float) -> None:
        """Note one that finds no room; the first that has lacked power for long has some kept."""
        if one not in self._since:
            if self._fleet.open_to(0.0, one.wish.named, now) is not None:
                self._since[one] = now
            return
        due = self._one is None and now - self._since[one] >= PATIENCE_SECONDS
        if due and one not in self._in_vain and not self._keep(one, now):
            self._in_vain.add(one)

    def served(self, one: W) -> None:
        """Note one that is placed."""
        self._since.pop(one, None)
        if one is self._one:
            self.release()

    def release(self) -> None:
        """Keep nothing for anybody."""
        self._one = self._fleet.kept = None

    def _keep(self, one: W, now: float) -> bool:
        """Keep a substation, the same for as long as that will do; tells whether any will."""
        fleet, wish = self._fleet, one.wish
        fleet.kept = fleet.soonest(wish.power_kw, wish.named, now, first=fleet.kept)
        self._one = None if fleet.kept is None else one
        return fleet.kept is not None
