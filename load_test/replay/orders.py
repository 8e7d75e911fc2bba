"""Orders side by side: what each makes of real sessions, at each utilisation. Pure.

The dispatcher's own scheduler sends the jobs to simulated substations, every change of which it
learns at once: so only the order makes a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from grid.errors import ConfigurationError
from load_test import text
from load_test.measures import WHOLE, delivered_share, measure
from load_test.records import Job
from load_test.replay import virtual
from load_test.replay.plan import Replay
from load_test.replay.sessions import Session
from load_test.simulate.scenario import Site
from load_test.stays import Best, stays
from load_test.whatif.latencies import NONE
from load_test.whatif.replay import World, replayed
from scheduling.order import ORDERS
from scheduling.policies import DEFAULT

if TYPE_CHECKING:
    from random import Random

BOUND: Final = "at most"
_TITLES: Final = ("demands met", "energy delivered", "fairness", "mean wait", "longest wait")


@dataclass(frozen=True, slots=True)
class Row:
    """What an order reaches at a utilisation, or what is possible; None is unknown.

    ``demands_met`` is the share of the jobs that got all of their energy, ``energy_delivered`` that
    of the energy; fairness is Jain's index over the shares that vehicles, and tenants, got. Waits
    are in s, until the session began or the vehicle left.
    """

    utilisation: float
    order: str
    demands_met: float
    energy_delivered: float
    fairness_vehicles: float | None = None
    fairness_tenants: float | None = None
    mean_wait: float | None = None
    longest_wait: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The sessions, the substations, and what is compared on them.

    ``best`` returns the bound of some stays for so many connectors; without it there is none.
    ``chance`` returns a random generator, the same each time.
    """

    replay: Replay
    sessions: Sequence[Session]
    connectors: Sequence[int]
    orders: Sequence[str]
    chance: Callable[[], Random]
    best: Best | None = None

    def rows(self, utilisation: float | None) -> Iterator[Row]:
        """Yield the bound, and what each order reaches.

        Arrivals are stretched to the utilisation; without one they are as the replay has them.
        """
        jobs, reached = self._jobs(utilisation)
        connectors = sum(self.connectors)
        most = None if self.best is None else self.best(stays(jobs), connectors)
        if most is not None:
            yield Row(reached, BOUND, most.demands_met, most.energy_delivered)
        sites = [Site(f"substation{number}", n) for number, n in enumerate(self.connectors, 1)]
        world = World(sites, NONE, period=0.0, send_ahead=False)
        for name in self.orders:
            gone = replayed(jobs, world, DEFAULT, self.chance(), ORDERS[name]())
            yield _row(reached, name, gone)

    def _jobs(self, utilisation: float | None) -> tuple[list[Job], float]:
        """Return the jobs at a utilisation, and what that is."""
        # in virtual time there is no need to compress any
        as_it_was = replace(self.replay, speed=1.0, charge_speed=1.0)
        jobs = virtual.jobs(as_it_was, as_it_was.requests(self.sessions))
        offered = _utilisation(jobs, sum(self.connectors))
        if utilisation is None:
            return jobs, offered
        stretched = replace(as_it_was, stretch=self.replay.stretch * offered / utilisation)
        return virtual.jobs(stretched, stretched.requests(self.sessions)), utilisation


def lines(rows: Iterable[Row], *, tenants: bool = False) -> Iterator[str]:
    """Yield the lines of a table, each as soon as its row is known.

    With ``tenants`` there is a column for the fairness among them.
    """
    titles = [*_TITLES[:3], *(["tenants"] if tenants else []), *_TITLES[3:]]
    yield f"{'utilisation':<13}{'order':<10}" + _cells(titles)
    last = None
    for row in rows:
        shown = "" if row.utilisation == last else f"{row.utilisation:.3g}"
        last = row.utilisation
        fairness = [row.fairness_vehicles, *([row.fairness_tenants] if tenants else [])]
        cells = [
            *map(text.share, (row.demands_met, row.energy_delivered)),
            *("–" if each is None else f"{each:.3f}" for each in fairness),
            *(
                "–" if each is None else text.duration(each)
                for each in (row.mean_wait, row.longest_wait)
            ),
        ]
        yield f"{shown:<13}{row.order:<10}" + _cells(cells)


def _cells(values: Iterable[str]) -> str:
    return "".join(f"{each:>18}" for each in values)


def _row(utilisation: float, name: str, gone: Sequence[Job]) -> Row:
    found = measure(gone, {each.id for each in gone}, ())
    return Row(
        utilisation,
        name,
        fmean(delivered_share(each) >= WHOLE for each in gone),
        found.energy_delivered or 0.0,
        found.fairness_vehicles,
        found.fairness_tenants,
        found.mean_wait,
        found.longest_wait,
    )


def _utilisation(jobs: Sequence[Job], connectors: int) -> float:
    """Return the time of all sessions to that of all connectors, first to last arrival."""
    arrivals = [each.queued or 0.0 for each in jobs]
    span = arrivals[-1] - arrivals[0]
    if not span:
        raise ConfigurationError("all sessions arrive at one instant: they have no utilisation")
    return sum(each.session_seconds or 0.0 for each in jobs) / (span * connectors)
