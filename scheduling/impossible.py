"""Jobs that no substation can ever take. Pure."""

from __future__ import annotations

from typing import Final

from scheduling import reasons
from scheduling.candidates import CandidateTable
from scheduling.wait_queue import Requirements

NO_SUCH_SUBSTATION: Final = reasons.NO_SUCH_SUBSTATION
TOO_POWERFUL: Final = reasons.TOO_POWERFUL


def impossible(
    requirements: Requirements, table: CandidateTable, now: float
) -> tuple[str, str] | None:
    """Return why no substation can ever take a job, in a word and in full; None if one may."""
    allowed = requirements.allowed
    return reasons.reason_never(
        allowed,
        requirements.power_kw,
        table.tracker.substations.keys(),
        table.largest_rating(allowed, now),
    )
