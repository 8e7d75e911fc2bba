"""Room that is kept for one request which the others would overtake without end. Pure.

A request that needs much power fits nowhere while smaller ones take each kilowatt that becomes
free. After a while one substation is kept for it, where it will fit soonest, and nothing else goes
there. As in EASY backfilling (Lifka 1995) that is done for one request at a time, the first in
line: the others still use what is left everywhere else.
"""

from __future__ import annotations

from typing import Final, Generic

from dispatcher.decision.fleet import Fleet
from dispatcher.decision.line import Line, W

PATIENCE_SECONDS: Final = 5.0  # a request may be overtaken for so long
LOOK_SECONDS: Final = 1.0  # between two looks at one for which nothing can be kept


class Hold(Generic[W]):
    """Who is overtaken, and the substation of ``fleet`` that is kept for it after a while."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._one: W | None = None
        self._since = 0.0
        self._in_vain: set[W] = set()  # those that would not fit anywhere even alone, for a while
        self._look_at = 0.0

    def is_for(self, one: W) -> bool:
        """Tell whether a substation is kept for that one."""
        return one is self._one and self._fleet.kept is not None

    def review(self, line: Line[W]) -> bool:
        """Let go of what is kept for one that waits no longer; tells whether something was."""
        if self._fleet.kept is None or any(each is self._one for each in line):
            return False
        self.release()
        return True

    def passed_over(self, one: W, now: float) -> bool:
        """Note one that found no power though there was a connector; tells whether it is watched.

        To be told of the first such in a round, and of the next where that one is not watched,
        since it would not fit anywhere even alone.
        """
        if now >= self._look_at:
            self._in_vain.clear()
            self._look_at = now + LOOK_SECONDS
        if one is not self._one:
            return one not in self._in_vain and self._watch(one, now)
        if now - self._since >= PATIENCE_SECONDS:
            self._keep(one, now)
        return self._one is one

    def release(self) -> None:
        """Keep nothing for anybody."""
        self._one = self._fleet.kept = None

    def _watch(self, one: W, now: float) -> bool:
        if self._fleet.soonest(one.wish.power_kw, one.wish.named, now) is None:
            self._in_vain.add(one)
            return False
        self.release()
        self._one, self._since = one, now
        return True

    def _keep(self, one: W, now: float) -> None:
        """Keep a substation for one, the same for as long as that will do."""
        fleet, power_kw = self._fleet, one.wish.power_kw
        if fleet.kept is not None and fleet.would_take(fleet.kept, power_kw, now):
            return
        fleet.kept = fleet.soonest(power_kw, one.wish.named, now)
        if fleet.kept is None:
            self._in_vain.add(one)
            self.release()
