"""The dispatcher's metrics page shows the load tracker at the time of the scrape."""

from __future__ import annotations

import math

from dispatcher.inputs import ControlChanged, Tick
from dispatcher.targets import Target
from grid.controls import Availability, Control, PowerBlock, PowerLimits
from tests.dispatcher.harness import AT, Harness, body, confirming
from tests.fake_broker import turns


async def test_metrics_show_each_substation_as_a_decision_sees_it() -> None:
    """Load, power, jobs in flight, the gauge's age, and whether jobs may be sent there."""
    harness = Harness(confirming(), "s1", "s2", connectors=10)
    harness.arrive("s1", rated_power_kw=100.0)
    harness.read("s2", load=5)
    harness.tracker.control("s2", Control("s2", Availability.DRAINING, None, 1))
    harness.queue.bring(body("j1", "s1", requested_power_kw=50.0), "j1")
    await turns()
    harness.now += 2
    assert harness.count("substation_load", substation="s1") == 1
    assert harness.count("substation_outstanding", substation="s1") == 1
    assert harness.count("substation_power_kw", substation="s1") == 50
    assert harness.count("substation_utilisation", substation="s1") == 0.5
    assert harness.count("substation_eligible", substation="s1") == 1
    assert harness.count("substation_gauge_age_seconds", substation="s2") == 2
    assert harness.count("substation_load", substation="s2") == 5
    assert harness.count("substation_eligible", substation="s2") == 0
    assert harness.count("load_spread") == 0, "of those that may be chosen"


async def test_metrics_show_age_of_unread_gauge_as_nan() -> None:
    """Zero would be the youngest age of all."""
    harness = Harness(confirming())
    harness.tracker.keep({"s1": None})
    assert math.isnan(harness.count("substation_gauge_age_seconds", substation="s1"))


async def test_metrics_show_ejected_substation() -> None:
    """One that fails repeatedly is ejected for a while after it is back."""
    harness = Harness(confirming(), "s1", "s2")
    assert harness.count("substation_ejected", substation="s1") == 0
    for _ in range(9):
        harness.tracker.refuse("s1", "its queue does not take jobs", harness.now)
        harness.read("s1")
    assert harness.count("substation_ejected", substation="s1") == 1
    assert harness.count("substation_eligible", substation="s1") == 0
    assert harness.count("substation_ejected", substation="s2") == 0


async def test_metrics_show_drained_substation() -> None:
    """An operator wants it to get no jobs, so nobody has to be alerted."""
    harness = Harness(confirming(), "s1", "s2")
    assert harness.count("substation_drained", substation="s1") == 0
    harness.tracker.control("s1", Control("s1", Availability.DRAINING, None, 1))
    assert harness.count("substation_drained", substation="s1") == 1
    assert harness.count("substation_eligible", substation="s1") == 0
    assert harness.count("substation_drained", substation="s2") == 0


async def test_metrics_show_that_no_gauge_is_current() -> None:
    """The load tracker alone decides then; one page that is read ends that."""
    harness = Harness(confirming(), "s1", "s2")
    assert harness.count("gauges_all_stale") == 0
    harness.fail_page("s1")
    assert harness.count("gauges_all_stale") == 0
    harness.fail_page("s2")
    assert harness.count("gauges_all_stale") == 1
    harness.read("s1")
    assert harness.count("gauges_all_stale") == 0


async def test_metrics_show_waiting_requests_and_load_spread() -> None:
    """How many requests wait for capacity, and how far apart the loads are."""
    harness = Harness(confirming(), "s1", "s2", connectors=4)
    harness.read("s1", load=4)
    harness.read("s2", load=1)
    harness.queue.bring(body("j1", "s1"), "j1")
    await turns()
    assert harness.count("waiting_requests") == 1
    assert harness.count("load_spread") == 3


async def test_metrics_show_limit_of_an_operator() -> None:
    """Requests that wait beside it are no fault."""
    harness = Harness(confirming(), "s1", "s2")
    assert math.isnan(harness.count("substation_limit", substation="s1"))
    harness.tracker.control("s1", Control("s1", Availability.AVAILABLE, 2, 1))
    assert harness.count("substation_limit", substation="s1") == 2
    assert math.isnan(harness.count("substation_limit", substation="s2"))


async def test_metrics_show_power_limit_that_holds_now() -> None:
    """It begins and ends by the clock, which ticks tell; without one it is no number."""
    harness = Harness(confirming(), "s1", "s2")
    limits = PowerLimits((PowerBlock(AT + 10, AT + 20, 30.0),), "dso", AT)
    control = Control("s1", Availability.AVAILABLE, None, 1, limits)
    harness.shell.feed(ControlChanged("s1", control))
    found = []
    for seconds in (9.9, 10, 19.9, 20):
        harness.at, harness.now = AT + seconds, seconds
        harness.shell.feed(Tick(connected=True))
        found.append(harness.count("substation_power_limit_kw", substation="s1"))
    assert [math.isnan(each) for each in found] == [True, False, False, True]
    assert found[1:3] == [30, 30]
    assert math.isnan(harness.count("substation_power_limit_kw", substation="s2"))


async def test_metrics_count_takeovers() -> None:
    """A dispatcher that gets requests after another was active has taken over."""
    harness = Harness(confirming(), "s1")
    before = harness.count("takeovers_total")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert harness.count("takeovers_total") == before
    harness.standby.heard("other", harness.now)
    harness.queue.bring(body("j3"), "j3")
    await turns()
    assert harness.count("takeovers_total") == before + 1


async def test_metrics_show_addresses_of_targets_as_prometheus_names_them() -> None:
    """So that both can be compared; a substation that left has none."""
    harness = Harness(confirming())
    label = Target("s2", "http://s2.invalid/metrics", labels={"instance": "the label"})
    harness.watch.on_targets({"s1": Target("s1", "http://[::1]/metrics"), "s2": label})
    assert harness.count("target_info", substation="s1", address="[::1]:80") == 1
    assert harness.count("target_info", substation="s2", address="the label") == 1
    harness.watch.on_targets({"s1": Target("s1", "http://s1.invalid:9100/metrics")})
    assert harness.count("target_info", substation="s1", address="s1.invalid:9100") == 1
    assert harness.count("targets") == 1
    rest = [
        {"substation": "s1", "address": "[::1]:80"},
        {"substation": "s2", "address": "the label"},
    ]
    assert [harness.count("target_info", **each) for each in rest] == [0, 0]


async def test_metrics_name_recorded_trace_of_an_assignment() -> None:
    """As an exemplar of both histograms; a request that nobody records is not named."""
    harness = Harness(confirming(), "s1")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    for flags in ("00", "01"):
        headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-{flags}"}
        harness.queue.bring(body(f"j{flags}"), f"j{flags}", headers=headers)
        await turns()
        named = {
            family.name: each.exemplar.labels
            for family in harness.registry.collect()
            for each in family.samples
            if each.exemplar is not None
        }
        names = ("dispatcher_decision_seconds", "dispatcher_request_to_assignment_seconds")
        assert named == {name: {"trace_id": trace} for name in names if flags == "01"}
