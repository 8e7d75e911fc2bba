"""Snapshots out of the event log: only another dispatcher's are believed, and only so far."""

from __future__ import annotations

import pytest

from dispatcher.core import MAX_RECALLED
from grid.events import SUBSTATIONS, Event
from grid.provenance import API, DISPATCHER, NOBODY_KNOWN, OPERATOR
from tests.dispatcher.harness import AT, Bench, confirming


def snapshot(*former: str) -> Event:
    """Return a snapshot that names one substation, and some that left."""
    rows = [{"substation": "listed"}]
    detail = {"dispatcher": "another", "substations": rows, "former": list(former)}
    return Event(SUBSTATIONS, AT, detail=detail)


@pytest.mark.parametrize("writer", ["substation.s1", API, OPERATOR, NOBODY_KNOWN, "load_test"])
async def test_core_ignores_snapshot_that_no_dispatcher_wrote(writer: str) -> None:
    """Its substations' queues are not looked at, and its writer does not cause a standby."""
    bench = Bench(confirming(), "s1")
    names = [f"x{number}" for number in range(600)]
    bench.tell(snapshot(*names), writer=writer)
    assert bench.tracker.former == set()
    await bench.catch_up()
    bench.standby.on_delivery()
    bench.tell(snapshot(), writer=writer)
    assert not bench.standby.is_standby


async def test_core_remembers_substations_in_snapshot_of_another_dispatcher() -> None:
    """From snapshots before its start it knows the substations that left, up to a limit."""
    bench = Bench(confirming(), "s1")
    names = [f"x{number}" for number in range(MAX_RECALLED + 5)]
    bench.tell(snapshot("not a name", "s1", *names), writer=DISPATCHER)
    assert {"listed", "x0"} < bench.tracker.former
    assert len(bench.tracker.former) < MAX_RECALLED
    await bench.catch_up()
    bench.tell(snapshot(), writer=DISPATCHER)
    assert bench.standby.is_standby
