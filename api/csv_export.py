"""Jobs as CSV, one a line. Pure."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from io import StringIO
from typing import Final

from api.answers import Charge
from grid.events import State

COLUMNS: Final = (
    "id",
    "status",
    "vehicle_id",
    "substation",
    "attempt",
    *State,
    "duplicates",
    "power_kw",
    "energy_kwh",
    "requested_energy_kwh",
    "requested_power_kw",
    "departure_time",
    "priority",
    "eligible_substations",
    "tenant",
    "max_wait_seconds",
    "earliest_start",
    "reserve",
    "promised_start",
    "promised_substation",
    "place",
    "expected_start",
    "reason",
)
# a spreadsheet takes a text that begins so for a formula; source: OWASP on CSV injection
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def header() -> bytes:
    """Return the first line, which names the columns."""
    return _lines([COLUMNS])


def lines(charges: Iterable[Charge]) -> bytes:
    """Return the lines of some jobs."""
    return _lines(_row(each) for each in charges)


def _row(charge: Charge) -> Iterable[object]:
    values: dict[str, object] = {**charge, **charge["times"], **charge["request"]}
    told = charge["reservation"]
    if told is not None and told["granted"]:
        values["promised_start"] = told["start"]
        values["promised_substation"] = told["substation"]
    values["eligible_substations"] = " ".join(charge["request"].get("eligible_substations", ()))
    return [_cell(values.get(name)) for name in COLUMNS]


def _cell(value: object) -> object:
    if hasattr(value, "isoformat"):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _lines(rows: Iterable[Iterable[object]]) -> bytes:
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")
