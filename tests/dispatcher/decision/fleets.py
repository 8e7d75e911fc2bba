"""Fleets made of tables: a row has what is known of one substation, and why it is ineligible."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from dispatcher.decision.fleet import Fleet, Open
from dispatcher.decision.health import FREE_FALLS
from dispatcher.decision.ledger import Ledger
from dispatcher.readings import Reading
from grid.controls import Availability, Control
from grid.events import Counts

NOW: Final = 100.0  # when the pages of a table were asked for
PERIOD: Final = 0.5
STALE: Final = 2.0
RUN: Final = 1000.0  # when the substations' processes started


BRIEF: Final = 3.5  # seconds


@dataclass(frozen=True, slots=True)
class Row:
    """One substation: what its page says, the powers in flight to it, and what an operator set.

    One that is not ``hearing`` has no counters, so no events come; the others' sessions take
    ``BRIEF`` seconds unless ``session`` says otherwise. ``closed`` is a key of ``CLOSED``.
    """

    name: str
    load: float = 0
    places: float = 10
    way: tuple[float, ...] = ()
    rated: float | None = None
    power: float | None = None
    background: float | None = None
    hearing: bool = True
    session: float | None = None
    limit: int | None = None
    consumers: int | None = 1
    closed: str = ""

    def page(self, load: float | None = None) -> Reading:
        """Return its page, perhaps with another load."""
        load = self.load if load is None else load
        counts = Counts(load, load, 0, 0, RUN, self.power) if self.hearing else None
        session = self.session or (BRIEF if self.hearing else None)
        return Reading(load, self.places, self.power, self.rated, self.background, counts, session)


def _ejected(ledger: Ledger, row: Row) -> None:
    account = ledger.accounts[row.name]
    for _ in range(FREE_FALLS + 1):
        account.health.fall(NOW)
        account.health.rise(NOW, row.load)
    ledger.touch(account)


def _drained(ledger: Ledger, row: Row) -> None:
    ledger.control(row.name, Control(row.name, Availability.DRAINING, None, 1))


# each makes a substation ineligible
CLOSED: Final[Mapping[str, Callable[[Ledger, Row], None]]] = {
    "drained": _drained,
    "ejected": _ejected,
    "failed": lambda ledger, row: ledger.fail(row.name, "HTTP 500", NOW),
    "refused": lambda ledger, row: ledger.refuse(row.name, "unroutable", NOW),
    "no consumer": lambda ledger, row: ledger.queued(row.name, 0, 0),
    "stale": lambda _, __: None,
    "never read": lambda _, __: None,
    "scale not set": lambda _, __: None,
}


def fleet_of(*rows: Row, slow_start: float = 0) -> Fleet:
    """Make the fleet of a table, as of ``NOW``."""
    ledger = Ledger(STALE, default_connectors=10)
    ledger.keep(dict.fromkeys(row.name for row in rows))
    for row in rows:
        enter(ledger, row)
    return Fleet(ledger, PERIOD, slow_start)


def enter(ledger: Ledger, row: Row) -> None:
    """Enter what a row says into a ledger."""
    name = row.name
    if row.limit is not None:
        ledger.control(name, Control(name, Availability.AVAILABLE, row.limit, 1))
    if row.consumers is not None:
        ledger.queued(name, 0, row.consumers)
    if row.closed != "never read":
        read(ledger, row, NOW - 5 if row.closed == "stale" else NOW)
    for power in row.way:
        ledger.dispatch(name, NOW, power)
    if row.closed:
        CLOSED[row.closed](ledger, row)


def read(ledger: Ledger, row: Row, at: float) -> None:
    """Read a substation's page, and set its baseline with nothing in its queue."""
    ledger.read(row.name, row.page(), at)
    if row.hearing and row.closed != "scale not set":
        ledger.ask_depth(row.name)
        ledger.depth(row.name, 0, at)
        ledger.read(row.name, row.page(), at)


def after(open_to: Open | None) -> dict[str, float]:
    """Return the utilisation after placement of each candidate."""
    if open_to is None:
        return {}
    values = open_to.after.tolist()
    return {open_to.name(place): value for place, value in enumerate(values)}


def names(fleet: Fleet, power_kw: float = 7, now: float = NOW, *named: str) -> list[str]:
    """Return the names of the candidates for a request of so much power."""
    return list(after(fleet.open_to(power_kw, named, now)))
