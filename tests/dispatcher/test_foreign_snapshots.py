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
async def test_dispatcher_takes_no_substation_from_a_snapshot_of_others(writer: str) -> None:
    """It looks at no queue for it, and does not stand by for whoever wrote it."""
    bench = Bench(confirming(), "s1")
    names = [f"x{number}" for number in range(600)]
    bench.tell(snapshot(*names), writer=writer)
    assert bench.tracker.former == set()
    await bench.catch_up()
    bench.standby.on_delivery()
    bench.tell(snapshot(), writer=writer)
    assert not bench.standby.is_standby


async def test_dispatcher_remembers_the_substations_of_another_dispatcher() -> None:
    """Of a dispatcher before this start, those that left are known, up to a limit."""
    bench = Bench(confirming(), "s1")
    names = [f"x{number}" for number in range(MAX_RECALLED + 5)]
    bench.tell(snapshot("not a name", "s1", *names), writer=DISPATCHER)
    assert {"listed", "x0"} < bench.tracker.former
    assert len(bench.tracker.former) < MAX_RECALLED
    await bench.catch_up()
    bench.tell(snapshot(), writer=DISPATCHER)
    assert bench.standby.is_standby
