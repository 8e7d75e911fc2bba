"""Jobs that no substation can ever take. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from scheduling.candidates import CandidateTable
from scheduling.wait_queue import Requirements

NO_SUCH_SUBSTATION: Final = "no such substation"
TOO_POWERFUL: Final = "more power than any has"
SHOWN: Final = 5  # names that a reason repeats


def impossible(
    requirements: Requirements, table: CandidateTable, now: float
) -> tuple[str, str] | None:
    """Return why no substation can ever take a job, in a word and in full; None if one may."""
    known = table.tracker.substations.keys()
    if known and requirements.allowed and known.isdisjoint(requirements.allowed):
        return NO_SUCH_SUBSTATION, f"{NO_SUCH_SUBSTATION}: {_some(requirements.allowed)}"
    most = table.largest_rating(requirements.allowed, now)
    if requirements.power_kw <= most:
        return None
    return (
        TOO_POWERFUL,
        f"{TOO_POWERFUL}: {requirements.power_kw:g} kW, the largest has {most:g} kW",
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
