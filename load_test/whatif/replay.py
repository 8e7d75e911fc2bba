"""Recorded jobs, replayed in virtual time by the dispatcher's own scheduler. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from grid.events import State
from grid.messages import ChargeRequest
from load_test.central import charged, durations
from load_test.records import Job
from load_test.simulate.compare import setting_of
from load_test.simulate.engine import Simulation
from load_test.simulate.policies import POLICIES
from load_test.simulate.scenario import Setting, Site, Trace
from load_test.whatif.latencies import Latencies
from scheduling.order import Order, Requirements, requirements

if TYPE_CHECKING:
    from random import Random


class Chosen(NamedTuple):
    """The jobs that can be replayed, and how many cannot, by the reason."""

    jobs: list[Job]
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True)
class World:
    """The substations of a replay, and what the dispatcher learns of them when.

    ``period`` is that of the pages, in s; ``send_ahead`` as in the dispatcher's settings;
    ``charge_speed`` is how many seconds of charging pass in one, as the dispatcher takes it.
    """

    sites: Sequence[Site]
    latencies: Latencies
    period: float = 0.5
    send_ahead: bool = True
    charge_speed: float = 1.0

    @property
    def places(self) -> int:
        """Return how many sessions are allowed at once."""
        return sum(min(site.connectors, site.limit or site.connectors) for site in self.sites)

    def setting(self) -> Setting:
        """Return it as the simulation wants it."""
        return Setting(
            tuple(site.connectors for site in self.sites),
            period=self.period,
            event_latency=self.latencies.event,
            send_ahead=self.send_ahead,
            request_latency=self.latencies.request,
            dispatch_latency=self.latencies.dispatch,
        )

    def cannot_charge(self, job: Job) -> bool:
        """Return whether no substation would ever charge a job."""
        power_kw = _request(job).power_kw
        return not any(
            site.rated_power_kw is None
            or (site.background_power_kw or 0.0) + power_kw <= site.rated_power_kw
            for site in self.sites
            if not job.eligible or site.name in job.eligible
        )


def chosen(jobs: Sequence[Job]) -> Chosen:
    """Return the jobs that can be replayed, in the order of their requests.

    A job that was cancelled or parked before it began is left out: nobody knows how long its
    session would have been. One that still waits or charges is left out as well.
    """
    left_out: dict[str, int] = {}
    found = []
    for job in jobs:
        if (why := _reason_against(job)) is None:
            found.append(job)
        else:
            left_out[why] = left_out.get(why, 0) + 1
    return Chosen(sorted(found, key=lambda job: (job.queued or 0.0, job.id)), left_out)


def _reason_against(job: Job) -> str | None:
    if job.queued is None:
        return "without a request in the log"
    if not job.has_ended:
        return "still in progress"
    if job.status is State.EXPIRED:
        return None if job.expires_at is not None else "expired without a departure"
    return None if job.charging is not None else f"{job.status} before they began"


def replayed(
    jobs: Sequence[Job], world: World, policy: str, random: Random, order: Order | None = None
) -> list[Job]:
    """Return the jobs as they would have gone in a world, under a policy and an order.

    Each arrives when it did, and its session takes as long as it did; one that its vehicle's
    departure has cut short, as long as it would have. A policy other than the
    project's own sends at once, as it usually does. What no substation would charge is left out.
    """
    possible = [each for each in jobs if not world.cannot_charge(each)]
    if not possible:
        return []
    origin = possible[0].queued or 0.0
    seconds = durations(jobs)
    trace = Trace(
        [(each.queued or 0.0) - origin for each in possible],
        [_session_seconds(each, seconds(each)) for each in possible],
    )
    outcome = Simulation(
        setting_of(policy, world.setting()),
        trace,
        POLICIES[policy](),
        random,
        needs=[_needs(each, origin, world.charge_speed) for each in possible],
        charge_speed=world.charge_speed,
        sites=world.sites,
        order=order,
    ).run()
    found = []
    for number, job in enumerate(possible):
        sent, start, end = outcome.sent[number], outcome.starts[number], outcome.ends[number]
        station = outcome.stations[number]
        done = replace(
            job,
            status=State.EXPIRED,
            substation=None if station is None else world.sites[station].name,
            assigned=None if sent is None else origin + sent,
            charging=None,
            ended=job.expires_at,
            duplicates=0,
        )
        if start is not None and end is not None:
            begun, ended = origin + start, origin + end
            done = (
                charged(done, begun, ended, trace.durations[number])
                if job.status in (State.COMPLETED, State.EXPIRED)
                else replace(done, status=job.status, charging=begun, ended=ended)
            )
        found.append(done)
    return found


def _session_seconds(job: Job, otherwise: float) -> float:
    """Return how long a whole session takes; one that was cancelled, as long as it took."""
    if job.status is not State.COMPLETED and job.charging is not None and job.ended is not None:
        return max(0.0, job.ended - job.charging)
    return otherwise


def _needs(job: Job, origin: float, speed: float) -> Requirements:
    needs = requirements(_request(job), speed)
    priority, latest, requested_at, name = needs.rank
    rank = (priority, latest - origin, requested_at - origin, name)
    return structs.replace(
        needs,
        rank=rank,
        departs_at=needs.departs_at - origin,
        waits_until=needs.waits_until - origin,
    )


def _request(job: Job) -> ChargeRequest:
    return ChargeRequest(
        id=job.id,
        requested_at=job.queued or 0.0,
        requested_energy_kwh=job.requested_kwh,
        requested_power_kw=job.power_kw,
        departure_time=job.departs,
        priority=job.priority,
        eligible_substations=job.eligible,
        tenant=job.tenant,
        max_wait_seconds=job.max_wait,
    )
