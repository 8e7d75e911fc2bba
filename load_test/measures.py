"""The field's measures of a run: what vehicles got, and what substations bore. Pure.

A demand is met if less than ``THRESHOLD_KWH`` of what was requested is missing when the vehicle
leaves, as in ACN-Sim, and less than ``THRESHOLD_SHARE``: energies may be scaled down.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from grid.events import State
from grid.messages import DEFAULT_POWER_KW
from load_test.records import Job, Substation
from load_test.steps import Steps, present, stacked

THRESHOLD_KWH: Final = 0.1
THRESHOLD_SHARE: Final = 0.01
_MINUTE: Final = 60.0
_FULL: Final = 1.0 - 1e-9
WHOLE: Final = 1.0 - 1e-6  # of a demand, in virtual time: nothing but rounding disturbs it


@dataclass(frozen=True, slots=True)
class Measures:
    """What was reached; what nothing is known of is None.

    Shares are from 0 to 1. ``demands_met`` is of the jobs, ``energy_delivered`` of the energy they
    requested, until they left; ``longest_wait`` is in s. ``peak_utilisation`` is of a substation's
    connectors, ``peak_power`` of its rated power. ``overload_minutes`` are those in which a
    substation drew more than that, or charged more than an operator allows, over all substations.
    Fairness is Jain's index, from 1/n to 1: of the substations' mean utilisation, and of the share
    of the energy requested that vehicles, and tenants, got; the latter only where there are some.
    """

    demands_met: float | None
    energy_delivered: float | None
    delivered_kwh: float
    mean_wait: float | None
    longest_wait: float | None
    peak_utilisation: float | None
    peak_power: float | None
    overload_minutes: float | None
    fairness_substations: float | None
    fairness_vehicles: float | None
    fairness_tenants: float | None


def measure(
    jobs: Sequence[Job],
    own: Collection[str],
    substations: Sequence[Substation],
    speed: float = 1.0,
) -> Measures:
    """Return the measures of all jobs; those of vehicles are of the ``own`` jobs alone.

    ``speed`` is how many seconds pass for the vehicles in one of the run: minutes are theirs.
    """
    mine = [each for each in jobs if each.id in own]
    got = [delivered_share(each) for each in mine]
    wanted = [each.requested_kwh or 0.0 for each in mine]
    waits = list(waits_of(mine))
    sessions = sessions_over_time(jobs)
    since, until = span(jobs)
    peaks, powers, overload = [], [], 0.0
    for each in substations:
        load = sessions.get(each.id, Steps((), ()))
        if each.connectors:
            peaks.append(load.peak / each.connectors)
        overload += load.seconds_above(each.limit) if each.limit is not None else 0.0
        if each.rated_power_kw:
            power, background = power_over_time(jobs, each.id), each.background_power_kw or 0.0
            powers.append((power.peak + background) / each.rated_power_kw)
            overload += power.seconds_above(each.rated_power_kw - background)
    return Measures(
        demands_met=_mean([is_met(each) for each in mine]),
        energy_delivered=_share(_products(got, wanted), sum(wanted)),
        delivered_kwh=_products(got, wanted),
        mean_wait=_mean(waits),
        longest_wait=max(waits, default=None),
        peak_utilisation=max(peaks, default=None),
        peak_power=max(powers, default=None),
        overload_minutes=overload * speed / _MINUTE if substations else None,
        fairness_substations=jain(
            [
                sessions[each.id].mean(since, until) / each.connectors
                if each.id in sessions
                else 0.0
                for each in substations
                if each.connectors
            ]
        ),
        fairness_vehicles=jain(got),
        fairness_tenants=jain(_tenant_shares(mine, got, wanted)),
    )


def delivered_share(job: Job) -> float:
    """Return which share of what was requested a job's session delivered until it left.

    A substation that goes on after the departure delivers that to nobody.
    """
    if job.charging is None or job.ended is None:
        return 0.0
    share = _share(job.delivered_kwh or 0.0, job.requested_kwh or 0.0)
    if job.status is not State.COMPLETED:
        return min(1.0, share or 0.0)
    if share is None or job.delivered_kwh is None:
        share = 1.0
    if job.departs is None or job.ended <= job.departs:
        return min(1.0, share)
    seconds = job.ended - job.charging
    return min(1.0, share) * max(0.0, job.departs - job.charging) / seconds if seconds > 0 else 0.0


def is_met(job: Job) -> bool:
    """Return whether a job got what it requested until it left, but for the threshold."""
    share = delivered_share(job)
    if not job.requested_kwh:
        return share >= _FULL
    missing = 1.0 - share
    return missing < THRESHOLD_SHARE and job.requested_kwh * missing < THRESHOLD_KWH


def jain(values: Sequence[float]) -> float | None:
    """Return Jain's index of fairness: 1 if all have the same; None if nobody has anything."""
    most = max(values, default=0.0)
    if not most:
        return None
    shares = [each / most for each in values]  # squares of tiny values underflow
    return sum(shares) ** 2 / (len(shares) * sum(each * each for each in shares))


def waits_of(jobs: Iterable[Job]) -> Iterable[float]:
    """Yield how long each job waited that has begun to charge or has expired, in s."""
    for job in jobs:
        until = job.ended if job.status is State.EXPIRED else job.charging
        if job.queued is not None and until is not None:
            yield max(0.0, until - job.queued)


def span(jobs: Iterable[Job]) -> tuple[float, float]:
    """Return the first and the last time that the jobs tell of, in Unix seconds."""
    times = [
        time
        for job in jobs
        for time in (job.queued, job.assigned, job.charging, job.ended)
        if time is not None
    ]
    return min(times, default=0.0), max(times, default=0.0)


def sessions_over_time(jobs: Sequence[Job]) -> Mapping[str, Steps]:
    """Return how many sessions each substation had, over time."""
    intervals: dict[str, list[tuple[float, float]]] = {}
    for name, begin, end, _ in _sessions(jobs):
        intervals.setdefault(name, []).append((begin, end))
    return {name: present(each) for name, each in intervals.items()}


def power_over_time(jobs: Sequence[Job], substation: str) -> Steps:
    """Return what the sessions at a substation drew together, in kW, over time."""
    return _power(each for each in _sessions(jobs) if each[0] == substation)


def all_sessions(jobs: Sequence[Job]) -> Steps:
    """Return how many sessions all substations had together, over time."""
    return present((begin, end) for _, begin, end, _ in _sessions(jobs))


def all_power(jobs: Sequence[Job]) -> Steps:
    """Return what all sessions drew together, in kW, over time."""
    return _power(_sessions(jobs))


def waiting_over_time(jobs: Sequence[Job]) -> Steps:
    """Return how many jobs waited to begin, over time."""
    _, last = span(jobs)
    begun = ((each.queued, each.charging or each.ended or last) for each in jobs)
    return present((begin, end) for begin, end in begun if begin is not None)


def _tenant_shares(
    jobs: Sequence[Job], got: Sequence[float], wanted: Sequence[float]
) -> list[float]:
    """Return the share of its energy that each tenant got."""
    sums: dict[str, tuple[float, float]] = {}
    for job, share, energy in zip(jobs, got, wanted, strict=True):
        if job.tenant is not None:
            delivered, all_of_it = sums.get(job.tenant, (0.0, 0.0))
            sums[job.tenant] = delivered + share * energy, all_of_it + energy
    return [delivered / all_of_it for delivered, all_of_it in sums.values() if all_of_it]


def _sessions(jobs: Sequence[Job]) -> Iterable[tuple[str, float, float, float]]:
    _, last = span(jobs)
    for job in jobs:
        if job.substation is not None and job.charging is not None:
            end = last if job.ended is None else job.ended
            yield (
                job.substation,
                job.charging,
                max(job.charging, end),
                job.power_kw or DEFAULT_POWER_KW,
            )


def _power(sessions: Iterable[tuple[str, float, float, float]]) -> Steps:
    return stacked((begin, end, power_kw) for _, begin, end, power_kw in sessions)


def _products(left: Iterable[float], right: Iterable[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
