"""Decides when a substation's jobs are reclaimed. Pure: time is an argument, in seconds.

A substation whose page cannot be read may be dead, or only cut off from the dispatcher: then its
vehicles go on charging, and its queue has a consumer. A substation with neither page nor consumer
is dead. If no page at all can be read, the dispatcher itself is cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple

DEAD_LOOKS: Final = 2  # in a row: a consumer may just be replaced by its successor
DEAD: Final = "its page cannot be read, and its queue has no consumer"
UNREACHABLE: Final = "its page has not been readable for {:g} s"
UNSERVED: Final = "its queue has had no consumer for {:g} s"


class Look(NamedTuple):
    """What is seen of a substation: whether its page can be read, and its queue's consumers.

    ``consumers`` is None if that is unknown, which does not count as no consumer.
    """

    reachable: bool
    consumers: int | None


class Evacuation(NamedTuple):
    """Why a substation's jobs are reclaimed, and whether it may be alive."""

    why: str
    alive: bool


@dataclass(slots=True)
class _Record:
    unreachable_since: float | None = None
    unserved_since: float | None = None
    dead_looks: int = 0


class FailureDetector:
    """Judges all substations at each look; in doubt, only after ``rescue_after`` seconds."""

    def __init__(self, rescue_after: float) -> None:
        self._rescue_after = rescue_after
        self._records: dict[str, _Record] = {}
        self._grace_until = -inf

    def begin_grace(self, now: float) -> None:
        """Wait ``rescue_after`` seconds for consumers to come back: RabbitMQ itself was away."""
        self._grace_until = now + self._rescue_after

    def observe(self, looks: Mapping[str, Look], now: float) -> dict[str, Evacuation]:
        """Apply one look at all substations; return those whose jobs are to be reclaimed."""
        blind = not any(each.reachable for each in looks.values())
        self._records = {name: self._records.get(name) or _Record() for name in looks}
        evacuations = {}
        for name, look in looks.items():
            seen = look if now >= self._grace_until else look._replace(consumers=None)
            if (why := self._judge(self._records[name], seen, blind, now)) is not None:
                evacuations[name] = Evacuation(why, seen.reachable or seen.consumers != 0)
        return evacuations

    def _judge(self, record: _Record, look: Look, blind: bool, now: float) -> str | None:  # noqa: FBT001
        unserved = look.consumers == 0
        dead = unserved and not look.reachable
        record.dead_looks = record.dead_looks + 1 if dead else 0
        # time in which no page could be read does not count
        record.unreachable_since = _since(
            record.unreachable_since, now, holds=not look.reachable and not blind
        )
        record.unserved_since = _since(record.unserved_since, now, holds=unserved)
        if record.dead_looks >= DEAD_LOOKS:
            return DEAD
        if self._for_long(record.unreachable_since, now):
            return UNREACHABLE.format(self._rescue_after)
        if look.reachable and self._for_long(record.unserved_since, now):
            return UNSERVED.format(self._rescue_after)
        return None

    def _for_long(self, since: float | None, now: float) -> bool:
        return since is not None and now - since >= self._rescue_after


def _since(before: float | None, now: float, *, holds: bool) -> float | None:
    """Return since when something holds without interruption, or None if it does not."""
    if not holds:
        return None
    return now if before is None else before
