"""The dispatcher goes on whatever a permitted writer puts into the event log."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from grid import provenance
from grid.events import MARKER, SUBSTATIONS, State
from tests.dispatcher.harness import Harness, confirming
from tests.grid.strategies import json_values

KINDS = st.sampled_from([*State, SUBSTATIONS, MARKER])
NAMES = st.sampled_from(
    ["substations", "former", "dispatcher", "leaves", "requested_at", "replays", "departure_time"]
)
ROWS = st.lists(st.dictionaries(st.just("substation"), json_values) | json_values)
DETAILS = st.dictionaries(NAMES, json_values | ROWS)
COUNTS = st.none() | json_values | st.lists(st.floats(0, 1e15), max_size=8)
EVENT = st.fixed_dictionaries(
    {
        "kind": KINDS,
        "at": st.floats(0, 1e11),
        "job": st.sampled_from(["", "j1"]),
        "detail": DETAILS,
    },
    optional={"counts": COUNTS, "substation": st.sampled_from(["", "s1", "s9"])},
)


@given(st.lists(EVENT, max_size=6))
def test_core_applies_any_event_without_unforeseen_error(found: list[dict[str, Any]]) -> None:
    """An event's detail is whatever its writer put there."""

    async def read() -> float | None:
        harness = Harness(confirming(), "s1")
        for each in found:
            harness.read_log(json.dumps(each).encode(), provenance.DISPATCHER)
        harness.core.candidates(harness.now)
        return harness.registry.get_sample_value("grid_unforeseen_errors_total")

    assert asyncio.run(read()) == 0
