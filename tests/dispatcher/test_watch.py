"""Inputs from pages, targets and the event log, and the parts that they reach."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from dispatcher.targets import Target
from grid.events import MARKER, SUBSTATIONS, Counts, Event, State
from scheduling.readings import Reading
from tests.dispatcher.harness import AT, Harness, body, confirming
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")


def target(name: str, connectors: float | None = None) -> Target:
    """Return a line of the target file."""
    return Target(name, f"http://{name}.invalid/metrics", connectors)


async def test_core_invalidates_every_baseline_when_it_takes_over() -> None:
    """It has not counted what the other dispatcher sent, so it sends nothing without a baseline."""
    harness = Harness(confirming(), "s1")
    harness.standby.heard("other", harness.now)
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert harness.tracker.unsynced() == ["s1"]
    assert harness.routed() == []
    harness.tracker.ask_depth("s1")
    harness.tracker.depth("s1", 2, harness.now)
    harness.read("s1")
    await turns()
    assert harness.routed() == ["j1"]
    assert harness.tracker.substations["s1"].load == 3
    harness.queue.bring(body("j2"), "j2")
    await turns()
    assert harness.routed() == ["j1", "j2"], "once is enough"


async def test_core_hears_snapshots_of_another_dispatcher() -> None:
    """Its snapshots show that it is active; those of this one or from before its start do not."""
    harness = Harness(FakePublisher(), "s1")
    own = Event(SUBSTATIONS, AT, detail={"dispatcher": "this", "substations": []})
    other = Event(SUBSTATIONS, AT, detail={"dispatcher": "other", "substations": []})
    harness.read_events(own, replace(other, at=AT - 60))
    assert not harness.standby.is_standby(harness.now)
    await harness.catch_up()
    harness.read_events(own)
    assert not harness.standby.is_standby(harness.now)
    harness.read_events(other)
    assert harness.standby.is_standby(harness.now)


async def test_log_reader_has_caught_up_when_it_reads_its_own_mark() -> None:
    """It shows that the dispatcher has read all that was written before."""
    harness = Harness(confirming(), "s1")
    harness.read_events(Event(MARKER, AT, job="other"))
    assert not harness.log_reader.caught_up
    task = asyncio.create_task(harness.log_reader.catch_up())
    await turns()
    harness.read_events(*harness.publisher.events(MARKER))
    await task
    assert harness.log_reader.caught_up


async def test_watch_declares_queue_and_starts_counters_of_new_substation() -> None:
    """A substation that is known already is not declared again."""
    harness = Harness(FakePublisher())
    harness.watch.on_targets({"s1": target("s1", 3)})
    assert harness.missing == ["s1"]
    assert harness.tracker.substations["s1"].connectors == 3
    assert (
        harness.registry.get_sample_value("dispatcher_decisions_total", {"substation": "s1"}) == 0
    )
    assert (
        harness.registry.get_sample_value("dispatcher_rescued_jobs_total", {"substation": "s1"})
        == 0
    )
    harness.watch.on_targets({"s1": target("s1", 4), "s2": target("s2")})
    assert harness.missing == ["s1", "s2"]
    assert harness.tracker.substations["s1"].connectors == 4
    harness.watch.on_targets({})
    assert harness.tracker.substations == {}


async def test_core_applies_events_to_job_index_and_counters_to_load_tracker() -> None:
    """One message carries both; counters of a substation whose page was never read are ignored."""
    harness = Harness(FakePublisher(), "s1")
    harness.tracker.keep({"s1": None, "s2": None})
    counts = harness.tracker.substations["s1"].counts
    assert counts is not None
    more = counts._replace(load=1, accepted=counts.accepted + 1)
    harness.read_events(
        Event(State.CHARGING, AT, job="j1", substation="s1", attempt=1, counts=more),
        Event(
            State.CHARGING, AT, job="j2", substation="s2", attempt=1, counts=Counts(1, 1, 0, 0, 1)
        ),
    )
    assert harness.index.charging_at("j1") == "s1"
    assert harness.index.charging_at("j2") == "s2"
    assert harness.tracker.substations["s1"].load == 1
    assert harness.tracker.substations["s2"].counts is None


async def test_watch_routes_waiting_requests_after_each_page() -> None:
    """A page may show capacity; pages are counted by outcome."""
    harness = Harness(confirming(), "s1", connectors=1)
    harness.fail_page("s1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert harness.core.waiting == 1
    harness.watch.on_reading("s1", Reading(0), harness.now + 1)
    await turns()
    assert harness.routed() == ["j1"]
    assert harness.count("scrapes_total", substation="s1", outcome="failed") == 1
    assert harness.count("scrapes_total", substation="s1", outcome="ok") == 3


@pytest.mark.parametrize("written", [[1, None, "s2"], {"s2": 1}, "s2", None])
async def test_core_ignores_malformed_snapshot(written: object) -> None:
    """Others write to the event log, too: their errors must not end the dispatcher."""
    harness = Harness(FakePublisher(), "s1")
    detail = {"dispatcher": "other", "substations": written, "former": 3}
    harness.read_events(Event(SUBSTATIONS, AT, detail=detail))
    await harness.catch_up()
    harness.read_events(Event(SUBSTATIONS, AT, detail=detail))
    assert harness.tracker.former == set()


class Mistaken(Exception):
    """An error that no code expects."""


def fails(*_: object) -> bool:
    """Fail with an unexpected error."""
    raise Mistaken("of ours")


async def test_core_goes_on_when_one_event_of_the_log_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every dispatcher that starts would read it again; the message's other events are applied."""
    harness = Harness(confirming(), "s1")
    real = harness.index.apply

    def take(event: Event) -> None:
        if event.job == "poison":
            fails()
        real(event)

    monkeypatch.setattr(harness.index, "apply", take)
    harness.read_events(
        *(Event(State.CHARGING, AT, job=job, substation="s1") for job in ("poison", "j1", "poison"))
    )
    assert harness.index.charging_at("j1") == "s1"
    assert harness.registry.get_sample_value("grid_unforeseen_errors_total") == 2
    assert len([each for each in caplog.records if "Mistaken" in each.message]) == 1


async def test_core_goes_on_when_the_counters_of_one_substation_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of another, in the same message, are applied."""
    harness = Harness(confirming(), "s1", "s2")
    real = harness.tracker.report

    def report(substation: str, counts: Counts) -> bool:
        return fails() if substation == "s1" else real(substation, counts)

    counts = Counts(1, 1, 0, 0, 1.0)
    monkeypatch.setattr(harness.tracker, "report", report)
    harness.read_events(
        *(Event(State.CHARGING, AT, job=s, substation=s, counts=counts) for s in ("s1", "s2"))
    )
    assert harness.tracker.substations["s2"].counts == counts


async def test_watch_makes_substation_ineligible_when_its_page_cannot_be_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error over one page makes only its substation ineligible; requests go to the others."""
    harness = Harness(confirming(), "s1", "s2")
    real = harness.tracker.read

    def read(substation: str, reading: Reading, asked_at: float) -> None:
        if substation == "s1":
            fails()
        real(substation, reading, asked_at)

    monkeypatch.setattr(harness.tracker, "read", read)
    harness.watch.on_reading("s1", Reading(0), harness.now)
    harness.watch.on_reading("s2", Reading(0), harness.now)
    s1 = next(each for each in harness.core.candidates(harness.now) if each.substation == "s1")
    assert s1.problem == "Mistaken: of ours"
    assert harness.count("scrapes_total", substation="s1", outcome="failed") == 1
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert [where for _, where in harness.publisher.routed()] == ["s2"]


def test_watch_counts_targets_in_use() -> None:
    """An alert compares it with what Prometheus has found."""
    harness = Harness(confirming())
    harness.watch.on_targets({name: target(name) for name in ("s1", "s2")})
    assert harness.count("targets") == 2
    harness.watch.on_targets({})
    assert harness.count("targets") == 0


@pytest.mark.parametrize("name", ["decisions", "refused_jobs", "resent_jobs", "rescued_jobs"])
def test_watch_has_the_counters_of_each_substation_start_from_0(name: str) -> None:
    """Prometheus sees no increase from a series that was not there to its first value."""
    harness = Harness(confirming(), "s1")
    harness.watch.on_targets({"s1": target("s1")})
    full_name, labels = f"dispatcher_{name}_total", {"substation": "s1"}
    assert harness.registry.get_sample_value(full_name, labels) == 0
