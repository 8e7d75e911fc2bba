"""What would have happened: a replay as it was agrees with what did, and others differ rightly."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from grid.events import State
from load_test.records import Job
from load_test.simulate.scenario import Site
from load_test.whatif.latencies import NONE, measured
from load_test.whatif.replay import World, chosen, replayed
from load_test.whatif.table import Agreement, Column, agreement, column
from tests.load_test.whatif.recordings import (
    DISPATCH,
    EVENT,
    ORIGIN,
    REQUEST,
    SITES,
    alike,
    recorded,
    requests,
)


def world_of(jobs: list[Job]) -> World:
    """Return the world of a recording, with what can be measured from it."""
    return World(SITES, measured(jobs, World(SITES, NONE).places))


def gone(jobs: list[Job], world: World, policy: str = "least-loaded", seed: int = 0) -> Column:
    """Return the figures of jobs that are replayed."""
    found = replayed(jobs, world, policy, Random(seed))  # noqa: S311
    return column(policy, found, world.sites, len(jobs) - len(found))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_replay_under_the_same_policy_agrees_within_two_percent(seed: int) -> None:
    """The mean wait, and each substation's share of the load, of 2000 jobs at a busy hour."""
    jobs = recorded(alike(2000, 5.0, seed))
    did = column("did happen", jobs, SITES)
    assert (did.figures["mean_wait"] or 0.0) > 0.5
    found = agreement(did, [gone(jobs, world_of(jobs))])
    assert found.wait is not None
    assert abs(found.wait) <= 0.02
    assert found.within(0.02), found


@pytest.mark.parametrize("departures", [False, True])
def test_replay_of_a_mixed_hour_agrees_as_far_as_chance_allows(
    departures: bool,  # noqa: FBT001
) -> None:
    """Different powers, priorities and departures: what did happen is one draw among others."""
    jobs = recorded(requests(2000, 5.2, seed=4, departures=departures))
    did = column("did happen", jobs, SITES)
    assert bool(did.figures["expired"]) is departures
    found = agreement(did, [gone(jobs, world_of(jobs), seed=seed) for seed in range(3)])
    assert found.lowest <= (found.wait or 0.0) <= found.highest
    assert found.within(0.02), found


def test_agreement_is_with_some_draw() -> None:
    """And never with a share of the load that is another."""
    assert Agreement(-1.0, -0.1, -0.2, -0.01, 0.01).within(0.02)
    assert not Agreement(-1.0, -0.1, -0.2, -0.03, 0.01).within(0.02)
    assert not Agreement(1.0, 0.1, 0.03, 0.2, 0.01).within(0.02)
    assert Agreement(0.01, 2.0, 2.0, 2.0, 0.0).within(0.02)  # the network, where nobody waits
    assert not Agreement(0.0, 0.0, 0.0, 0.0, 0.03).within(0.02)


def test_replay_measures_the_latencies_of_the_real_system() -> None:
    """As they were; without jobs there are none."""
    jobs = recorded(requests(2000, 4.5, seed=1, departures=False))
    found = world_of(jobs).latencies
    assert found.request == pytest.approx(REQUEST, abs=1e-4)
    assert found.dispatch == pytest.approx(DISPATCH, abs=1e-4)
    assert found.event == pytest.approx(EVENT, rel=0.5)
    assert measured([], 3) == NONE == (0.0, 0.0, 0.0)


def test_latency_of_a_request_is_not_measured_from_jobs_that_waited_behind_others() -> None:
    """On a slow machine connectors are free between two sessions, while a queue waits for them."""
    jobs = recorded(alike(2000, 5.5, seed=1), dispatch=0.25)
    found = world_of(jobs).latencies
    assert found.request == pytest.approx(REQUEST, abs=1e-4)
    assert found.dispatch == pytest.approx(0.25, abs=1e-4)
    did = column("did happen", jobs, SITES)
    assert (did.figures["mean_wait"] or 0.0) > 10
    assert agreement(did, [gone(jobs, world_of(jobs))]).within(0.02)


def test_latencies_of_jobs_that_come_at_once_are_of_those_that_found_a_connector() -> None:
    """A batch has one time: as many as there are connectors are the first, and waited for none."""
    [job] = recorded(alike(1, 0.5, seed=1))
    late = (job.ended or 0.0) + 100.0
    places = World(SITES, NONE).places
    batch = [
        replace(
            job,
            id=f"b{n}",
            queued=late,
            assigned=late + 0.5,
            charging=late + 0.6,
            ended=late + 9,
        )
        for n in range(places)
    ]
    found = measured(batch, places)
    assert found == pytest.approx((0.5, 0.1, 0.0), abs=1e-4)


def test_replay_keeps_each_jobs_arrival_session_and_requirements() -> None:
    """Only when and where it charges may differ; a job stays where it is eligible.

    A session that a departure cuts is as long as it would have been; its energy tells.
    """
    jobs = recorded(requests(500, 5.0, seed=2, departures=True))
    found = replayed(jobs, world_of(jobs), "least-loaded", Random(0))  # noqa: S311
    assert [each.id for each in found] == [each.id for each in jobs]
    for before, after in zip(jobs, found, strict=True):
        assert (after.queued, after.power_kw) == (before.queued, before.power_kw)
        assert not after.eligible or after.substation in (None, *after.eligible)
        if before.whole_seconds is not None and after.whole_seconds is not None:
            assert after.whole_seconds == pytest.approx(before.whole_seconds, abs=1e-5)
        if after.charging is not None and after.departs is not None:
            assert after.charging < after.departs
            assert (after.ended or 0.0) <= after.departs + 1e-6
    assert any((each.delivered_kwh or 9) < (each.requested_kwh or 0) for each in found)


def test_more_connectors_shorten_the_wait_and_fewer_lengthen_it() -> None:
    """By how much is what the command is for."""
    jobs = recorded(requests(800, 5.2, seed=4, departures=False))
    world = world_of(jobs)
    waits = []
    for more in (-1, 0, 4):
        sites = [site._replace(connectors=site.connectors + more) for site in SITES]
        waits.append(gone(jobs, replace(world, sites=sites)).figures["mean_wait"] or 0.0)
    assert waits[0] > 1.5 * waits[1] > 1.5 * waits[2]


def test_limit_and_rated_power_hold_in_a_replay() -> None:
    """A substation never has more sessions, nor more power, than it may."""
    jobs = recorded(requests(500, 5.0, seed=3, departures=False))
    found = gone(jobs, world_of(jobs))
    assert found.figures["peak_utilisation"] == 1.0
    assert (found.figures["peak_power"] or 9.0) <= 1.0
    assert found.figures["overload_minutes"] == 0
    sites = [SITES[0], SITES[1], SITES[2]._replace(limit=2)]
    limited = gone(jobs, replace(world_of(jobs), sites=sites))
    assert limited.figures["overload_minutes"] == 0
    assert limited.shares["west"] < 0.6 * found.shares["west"]


def test_other_policies_spread_the_load_less_evenly() -> None:
    """As in the simulation: they go by the gauge of the last page."""
    jobs = recorded(requests(800, 4.5, seed=5, departures=False))
    world = world_of(jobs)
    ours = gone(jobs, world).figures["spread"] or 9.0
    assert (gone(jobs, world, "random").figures["spread"] or 0.0) > 2 * ours


def test_jobs_that_nothing_would_charge_are_counted() -> None:
    """As those of a substation that would not have been there, or of too much power."""
    jobs = recorded(requests(300, 3.0, seed=6, departures=False))
    only_west = replace(world_of(jobs), sites=[SITES[2]])
    named = sum(bool(each.eligible) for each in jobs)
    assert gone(jobs, only_west).figures["impossible"] == named > 0
    weak = replace(world_of(jobs), sites=[Site("north", 9, rated_power_kw=10.0)])
    assert gone(jobs, weak).figures["impossible"] == sum(
        (each.power_kw or 0.0) > 10.0 for each in jobs
    )
    assert replayed(jobs, replace(only_west, sites=[]), "random", Random(0)) == []  # noqa: S311


def test_jobs_that_cannot_be_replayed_are_left_out_by_their_reason() -> None:
    """What charges still, what was cancelled or parked before it began, what has no request."""
    done = Job("1", State.COMPLETED, "a", ORIGIN, ORIGIN, ORIGIN, ORIGIN + 3)
    cut = replace(done, id="2", queued=ORIGIN - 1, status=State.CANCELLED, ended=ORIGIN + 1)
    jobs = [
        done,
        cut,
        replace(cut, id="3", charging=None),
        replace(cut, id="4", charging=None, status=State.PARKED),
        replace(done, id="5", status=State.CHARGING, ended=None),
        replace(done, id="6", queued=None),
        replace(done, id="7", status=State.EXPIRED, charging=None),
    ]
    found = chosen(jobs)
    assert [each.id for each in found.jobs] == ["2", "1"]
    assert found.left_out == {
        "cancelled before they began": 1,
        "parked before they began": 1,
        "still in progress": 1,
        "without a request in the log": 1,
        "expired without a departure": 1,
    }
    world = World([Site("a", 1)], NONE)
    first, second = replayed(found.jobs, world, "least-loaded", Random(0))  # noqa: S311
    assert (first.status, first.charging, first.ended) == (State.CANCELLED, ORIGIN - 1, ORIGIN)
    assert (second.charging, second.ended) == (ORIGIN, ORIGIN + 3)
