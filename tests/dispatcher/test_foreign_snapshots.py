"""Snapshots in the event log: only those of dispatchers count, up to a limit."""

from __future__ import annotations

import pytest

from dispatcher.log_events import MAX_RECALLED
from grid.events import SUBSTATIONS, Event
from grid.provenance import API, DISPATCHER, NOBODY_KNOWN, OPERATOR
from tests.dispatcher.harness import AT, Harness, confirming


def snapshot(*former: str) -> Event:
    """Return a snapshot that names one substation, and some that left."""
    rows = [{"substation": "listed"}]
    detail = {"dispatcher": "another", "substations": rows, "former": list(former)}
    return Event(SUBSTATIONS, AT, detail=detail)


@pytest.mark.parametrize("writer", ["substation.s1", API, OPERATOR, NOBODY_KNOWN, "load_test"])
async def test_core_ignores_snapshot_that_no_dispatcher_wrote(writer: str) -> None:
    """Its substations' queues are not looked at, and its writer does not cause a standby."""
    harness = Harness(confirming(), "s1")
    names = [f"x{number}" for number in range(600)]
    harness.read_events(snapshot(*names), writer=writer)
    assert harness.tracker.former == set()
    await harness.catch_up()
    harness.standby.on_delivery()
    harness.read_events(snapshot(), writer=writer)
    assert not harness.standby.is_standby(harness.now)


async def test_core_remembers_substations_in_snapshot_of_another_dispatcher() -> None:
    """From snapshots before its start it knows the substations that left, up to a limit."""
    harness = Harness(confirming(), "s1")
    names = [f"x{number}" for number in range(MAX_RECALLED + 5)]
    harness.read_events(snapshot("not a name", "s1", *names), writer=DISPATCHER)
    assert {"listed", "x0"} < harness.tracker.former
    assert len(harness.tracker.former) < MAX_RECALLED
    await harness.catch_up()
    harness.read_events(snapshot(), writer=DISPATCHER)
    assert harness.standby.is_standby(harness.now)
