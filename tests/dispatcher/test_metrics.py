"""The dispatcher's metrics page shows the ledger as of the moment it is asked for."""

from __future__ import annotations

import math

from grid.controls import Availability, Control
from tests.dispatcher.harness import Bench, body, confirming
from tests.fake_broker import turns


async def test_the_page_has_each_substation_as_a_decision_would_see_it() -> None:
    """Load, power, what is on its way, the gauge's age, and whether jobs may be sent there."""
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


async def test_the_age_of_a_gauge_that_was_never_read_is_no_number() -> None:
    """It is not 0, which would be the youngest of all."""
    bench = Bench(confirming())
    bench.tracker.keep({"s1": None})
    assert math.isnan(bench.count("substation_gauge_age_seconds", substation="s1"))


async def test_a_substation_that_is_left_out_for_failing_is_shown() -> None:
    """One that falls again and again is ejected for a while after it comes back."""
    bench = Bench(confirming(), "s1", "s2")
    assert bench.count("substation_ejected", substation="s1") == 0
    for _ in range(9):
        bench.tracker.refuse("s1", "its queue does not take jobs", bench.now)
        bench.read("s1")
    assert bench.count("substation_ejected", substation="s1") == 1
    assert bench.count("substation_eligible", substation="s1") == 0
    assert bench.count("substation_ejected", substation="s2") == 0


async def test_a_substation_that_is_drained_is_shown() -> None:
    """That it gets no jobs is then as an operator wants it, and nothing to be alarmed at."""
    bench = Bench(confirming(), "s1", "s2")
    assert bench.count("substation_drained", substation="s1") == 0
    bench.tracker.control("s1", Control("s1", Availability.DRAINING, None, 1))
    assert bench.count("substation_drained", substation="s1") == 1
    assert bench.count("substation_eligible", substation="s1") == 0
    assert bench.count("substation_drained", substation="s2") == 0


async def test_it_is_shown_that_no_gauge_is_current() -> None:
    """Then the load tracker alone decides; one page that is read ends it."""
    bench = Bench(confirming(), "s1", "s2")
    assert bench.count("gauges_all_stale") == 0
    bench.lose("s1")
    assert bench.count("gauges_all_stale") == 0
    bench.lose("s2")
    assert bench.count("gauges_all_stale") == 1
    bench.read("s1")
    assert bench.count("gauges_all_stale") == 0


async def test_those_that_wait_and_the_spread_are_shown() -> None:
    """How many are held for room, and how far apart the substations are."""
    bench = Bench(confirming(), "s1", "s2", connectors=4)
    bench.read("s1", load=4)
    bench.read("s2", load=1)
    bench.queue.bring(body("j1", "s1"), "j1")
    await turns()
    assert bench.count("waiting_requests") == 1
    assert bench.count("load_spread") == 3
