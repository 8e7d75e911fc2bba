"""The line of those that wait for room: who is next, and who has left. Pure.

The most urgent come first (``priority``), among these who must begin soonest to be done by the
departure (the least laxity: departure − now − time to charge, and now is the same for all), then
who came first.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Generic, Protocol, TypeVar

from grid.messages import ChargeRequest

Rank = tuple[float, float, float, str]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks for, as far as routing goes.

    ``rank`` orders the line, ``named`` are the only substations that will do, or none where any
    will, ``departs_at`` is in Unix seconds, or infinite.
    """

    rank: Rank
    named: tuple[str, ...]
    power_kw: float
    departs_at: float


class Waiting(Protocol):
    """Whoever waits."""

    @property
    def wish(self) -> Wish:
        """What it asks for."""


class ServingFailed(Exception):
    """A mistake of ours over one of those that wait."""

    def __init__(self, one: Waiting) -> None:
        super().__init__("one that waits could not be decided on")
        self.one = one


W = TypeVar("W", bound=Waiting)


def wish(request: ChargeRequest) -> Wish:
    """Give what a request asks for."""
    starts, departs = request.latest_start, request.departure_time
    latest = inf if starts is None else starts
    rank = (float(-request.priority), latest, request.requested_at, request.id)
    named = request.eligible_substations
    return Wish(rank, named, request.power_kw, inf if departs is None else departs)


class Line(Generic[W]):
    """Those that wait, in the order in which they are to be served."""

    def __init__(self) -> None:
        self._line: list[W] = []
        self._next_departure = inf  # or earlier: whoever was served may have been that one

    def __len__(self) -> int:
        """Give how many wait."""
        return len(self._line)

    def __iter__(self) -> Iterator[W]:
        """Give those that wait, in their order."""
        return iter(self._line)

    def join(self, one: W) -> None:
        """Take one in, at the place of its rank."""
        self._next_departure = min(self._next_departure, one.wish.departs_at)
        if not self._line or _rank(self._line[-1]) <= one.wish.rank:
            self._line.append(one)
        else:
            insort(self._line, one, key=_rank)

    def serve(self, takes: Callable[[W, int], bool | None]) -> None:
        """Offer each in turn, with how many wait behind it or were passed over.

        ``takes`` says True for one that is served, False for one that stays, None to end the round.

        Raises:
            ServingFailed: ``takes`` did, over one that is not in the line any more.
        """
        passed: list[W] = []
        for place, one in enumerate(self._line):
            try:
                taken = takes(one, len(passed) + len(self._line) - place - 1)
            except Exception as error:
                self._line = passed + self._line[place + 1 :]
                raise ServingFailed(one) from error
            if taken is None:
                passed += self._line[place:]
                break
            if not taken:
                passed.append(one)
        self._line = passed

    def departed(self, now: float) -> list[W]:
        """Take out those whose departure has come; ``now`` is in Unix seconds."""
        if now < self._next_departure:
            return []
        gone = [each for each in self._line if each.wish.departs_at <= now]
        self._line = [each for each in self._line if each.wish.departs_at > now]
        self._next_departure = min((each.wish.departs_at for each in self._line), default=inf)
        return gone

    def take_last(self, count: int) -> list[W]:
        """Take out so many of those that would be served last."""
        last = self._line[-count:] if count else []
        del self._line[len(self._line) - len(last) :]
        return last

    def take(self, wanted: Callable[[W], bool]) -> list[W]:
        """Take out all that are wanted."""
        found = [each for each in self._line if wanted(each)]
        self._line = [each for each in self._line if not wanted(each)]
        return found


def _rank(one: Waiting) -> Rank:
    return one.wish.rank
