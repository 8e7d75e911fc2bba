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


class Hold(Generic[W]):
    """Who is overtaken, and the substation of ``fleet`` that is kept for it after a while."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._one: W | None = None
        self._since = 0.0

    def is_for(self, one: W) -> bool:
        """Tell whether a substation is kept for that one."""
        return one is self._one and self._fleet.kept is not None

    def review(self, line: Line[W]) -> bool:
        """Let go of what is kept for one that waits no longer; tells whether something was."""
        if self._fleet.kept is None or any(each is self._one for each in line):
            return False
        self.release()
        return True

    def passed_over(self, one: W, now: float) -> None:
        """Note the first of a round that found no power though there was a connector."""
        if one is not self._one:
            self.release()
            self._one, self._since = one, now
        elif now - self._since >= PATIENCE_SECONDS:
            kept, wish = self._fleet.kept, one.wish
            self._fleet.kept = self._fleet.soonest(wish.power_kw, wish.named, now, first=kept)

    def release(self) -> None:
        """Keep nothing for anybody."""
        self._one = self._fleet.kept = None
