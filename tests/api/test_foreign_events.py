"""Events of any content in the event log: the api shows them, and does not fail."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api import answers
from api.jobs.projection import MAX_SUBSTATIONS, Applied, Projection
from api.last_heard import LastHeard
from grid import events
from grid.errors import MalformedMessage
from grid.events import SUBSTATIONS, Event, State
from grid.provenance import API, DISPATCHER, NOBODY_KNOWN, OPERATOR
from tests.api import document
from tests.api.harness import AT, Bench
from tests.grid.strategies import json_values

SHAPE = {"$ref": "#/components/schemas/Charge", "components": document.committed()["components"]}
is_as_documented = jsonschema_rs.validator_for(SHAPE).validate
KINDS = st.sampled_from([*State, SUBSTATIONS])
NAMES = st.sampled_from(
    ["candidates", "substations", "reason", "departure_time", "priority", "requested_at", "replays"]
)
ROWS = st.lists(
    st.dictionaries(st.sampled_from(["substation", "load", "eligible"]), json_values) | json_values
)
DETAILS = st.dictionaries(NAMES, json_values | ROWS)


def deep(levels: int) -> object:
    """Return a value nested so many levels deep."""
    value: object = 1
    for number in range(levels):
        value = [value] if number % 2 else {"v": value}
    return value


@example([(State.ASSIGNED, 0.0, {"requested_at": -62135596801}, "")])  # in the year 0
@example([(State.ASSIGNED, 0.0, {"candidates": [{"substation": "s", "load": deep(260)}]}, "")])
@example([(State.ASSIGNED, 0.0, {"candidates": [{"substation": "s", "load": deep(28)}]}, "")])
@given(st.lists(st.tuples(KINDS, st.floats(0, 1e11), DETAILS, st.text(max_size=5)), max_size=6))
def test_api_can_show_any_event_that_it_reads(found: list[tuple[str, float, Any, str]]) -> None:
    """The api can answer whatever is in an event's detail, which its writer chooses freely."""
    projection = Projection(10)
    for kind, at, detail, reason in found:
        value = {"kind": kind, "at": at, "job": "j", "detail": detail, "reason": reason}
        try:
            read = events.decode(json.dumps(value).encode())
        except MalformedMessage:
            continue
        for event in read:
            projection.apply(event)
    for job in projection.after(None):
        wait = answers.wait_of(job, projection, AT, LastHeard())
        for show in (answers.charge, answers.full_charge, answers.listed):
            is_as_documented(json.loads(answers.encode(show(job, wait))))
    for seconds in (0.0, inf):
        for row in projection.substations.rows(LastHeard(seconds)):
            row.model_dump_json()
    assert projection.known_substations() is not None


def snapshot(*names: str) -> Event:
    """Return a snapshot of these substations."""
    rows = [{"substation": name, "eligible": True} for name in names]
    return Event(SUBSTATIONS, AT, detail={"dispatcher": "d", "substations": rows})


@pytest.mark.parametrize("writer", ["substation.s1", API, OPERATOR, NOBODY_KNOWN])
async def test_api_takes_substations_from_the_dispatcher_alone(writer: str) -> None:
    """A snapshot by any other writer adds no substation and removes none."""
    bench = Bench()
    bench.hear(snapshot("s1", "s2"), writer=DISPATCHER)
    bench.hear(snapshot("mallory"), writer=writer)
    assert bench.projection.known_substations() == {"s1", "s2"}


def test_projection_ignores_a_snapshot_of_too_many_substations() -> None:
    """Nor one with an invalid substation name, which would appear in labels and pages."""
    projection = Projection(10)
    projection.apply(snapshot("s1"))
    projection.apply(snapshot("s1", "a\nb"))
    projection.apply(snapshot(*map(str, range(MAX_SUBSTATIONS + 1))))
    assert projection.known_substations() == {"s1"}
    projection.apply(snapshot(*map(str, range(MAX_SUBSTATIONS))))
    assert len(projection.known_substations()) == MAX_SUBSTATIONS


async def test_api_goes_on_when_one_event_of_the_log_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other events of its message are applied: the same message is read at each start."""
    bench = Bench()
    real = bench.projection.apply

    def apply(event: Event, now: float = 0.0) -> Applied | None:
        if event.job == "poison":
            raise KeyError("some mistake")
        return real(event, now)

    monkeypatch.setattr(bench.projection, "apply", apply)
    bench.log.read(events.encode([Event(State.QUEUED, AT, job=j) for j in ("poison", "j1")]), API)
    assert bench.log.job("j1") is not None
    assert bench.registry.get_sample_value("grid_unforeseen_errors_total") == 1
