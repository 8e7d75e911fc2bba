"""Requests that no substation can ever take. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dispatcher.decision.fleet import Fleet
from dispatcher.decision.line import Wish

NO_SUCH_SUBSTATION: Final = "no such substation"
TOO_POWERFUL: Final = "more power than any has"
SHOWN: Final = 5  # names that a reason repeats


def hopeless(wish: Wish, fleet: Fleet, now: float) -> tuple[str, str] | None:
    """Say why no substation can ever take a request, in a word and in full; None if one may."""
    known = fleet.ledger.accounts.keys()
    if known and wish.named and known.isdisjoint(wish.named):
        return NO_SUCH_SUBSTATION, f"{NO_SUCH_SUBSTATION}: {_some(wish.named)}"
    most = fleet.largest_rating(wish.named, now)
    if wish.power_kw <= most:
        return None
    return TOO_POWERFUL, f"{TOO_POWERFUL}: {wish.power_kw:g} kW, the largest has {most:g} kW"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
