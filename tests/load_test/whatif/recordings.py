"""Recorded runs: jobs as the event log would have them, made by the real scheduler in virtual time.

The scheduler, load tracker and wait queue are the dispatcher's own. Pages come at their own phases,
events, requests and jobs take their time, and ties are drawn otherwise than in any replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from msgspec.structs import replace

from grid.events import State
from grid.messages import ChargeRequest
from load_test.records import Job
from load_test.simulate.engine import Simulation
from load_test.simulate.policies import POLICIES
from load_test.simulate.scenario import Setting, Site, Trace
from scheduling.order import requirements

ORIGIN = 1_800_000_000.0
SITES = (
    Site("north", 4, rated_power_kw=60.0, background_power_kw=5.0),
    Site("south", 6),
    Site("west", 10, limit=8),
)
REQUEST, DISPATCH, EVENT = 0.004, 0.003, 0.006


def alike(count: int, rate: float, seed: int) -> list[ChargeRequest]:
    """Draw requests of vehicles that are alike, at random times."""
    random = Random(seed)  # noqa: S311
    at, found = ORIGIN, []
    for number in range(count):
        at += random.expovariate(rate)
        found.append(ChargeRequest(id=f"job{number:05}", requested_at=at))
    return found


def requests(count: int, rate: float, seed: int, *, departures: bool) -> list[ChargeRequest]:
    """Draw requests of different powers, priorities and departures, at random times."""
    random = Random(seed)  # noqa: S311
    at, found = ORIGIN, []
    for number in range(count):
        at += random.expovariate(rate)
        found.append(
            ChargeRequest(
                id=f"job{number:05}",
                requested_at=at,
                requested_energy_kwh=random.uniform(0.005, 0.03),
                requested_power_kw=random.choice([7.4, 11.0, 22.0]),
                departure_time=at + random.uniform(0.5, 20) if departures else None,
                priority=random.choice([0, 0, 0, 5]),
                eligible_substations=("north", "south") if random.random() < 0.1 else (),
            )
        )
    return found


def recorded(
    asked: Sequence[ChargeRequest],
    seed: int = 99,
    sites: Sequence[Site] = SITES,
    dispatch: float = DISPATCH,
) -> list[Job]:
    """Return the jobs of a run of these requests; each session takes 2 to 5 s.

    A job is in a substation's queue ``dispatch`` seconds after it was sent there.
    """
    random = Random(seed)  # noqa: S311
    durations = [random.uniform(2, 5) for _ in asked]
    setting = Setting(
        tuple(site.connectors for site in sites),
        period=0.5,
        event_latency=EVENT,
        request_latency=REQUEST,
        dispatch_latency=dispatch,
    )
    needs = [requirements(each) for each in asked]
    outcome = Simulation(
        setting,
        Trace([each.requested_at - ORIGIN for each in asked], durations),
        POLICIES["least-loaded"](),
        random,
        needs=[replace(each, departs_at=each.departs_at - ORIGIN) for each in needs],
        sites=sites,
    ).run()
    return [
        Job(
            id=each.id,
            status=State.EXPIRED if start is None else State.COMPLETED,
            substation=None if station is None else sites[station].name,
            queued=each.requested_at,
            assigned=None if sent is None else ORIGIN + sent,
            charging=None if start is None else ORIGIN + start,
            ended=each.departure_time if end is None else ORIGIN + end,
            eligible=each.eligible_substations,
            requested_kwh=each.requested_energy_kwh,
            power_kw=each.requested_power_kw,
            departs=each.departure_time,
            priority=each.priority,
            delivered_kwh=_delivered(each, duration, start, end),
        )
        for each, duration, sent, station, start, end in zip(
            asked,
            durations,
            outcome.sent,
            outcome.stations,
            outcome.starts,
            outcome.ends,
            strict=True,
        )
    ]


def _delivered(
    request: ChargeRequest, duration: float, start: float | None, end: float | None
) -> float | None:
    if request.requested_energy_kwh is None or start is None or end is None:
        return None
    return request.requested_energy_kwh * (end - start) / duration
