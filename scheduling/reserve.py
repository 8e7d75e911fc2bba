"""A share of all connectors that is kept free for high priorities. Pure: time is an argument."""

from __future__ import annotations

from typing import NamedTuple

from scheduling.candidates import CandidateTable
from scheduling.order import Requirements

_ROUNDING = 1e-9  # of a connector


class Reserve(NamedTuple):
    """What is kept free: ``share`` of the connectors, for jobs of this priority and above."""

    share: float
    priority: int

    @property
    def note(self) -> str:
        """Return what the explanation of a job adds that takes a connector of it."""
        return f"; a connector that was kept for priority {self.priority} and above"

    def is_for(self, job: Requirements) -> bool:
        """Return whether a job may take what is kept free."""
        return -job.rank[0] >= self.priority

    def others_may_take(self, table: CandidateTable, now: float) -> float:
        """Return how many connectors jobs of other priorities may take now; ``now`` as the table's.

        It counts the substations that may be sent jobs; below 1, others have to wait.
        """
        free, connectors = table.free_connectors(now)
        return free - self.share * connectors + _ROUNDING
