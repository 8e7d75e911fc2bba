"""The core serves waiting jobs by when connectors are free, as far as that is known then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dispatcher.inputs import ControlChanged
from grid.controls import Availability, Control
from grid.events import Event, State
from scheduling.wait_queue import WaitQueue
from tests.dispatcher.harness import AT, Harness, body, confirming
from tests.fake_broker import turns

pytestmark = pytest.mark.usefixtures("no_pauses")

MINUTE = 60.0
MINUTE_KWH = 7.4 / 60  # at the usual power


def harness_of(connectors: int = 1) -> Harness:
    """Return a dispatcher with one substation, where sessions take an hour."""
    harness = Harness(confirming(), "s1", connectors=connectors)
    harness.session_seconds = 60 * MINUTE
    harness.read("s1")
    return harness


async def bring(harness: Harness, job: str, minutes: float, **fields: float) -> None:
    """Have a request delivered that charges for so long."""
    harness.queue.bring(body(job, requested_energy_kwh=minutes * MINUTE_KWH, **fields), job)
    await turns()
    harness.route()


async def test_core_plans_anew_when_a_vehicle_leaves_before_its_time() -> None:
    """With no connector free in time, the shorter job comes first; now, the more urgent one."""
    harness = harness_of()
    await bring(harness, "first", minutes=60)
    harness.read("s1", 1)
    harness.read_events(Event(State.CHARGING, AT, "first", "s1", ends_at=AT + 60 * MINUTE))
    await bring(harness, "short", minutes=5, departure_time=AT + 30 * MINUTE)
    await bring(harness, "urgent", minutes=20, departure_time=AT + 30 * MINUTE)
    assert harness.routed() == ["first"]
    harness.read_events(Event(State.COMPLETED, AT + 0.5, "first", "s1"))
    harness.read("s1", 0)
    await turns()
    assert harness.routed() == ["first", "urgent"]


async def test_core_plans_anew_when_a_substation_is_available_again() -> None:
    """While it was drained there was nothing to plan with: only one of them can be met."""
    harness = harness_of()
    harness.shell.feed(ControlChanged("s1", Control("s1", Availability.DRAINING, None, 1)))
    await bring(harness, "short", minutes=10, departure_time=AT + 30 * MINUTE)
    await bring(harness, "long", minutes=25, departure_time=AT + 30 * MINUTE)
    assert harness.routed() == []
    harness.shell.feed(ControlChanged("s1", Control("s1", Availability.AVAILABLE, None, 2)))
    harness.route()
    await turns()
    assert harness.routed() == ["short"]


async def test_core_plans_no_more_often_where_only_power_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A connector is free, but no power for a usual session: nothing has opened."""
    harness = harness_of(connectors=5)
    harness.arrive("s1", rated_power_kw=8.0)
    await bring(harness, "first", minutes=60)
    await bring(harness, "short", minutes=5, departure_time=AT + 30 * MINUTE)
    plans: list[float] = []
    arrange = WaitQueue.arrange

    def counted(queue: WaitQueue[Any], free_at: Sequence[float], now: float) -> None:
        plans.append(now)
        arrange(queue, free_at, now)

    monkeypatch.setattr(WaitQueue, "arrange", counted)
    for _ in range(5):
        harness.route()
    assert (harness.routed(), plans) == (["first"], [])


async def test_core_keeps_the_turns_when_an_order_fails_over_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One's own may have a mistake: it is counted and logged, and the jobs are served."""
    harness = harness_of()
    await bring(harness, "first", minutes=60)
    await bring(harness, "second", minutes=5, departure_time=AT + 30 * MINUTE)

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(WaitQueue, "arrange", fails)
    harness.at += MINUTE
    harness.read("s1", 0)
    await turns()
    assert harness.routed() == ["first", "second"]
    assert harness.registry.get_sample_value("grid_unforeseen_errors_total")
