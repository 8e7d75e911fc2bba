"""Why a job cannot go to a substation: the words of a decision, a snapshot and the api. Pure.

The api reads them in snapshots; so this module needs no arrays.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

NO_CONNECTOR: Final = "full"
NO_POWER: Final = "not enough power left"
LIMITED: Final = "limited to "  # the beginning of what says so of power
NOT_ALLOWED: Final = "not among the request's eligible substations"
RESERVED: Final = "reserved for a job that has waited for power"
BOOKED: Final = "what is left is booked"
NO_SUCH_SUBSTATION: Final = "no such substation"
TOO_POWERFUL: Final = "more power than any has"
SHOWN: Final = 5  # names that a reason repeats


def reason_never(
    allowed: Sequence[str], power_kw: float, known: Collection[str], largest_kw: float
) -> tuple[str, str] | None:
    """Return why no substation can ever take a job, in a word and in full; None if one may.

    Args:
        allowed: The only substations that will do; empty where any will.
        power_kw: What the job draws.
        known: The substations there are; empty while that is not known.
        largest_kw: The highest rated power of those allowed; infinite while it is not known.
    """
    if known and allowed and not any(each in known for each in allowed):
        return NO_SUCH_SUBSTATION, f"{NO_SUCH_SUBSTATION}: {some(allowed)}"
    if power_kw <= largest_kw:
        return None
    return TOO_POWERFUL, f"{TOO_POWERFUL}: {power_kw:g} kW, the largest has {largest_kw:g} kW"


def kept_for(priority: int) -> str:
    """Return why a job may not take the connectors that are free."""
    return f"the connectors that are free are kept for priority {priority} and above"


def is_full(reason: str | None) -> bool:
    """Return whether a reason says that a substation has no capacity now, and will have again."""
    return reason in (NO_CONNECTOR, NO_POWER, BOOKED) or (reason or "").startswith(LIMITED)


def is_eligible(reason: str | None) -> bool:
    """Return whether jobs are sent to a substation, now or once it has capacity."""
    return reason is None or reason == RESERVED or is_full(reason)


def some(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
