"""The figures of a run, each beside its floor. Pure.

The floor of what vehicles get is one first-come-first-served queue in front of all connectors, for
the same arrivals and sessions; that of how even the load is, one who knows every load as it truly
is, and routes the same jobs at the same times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, Literal

from load_test import text
from load_test.central import served
from load_test.measures import Measures, all_power, all_sessions, measure, waits_of
from load_test.presence import present
from load_test.records import Job, Substation
from load_test.summary import Run, Summary, accepted_jobs, ended_jobs
from load_test.truth import evenly, judge
from load_test.waits import Percentiles, percentiles

Unit = Literal["count", "share", "seconds", "minutes", "sessions", "index", "ratio", "kWh", "rate"]
Better = Literal["low", "high", ""]
LOW: Final = "low"
HIGH: Final = "high"
NEITHER: Final = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a run; ``floor`` is the best that is possible, None where that is unknown."""

    name: str
    label: str
    group: str
    value: float | None
    floor: float | None
    unit: Unit
    better: Better

    def shown(self, value: float | None) -> str:
        """Return a value of this figure in its unit."""
        if value is None:
            return "–"
        if self.unit == "share":
            return text.share(value)
        if self.unit == "seconds":
            return text.seconds(value)
        if self.unit == "count":
            return f"{value:,.0f}"
        if self.unit == "index":
            return f"{value:.3f}"
        words = {"minutes": "min", "sessions": "sessions", "ratio": "×", "kWh": "kWh", "rate": "/s"}
        return f"{value:,.2f} {words[self.unit]}"


@dataclass(frozen=True, slots=True)
class Floors:
    """The same jobs, as they would have gone at best, and what follows from that."""

    central: Sequence[Job]
    even: Sequence[Job]
    vehicles: Measures


def judged_jobs(run: Run) -> frozenset[str]:
    """Return the ids of the jobs that count for what vehicles got.

    Of a run that was interrupted, those that have ended: nobody waited for the others.
    """
    return frozenset(each.id for each in ended_jobs(run)) if run.interrupted else accepted_jobs(run)


def all_jobs(run: Run) -> list[Job]:
    """Return all jobs that made load or waited in the run, other clients' too."""
    return present(run.jobs.values(), run.samples, run.connectors)


def floors(run: Run, jobs: Sequence[Job], speed: float) -> Floors:
    """Return the floors of a run."""
    own = judged_jobs(run)
    central = served(jobs, run.capacity) if run.capacity else []
    even = evenly(jobs, run.connectors)
    return Floors(central, even, measure(central, own, (), speed))


def figures(
    run: Run, summary: Summary, jobs: Sequence[Job], least: Floors, speed: float
) -> list[Figure]:
    """Return all figures of a run; ``speed`` is as in ``measure``."""
    own = judged_jobs(run)
    found = measure(jobs, own, run.substations, speed)
    waits, central = (_waits(each, own) for each in (jobs, least.central))
    return [
        *_requests(summary),
        *_vehicles(summary, found, least, waits, central),
        *_latencies(summary, central),
        *_evenness(run, summary, found, least, jobs),
    ]


def _requests(summary: Summary) -> Iterator[Figure]:
    for name, floor, better in (
        ("requests", None, NEITHER),
        ("accepted", summary.requests, HIGH),
        ("refused", 0, LOW),
        ("retries", 0, LOW),
        ("completed", summary.accepted, HIGH),
        ("expired", 0, LOW),
        ("cancelled", None, NEITHER),
        ("parked", 0, LOW),
        ("lost", 0, LOW),
        ("unfinished", 0, LOW),
        ("duplicates", 0, LOW),
    ):
        value = getattr(summary, name)
        yield Figure(name, name, "Requests", value, floor, "count", better)  # type: ignore[arg-type]
    rate = summary.requests_per_second
    yield Figure("requests_per_second", "sent a second", "Requests", rate, None, "rate", NEITHER)


def _vehicles(
    summary: Summary,
    found: Measures,
    least: Floors,
    waits: Percentiles | None,
    central: Percentiles | None,
) -> Iterator[Figure]:
    def figure(name: str, label: str, unit: Unit, better: Better) -> Figure:
        floor = getattr(least.vehicles, name) if least.central else None
        most = getattr(summary, f"most_{name}", None)  # better than any order
        return Figure(name, label, "Vehicles", getattr(found, name), most or floor, unit, better)

    yield figure("demands_met", "demands met", "share", HIGH)
    yield figure("energy_delivered", "energy delivered", "share", HIGH)
    yield figure("delivered_kwh", "energy delivered, in all", "kWh", HIGH)
    yield figure("mean_wait", "mean wait", "seconds", LOW)
    mean, floor = found.mean_wait, least.vehicles.mean_wait
    ratio = mean / floor if mean is not None and floor else None
    yield Figure("wait_to_floor", "mean wait ÷ floor", "Vehicles", ratio, 1.0, "ratio", LOW)
    yield from _percentiles("wait", "wait", "Vehicles", waits, central)
    yield figure("longest_wait", "longest wait", "seconds", LOW)
    yield figure("fairness_vehicles", "fairness among vehicles", "index", HIGH)
    if found.fairness_tenants is not None:
        yield figure("fairness_tenants", "fairness among tenants", "index", HIGH)


def _latencies(summary: Summary, central: Percentiles | None) -> Iterator[Figure]:
    none = Percentiles(0.0, 0.0, 0.0)
    for name, label, floor in (
        ("request_to_answer", "due to answer", none),
        ("request_to_assignment", "queued to assignment", central),
        ("due_to_charging", "due to charging", central),
        ("sent_late", "sent late", none),
    ):
        yield from _percentiles(name, label, "Latency", getattr(summary, name), floor)


def _evenness(
    run: Run, summary: Summary, found: Measures, least: Floors, jobs: Sequence[Job]
) -> Iterator[Figure]:
    def figure(name: str, label: str, unit: Unit, better: Better, floor: float | None) -> Figure:
        return Figure(name, label, "Substations", getattr(found, name), floor, unit, better)

    utilisation, power = _peaks(run.substations, jobs)
    yield figure("peak_utilisation", "peak utilisation", "share", LOW, utilisation)
    yield figure("peak_power", "peak power ÷ rated power", "share", LOW, power)
    yield figure("overload_minutes", "overload", "minutes", LOW, 0.0)
    yield figure("fairness_substations", "fairness among substations", "index", HIGH, 1.0)
    least_loaded = summary.share_least_loaded
    label = "to a least-loaded substation"
    yield Figure("share_least_loaded", label, "Substations", least_loaded, 1.0, "share", HIGH)
    largest, mean = _spreads(least.even, run)
    for name, label, floor in (
        ("spread_largest", "largest spread", largest),
        ("spread_mean", "mean spread", mean),
    ):
        value = getattr(summary, name)
        yield Figure(name, label, "Substations", value, floor, "sessions", LOW)
    connectors = sum(run.connectors.values())
    for name, share in summary.share_per_substation.items():
        label = f"share of {name}"
        floor = run.connectors.get(name, 0.0) / connectors if connectors else None
        yield Figure(f"share_{name}", label, "Substations", share, floor, "share", NEITHER)


def _peaks(
    substations: Sequence[Substation], jobs: Sequence[Job]
) -> tuple[float | None, float | None]:
    """Return the peaks of utilisation and power, if all substations shared the load evenly."""
    known = [each for each in substations if each.connectors]
    connectors = sum(each.connectors or 0.0 for each in known)
    sessions = all_sessions(jobs).peak / connectors if connectors else None
    rated = sum(each.rated_power_kw or 0.0 for each in substations)
    background = sum(each.background_power_kw or 0.0 for each in substations)
    is_rated = all(each.rated_power_kw for each in substations)
    power = (all_power(jobs).peak + background) / rated if rated and is_rated else None
    return sessions, power


def _spreads(jobs: Sequence[Job], run: Run) -> tuple[float | None, float | None]:
    judged, own = judge(jobs, run.connectors), accepted_jobs(run)
    spreads = [judged[each.id].spread for each in jobs if each.id in own and each.id in judged]
    return (max(spreads), fmean(spreads)) if spreads else (None, None)


def _waits(jobs: Iterable[Job], own: frozenset[str]) -> Percentiles | None:
    return percentiles(list(waits_of(each for each in jobs if each.id in own)))


def _percentiles(
    name: str, label: str, group: str, found: Percentiles | None, floor: Percentiles | None
) -> Iterator[Figure]:
    for part in Percentiles._fields:
        value = None if found is None else getattr(found, part)
        least = None if floor is None else getattr(floor, part)
        yield Figure(f"{name}_{part}", f"{label}, {part}", group, value, least, "seconds", LOW)
