"""The dispatcher's metrics page shows the ledger as of the moment it is asked for."""

from __future__ import annotations

import math

from grid.controls import Availability, Control
from tests.dispatcher.harness import Bench, body, confirming
from tests.fake_broker import turns


async def test_metrics_show_each_substation_as_a_decision_sees_it() -> None:
    """Load, power, jobs in flight, the gauge's age, and whether jobs may be sent there."""
    bench = Bench(confirming(), "s1", "s2", connectors=10)
    bench.arrive("s1", rated_power_kw=100.0)
    bench.read("s2", load=5)
    bench.tracker.control("s2", Control("s2", Availability.DRAINING, None, 1))
    bench.queue.bring(body("j1", "s1", requested_power_kw=50.0), "j1")
    await turns()
    bench.now += 2
    assert bench.count("substation_load", substation="s1") == 1
    assert bench.count("substation_outstanding", substation="s1") == 1
    assert bench.count("substation_power_kw", substation="s1") == 50
    assert bench.count("substation_utilisation", substation="s1") == 0.5
    assert bench.count("substation_eligible", substation="s1") == 1
    assert bench.count("substation_gauge_age_seconds", substation="s2") == 2
    assert bench.count("substation_load", substation="s2") == 5
    assert bench.count("substation_eligible", substation="s2") == 0
    assert bench.count("load_spread") == 0, "of those that may be chosen"


async def test_metrics_show_age_of_unread_gauge_as_nan() -> None:
    """Zero would be the youngest age of all."""
    bench = Bench(confirming())
    bench.tracker.keep({"s1": None})
    assert math.isnan(bench.count("substation_gauge_age_seconds", substation="s1"))


async def test_metrics_show_ejected_substation() -> None:
    """One that fails repeatedly is ejected for a while after it is back."""
    bench = Bench(confirming(), "s1", "s2")
    assert bench.count("substation_ejected", substation="s1") == 0
    for _ in range(9):
        bench.tracker.refuse("s1", "its queue does not take jobs", bench.now)
        bench.read("s1")
    assert bench.count("substation_ejected", substation="s1") == 1
    assert bench.count("substation_eligible", substation="s1") == 0
    assert bench.count("substation_ejected", substation="s2") == 0


async def test_metrics_show_drained_substation() -> None:
    """An operator wants it to get no jobs, so nobody has to be alerted."""
    bench = Bench(confirming(), "s1", "s2")
    assert bench.count("substation_drained", substation="s1") == 0
    bench.tracker.control("s1", Control("s1", Availability.DRAINING, None, 1))
    assert bench.count("substation_drained", substation="s1") == 1
    assert bench.count("substation_eligible", substation="s1") == 0
    assert bench.count("substation_drained", substation="s2") == 0


async def test_metrics_show_that_no_gauge_is_current() -> None:
    """The load tracker alone decides then; one page that is read ends that."""
    bench = Bench(confirming(), "s1", "s2")
    assert bench.count("gauges_all_stale") == 0
    bench.lose("s1")
    assert bench.count("gauges_all_stale") == 0
    bench.lose("s2")
    assert bench.count("gauges_all_stale") == 1
    bench.read("s1")
    assert bench.count("gauges_all_stale") == 0


async def test_metrics_show_waiting_requests_and_load_spread() -> None:
    """How many requests wait for capacity, and how far apart the loads are."""
    bench = Bench(confirming(), "s1", "s2", connectors=4)
    bench.read("s1", load=4)
    bench.read("s2", load=1)
    bench.queue.bring(body("j1", "s1"), "j1")
    await turns()
    assert bench.count("waiting_requests") == 1
    assert bench.count("load_spread") == 3
