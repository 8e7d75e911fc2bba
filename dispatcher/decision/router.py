"""Who goes where, and who waits: one round over the line. Pure: time and chance are arguments."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Generic, NamedTuple

from dispatcher.decision.fleet import Fleet, Open
from dispatcher.decision.hold import Hold
from dispatcher.decision.line import Line, W
from dispatcher.decision.policy import Policy
from grid.messages import DEFAULT_POWER_KW

if TYPE_CHECKING:
    from random import Random


class Choice(NamedTuple):
    """Where a request goes, and why; ``open_to`` is what was to be chosen from."""

    substation: str
    reason: str
    open_to: Open


class Router(Generic[W]):
    """Sends those in line to substations with room.

    While at least as many others wait as there are substations, one job is sent ahead to each that
    is full and whose sessions are brief: it begins there as soon as a connector is free, without
    waiting for the word of that to arrive here, and whichever connector is free first, there is
    somebody left for it. Unless ``send_ahead`` is off: then all wait centrally. For the first that
    is overtaken for long, since it needs more power than is free anywhere, a substation is kept.
    """

    def __init__(
        self, fleet: Fleet, policy: Policy, random: Random, *, send_ahead: bool = True
    ) -> None:
        self._ledger = fleet.ledger
        self._fleet = fleet
        self._policy = policy
        self._random = random
        self._send_ahead = send_ahead
        self._hold: Hold[W] = Hold(fleet)
        self._shut: bool | None = None  # nobody had room, be it ahead or not, when last looked

    def round(self, line: Line[W], now: float, place: Callable[[W, Choice], None]) -> bool:
        """Send all that some substation has room for, each told to ``place`` just before.

        ``now`` is in the ledger's seconds. Tells whether there is room left for a usual request
        that none of those that wait still can take; true where none waits.
        """
        opened, shut_before, self._shut = self._fleet.opened(now), self._shut, None
        opened = self._hold.review(line, now) or opened
        if not opened and shut_before is not None and self._ahead(len(line) - 1) <= shut_before:
            self._shut = shut_before
            return False
        shut: dict[tuple[str, ...], float] = {}  # the least power for which there was no room
        room = True

        def takes(one: W, behind: int) -> bool | None:
            nonlocal room
            wish = one.wish
            if wish.power_kw >= shut.get(wish.named, inf) and not self._hold.is_for(one):
                return False
            ahead = self._ahead(behind)
            choice = self.choose(one, now, ahead=ahead)
            if choice is not None:
                self._hold.served(one)
                place(one, choice)
                self._ledger.dispatch(choice.substation, now, wish.power_kw)
                return True
            shut[wish.named] = min(wish.power_kw, shut.get(wish.named, inf))
            if self._fleet.powered:
                self._hold.passed_over(one, now)
            others = bool(wish.named) or self._fleet.powered  # who might find room all the same
            # whoever a substation is kept for must be asked, even where nobody else has room
            kept = self._fleet.kept is not None
            room = kept or (others and self._fleet.has_room(now, ahead=ahead))
            if not room:
                self._shut = ahead
            return False if room else None

        line.serve(takes)
        if not (room and line):
            return room
        # one that was served behind another that was passed over may have had the last of it
        ahead = self._ahead(len(line))
        return self._fleet.has_room(now, power_kw=DEFAULT_POWER_KW, ahead=ahead)

    def rest(self) -> None:
        """Note that nobody waits."""
        self._hold.release()

    def choose(self, one: W, now: float, *, ahead: bool) -> Choice | None:
        """Choose where one goes; None where no substation has room for it."""
        wish = one.wish
        kept_too = self._hold.is_for(one)
        open_to = self._fleet.open_to(
            wish.power_kw, wish.named, now, ahead=ahead, kept_too=kept_too
        )
        if open_to is None:
            return None
        place, reason = self._policy.choose(open_to, self._random)
        return Choice(open_to.name(place), reason, open_to)

    def _ahead(self, others: int) -> bool:
        """Tell whether enough others wait for one to be sent ahead."""
        return self._send_ahead and others >= len(self._fleet)
