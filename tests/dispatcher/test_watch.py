"""What is read of substations and other dispatchers, and which parts are informed."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from dispatcher.targets import Target
from grid.events import MARKER, SUBSTATIONS, Counts, Event, State
from scheduling.readings import Reading
from tests.dispatcher.harness import AT, Bench, body, confirming
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")


def target(name: str, connectors: float | None = None) -> Target:
    """Return a line of the target file."""
    return Target(name, f"http://{name}.invalid/metrics", connectors)


async def test_core_invalidates_every_baseline_when_it_takes_over() -> None:
    """It has not counted what the other dispatcher sent, so it sends nothing without a baseline."""
    bench = Bench(confirming(), "s1")
    bench.standby.heard("other")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    assert bench.tracker.unsynced() == ["s1"]
    assert bench.routed() == []
    bench.tracker.ask_depth("s1")
    bench.tracker.depth("s1", 2, bench.now)
    bench.read("s1")
    await turns()
    assert bench.routed() == ["j1"]
    assert bench.tracker.substations["s1"].load == 3
    bench.queue.bring(body("j2"), "j2")
    await turns()
    assert bench.routed() == ["j1", "j2"], "once is enough"


async def test_core_hears_snapshots_of_another_dispatcher() -> None:
    """Its snapshots show that it is active; those of this one or from before its start do not."""
    bench = Bench(FakePublisher(), "s1")
    own = Event(SUBSTATIONS, AT, detail={"dispatcher": "this", "substations": []})
    other = Event(SUBSTATIONS, AT, detail={"dispatcher": "other", "substations": []})
    bench.tell(own, replace(other, at=AT - 60))
    assert not bench.standby.is_standby
    await bench.catch_up()
    bench.tell(own)
    assert not bench.standby.is_standby
    bench.tell(other)
    assert bench.standby.is_standby


async def test_log_reader_has_caught_up_when_it_reads_its_own_mark() -> None:
    """It shows that the dispatcher has read all that was written before."""
    bench = Bench(confirming(), "s1")
    bench.tell(Event(MARKER, AT, job="other"))
    assert not bench.log_reader.caught_up
    task = asyncio.create_task(bench.log_reader.catch_up())
    await turns()
    bench.tell(*bench.publisher.events(MARKER))
    await task
    assert bench.log_reader.caught_up


async def test_watch_declares_queue_and_starts_counters_of_new_substation() -> None:
    """A substation that is known already is not declared again."""
    bench = Bench(FakePublisher())
    bench.watch.on_targets({"s1": target("s1", 3)})
    assert bench.missing == ["s1"]
    assert bench.tracker.substations["s1"].connectors == 3
    assert bench.registry.get_sample_value("dispatcher_decisions_total", {"substation": "s1"}) == 0
    assert (
        bench.registry.get_sample_value("dispatcher_rescued_jobs_total", {"substation": "s1"}) == 0
    )
    bench.watch.on_targets({"s1": target("s1", 4), "s2": target("s2")})
    assert bench.missing == ["s1", "s2"]
    assert bench.tracker.substations["s1"].connectors == 4
    bench.watch.on_targets({})
    assert bench.tracker.substations == {}


async def test_core_applies_events_to_job_index_and_counters_to_load_tracker() -> None:
    """One message carries both; counters of a substation whose page was never read are ignored."""
    bench = Bench(FakePublisher(), "s1")
    bench.tracker.keep({"s1": None, "s2": None})
    counts = bench.tracker.substations["s1"].counts
    assert counts is not None
    more = counts._replace(load=1, accepted=counts.accepted + 1)
    bench.tell(
        Event(State.CHARGING, AT, job="j1", substation="s1", attempt=1, counts=more),
        Event(
            State.CHARGING, AT, job="j2", substation="s2", attempt=1, counts=Counts(1, 1, 0, 0, 1)
        ),
    )
    assert bench.index.charging_at("j1") == "s1"
    assert bench.index.charging_at("j2") == "s2"
    assert bench.tracker.substations["s1"].load == 1
    assert bench.tracker.substations["s2"].counts is None


async def test_watch_routes_waiting_requests_after_each_page() -> None:
    """A page may show capacity; pages are counted by outcome."""
    bench = Bench(confirming(), "s1", connectors=1)
    bench.lose("s1")
    bench.queue.bring(body("j1"), "j1")
    await turns()
    assert bench.core.waiting == 1
    bench.watch.on_reading("s1", Reading(0), bench.now + 1)
    await turns()
    assert bench.routed() == ["j1"]
    assert bench.count("scrapes_total", substation="s1", outcome="failed") == 1
    assert bench.count("scrapes_total", substation="s1", outcome="ok") == 3


@pytest.mark.parametrize("written", [[1, None, "s2"], {"s2": 1}, "s2", None])
async def test_core_ignores_malformed_snapshot(written: object) -> None:
    """Others write to the event log, too: their errors must not end the dispatcher."""
    bench = Bench(FakePublisher(), "s1")
    detail = {"dispatcher": "other", "substations": written, "former": 3}
    bench.tell(Event(SUBSTATIONS, AT, detail=detail))
    await bench.catch_up()
    bench.tell(Event(SUBSTATIONS, AT, detail=detail))
    assert bench.tracker.former == set()


class Mistaken(Exception):
    """An error that no code expects."""


def fails(*_: object) -> bool:
    """Fail with an unexpected error."""
    raise Mistaken("of ours")


async def test_core_goes_on_when_one_event_of_the_log_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every dispatcher that starts would read it again; the message's other events are applied."""
    bench = Bench(confirming(), "s1")
    real = bench.index.apply

    def take(event: Event) -> None:
        if event.job == "poison":
            fails()
        real(event)

    monkeypatch.setattr(bench.index, "apply", take)
    bench.tell(
        *(Event(State.CHARGING, AT, job=job, substation="s1") for job in ("poison", "j1", "poison"))
    )
    assert bench.index.charging_at("j1") == "s1"
    assert bench.registry.get_sample_value("grid_unforeseen_errors_total") == 2
    assert len([each for each in caplog.records if "Mistaken" in each.message]) == 1


async def test_core_goes_on_when_the_counters_of_one_substation_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of another, in the same message, are applied."""
    bench = Bench(confirming(), "s1", "s2")
    real = bench.tracker.report

    def report(substation: str, counts: Counts) -> bool:
        return fails() if substation == "s1" else real(substation, counts)

    counts = Counts(1, 1, 0, 0, 1.0)
    monkeypatch.setattr(bench.tracker, "report", report)
    bench.tell(
        *(Event(State.CHARGING, AT, job=s, substation=s, counts=counts) for s in ("s1", "s2"))
    )
    assert bench.tracker.substations["s2"].counts == counts


async def test_watch_makes_substation_ineligible_when_its_page_cannot_be_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error over one page makes only its substation ineligible; requests go to the others."""
    bench = Bench(confirming(), "s1", "s2")
    real = bench.tracker.read

    def read(substation: str, reading: Reading, asked_at: float) -> None:
        if substation == "s1":
            fails()
        real(substation, reading, asked_at)

    monkeypatch.setattr(bench.tracker, "read", read)
    bench.watch.on_reading("s1", Reading(0), bench.now)
    bench.watch.on_reading("s2", Reading(0), bench.now)
    s1 = next(each for each in bench.core.candidates(bench.now) if each.substation == "s1")
    assert s1.problem == "Mistaken: of ours"
    assert bench.count("scrapes_total", substation="s1", outcome="failed") == 1
    bench.queue.bring(body("j1"), "j1")
    await turns()
    assert [where for _, where in bench.publisher.routed()] == ["s2"]


def test_watch_counts_targets_in_use() -> None:
    """An alert compares it with what Prometheus has found."""
    bench = Bench(confirming())
    bench.watch.on_targets({name: target(name) for name in ("s1", "s2")})
    assert bench.count("targets") == 2
    bench.watch.on_targets({})
    assert bench.count("targets") == 0
