"""Since when a connector was free for a job, as far as the dispatcher's snapshots show it. Pure.

A snapshot is written at most once a second, so the times are as coarse as that. A substation counts
as taken while it is full, reserved or drained. One that cannot be used for another reason does not:
a job that waits for it waits for a fault.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from typing import Final

from api.substations import Condition, Substation

_TAKEN: Final = frozenset({Condition.FULL, Condition.RESERVED, Condition.DRAINING})


class FreeConnectors:
    """When each substation, and all of them together, were last seen without a free connector."""

    def __init__(self) -> None:
        self._taken_at: dict[str, float] = {}
        self._known: frozenset[str] = frozenset()  # the substations of the last snapshot
        self._all_taken_at = -inf

    def see(self, rows: Collection[Substation], at: float) -> None:
        """Apply a snapshot that was written at ``at``, in Unix seconds."""
        self._known = frozenset(row.id for row in rows)
        taken = [row.id for row in rows if row.status in _TAKEN]
        self._taken_at.update(dict.fromkeys(taken, at))
        if taken and all(row.status is not Condition.AVAILABLE for row in rows):
            self._all_taken_at = at

    def since(self, allowed: Collection[str]) -> float:
        """Return since when a connector is free, in Unix seconds, for a job that may go there.

        An empty ``allowed`` is any substation; a name that no substation has is ignored. Minus
        infinity if none was ever seen taken.
        """
        if not allowed:
            return self._all_taken_at
        known = [each for each in allowed if each in self._known]
        return min([self._taken_at.get(each, -inf) for each in known], default=-inf)
