"""The generated pages: committed, current, and true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from deploy import env_file
from grid import cancellations, controls, events, kinds, messages
from grid.events import Counts, Event, State
from tests.docs import messages as asyncapi
from tests.docs.reference import COMMAND, DOCS, FILES

REQUEST = messages.ChargeRequest(
    "a-job",
    1.5e9,
    vehicle_id="bus 12",
    requested_power_kw=22,
    departure_time=1.6e9,
    priority=0,
    eligible_substations=("north",),
    tenant="fleet",
    max_wait_seconds=30,
    earliest_start=1.55e9,
    reserve=True,
)
BOOKING = kinds.Booking(REQUEST, "north", 1.55e9, 1.56e9)
LIMITS = controls.PowerLimits((controls.PowerBlock(1.5e9, 1.6e9, 20.0),), "dso", 1.5e9, 60.0)
CONTROL = controls.Control("north", controls.Availability.DRAINING, None, 2, LIMITS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_generated_page_is_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == FILES[path](), f"it is stale: {COMMAND}"


def test_configuration_page_has_every_setting_of_the_example() -> None:
    """The example file is short, since the page says what each does."""
    page = (DOCS / "reference" / "configuration.md").read_text()
    assert [name for name in env_file.NAMES if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("ChargeRequest", REQUEST.encode()),
        ("Event", events.encode([kinds.queued(REQUEST)])),
        (
            "Event",
            events.encode([Event(State.CHARGING, 1.0, "a", "s", 1, counts=Counts(*range(5)))]),
        ),
        ("Event", events.encode([kinds.booked(BOOKING, 1.5e9, "s1 was drained")])),
        ("Event", events.encode([kinds.snapshot(1.0, "d", [], ["s"], 0)])),
        ("Controls", controls.encode(controls.Message((CONTROL,), "me"))),
        ("Cancellation", cancellations.encode(cancellations.Cancellation("a-job", 1.5e9))),
    ],
)
def test_asyncapi_schemas_accept_what_the_code_writes(name: str, body: bytes) -> None:
    """And refuse it where a field is of another kind."""
    document = asyncapi.document()
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    validator = jsonschema_rs.validator_for(schema)
    value: dict[str, Any] = json.loads(body)
    validator.validate(value)
    for field in value.keys() - {"detail"}:
        assert not validator.is_valid({**value, field: {}}), field


def test_asyncapi_references_lead_somewhere() -> None:
    document = asyncapi.document()
    found = json.dumps(document).split('"$ref": "#/')[1:]
    for reference in {each.partition('"')[0] for each in found}:
        place: Any = document
        for part in reference.split("/"):
            assert part in place, reference
            place = place[part]
