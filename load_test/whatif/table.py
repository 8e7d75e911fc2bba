"""What did happen beside what would have: one column for each. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Final, NamedTuple

from grid.events import State
from load_test import text
from load_test.measures import measure, sessions_over_time, span, waits_of
from load_test.records import Job, Substation
from load_test.report.figures import Figure, Unit
from load_test.simulate.scenario import Site
from load_test.truth import judge
from load_test.waits import percentiles

_ROWS: Final[Mapping[str, tuple[str, Unit]]] = {
    "jobs": ("jobs", "count"),
    "impossible": ("that nothing could charge", "count"),
    "expired": ("left before their turn", "count"),
    "mean_wait": ("mean wait", "seconds"),
    "p50": ("wait, p50", "seconds"),
    "p95": ("wait, p95", "seconds"),
    "p99": ("wait, p99", "seconds"),
    "longest_wait": ("longest wait", "seconds"),
    "demands_met": ("demands met", "share"),
    "energy_delivered": ("energy delivered", "share"),
    "peak_utilisation": ("peak utilisation", "share"),
    "peak_power": ("peak power ÷ rated power", "share"),
    "overload_minutes": ("overload", "minutes"),
    "fairness_substations": ("fairness among substations", "index"),
    "fairness_vehicles": ("fairness among vehicles", "index"),
    "fairness_tenants": ("fairness among tenants", "index"),
    "spread": ("mean spread", "sessions"),
}
_LABEL, _COLUMN = 30, 15
_NETWORK_SECONDS: Final = 0.02


class Agreement(NamedTuple):
    """How far the replays as it was are from what did happen.

    ``seconds`` and ``wait`` are the difference of their mean wait, the latter relative to what it
    was, ``lowest`` and ``highest`` those of single draws: what chance alone makes. ``share`` is the
    largest difference of a substation's share of the load, from 0 to 1.
    """

    seconds: float
    wait: float | None
    lowest: float
    highest: float
    share: float

    def within(self, tolerance: float) -> bool:
        """Return whether what did happen is within a tolerance, from 0 to 1, of some draw.

        Where nobody waits, milliseconds of the network are the whole wait: these do not count.
        """
        apart = max(self.lowest, -self.highest, 0.0)
        is_close = apart <= tolerance or abs(self.seconds) <= _NETWORK_SECONDS
        return is_close and self.share <= tolerance


@dataclass(frozen=True, slots=True)
class Column:
    """The figures of one way that the jobs went; ``shares`` is of the load, by substation."""

    name: str
    figures: Mapping[str, float | None]
    shares: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return asdict(self)


def column(
    name: str, jobs: Sequence[Job], sites: Sequence[Site], impossible: int = 0, speed: float = 1.0
) -> Column:
    """Return the figures of jobs, at these substations."""
    own = {each.id for each in jobs}
    found = asdict(measure(jobs, own, [_substation(each) for each in sites], speed))
    waits = percentiles(list(waits_of(jobs)))
    judged = judge(jobs, {each.name: float(each.connectors) for each in sites})
    figures = {
        "jobs": len(jobs),
        "impossible": impossible,
        "expired": sum(each.status is State.EXPIRED for each in jobs),
        **({} if waits is None else waits._asdict()),
        "spread": fmean(each.spread for each in judged.values()) if judged else None,
        **found,
    }
    return Column(name, {row: figures.get(row) for row in _ROWS}, shares(jobs, sites))


def shares(jobs: Sequence[Job], sites: Sequence[Site]) -> dict[str, float]:
    """Return each substation's share of the load: of all time that sessions took."""
    since, until = span(jobs)
    found = sessions_over_time(jobs)
    loads = {name: steps.mean(since, until) for name, steps in found.items()}
    total = sum(loads.values()) or 1.0
    return {each.name: loads.get(each.name, 0.0) / total for each in sites}


def mean_of(draws: Sequence[Column]) -> Column:
    """Return the mean of each figure over several draws of one replay."""
    figures: dict[str, float | None] = {}
    for row in _ROWS:
        known = [value for each in draws if (value := each.figures[row]) is not None]
        figures[row] = fmean(known) if known else None
    shares = {name: fmean(each.shares[name] for each in draws) for name in draws[0].shares}
    return Column(draws[0].name, figures, shares)


def agreement(did: Column, draws: Sequence[Column]) -> Agreement:
    """Return how far several draws of the replay as it was are from what did happen."""
    before = did.figures["mean_wait"]
    waits = [(each.figures["mean_wait"] or 0.0) / before - 1 for each in draws] if before else []
    same = mean_of(draws)
    names = {*did.shares, *same.shares}
    gaps = (abs(did.shares.get(name, 0.0) - same.shares.get(name, 0.0)) for name in names)
    return Agreement(
        (same.figures["mean_wait"] or 0.0) - (before or 0.0),
        fmean(waits) if waits else None,
        min(waits, default=0.0),
        max(waits, default=0.0),
        max(gaps, default=0.0),
    )


def table(columns: Sequence[Column]) -> str:
    """Return the figures of all columns, a line each."""
    names = sorted({name for each in columns for name in each.shares}, key=text.natural)
    lines = ["".join([" " * _LABEL, *(f"{each.name:>{_COLUMN}}" for each in columns)])]
    for row, (label, unit) in _ROWS.items():
        values = [each.figures[row] for each in columns]
        if any(values) or row in ("jobs", "mean_wait"):
            lines.append(_line(label, values, unit))
    for name in names:
        values = [each.shares.get(name) for each in columns]
        lines.append(_line(f"load of {name}", values, "share"))
    return "\n".join(lines)


def _line(label: str, values: Sequence[float | None], unit: Unit) -> str:
    figure = Figure(label, label, "", None, None, unit, "")
    cells = "".join(f"{figure.shown(each):>{_COLUMN}}" for each in values)
    return f"{label:<{_LABEL}}{cells}"


def _substation(site: Site) -> Substation:
    return Substation(
        site.name,
        site.connectors,
        eligible=True,
        rated_power_kw=site.rated_power_kw,
        background_power_kw=site.background_power_kw,
        limit=site.limit,
    )
