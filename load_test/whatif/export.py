"""Reading jobs from the api's export, ``GET /charges.csv``. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from grid.errors import ConfigurationError
from grid.events import State
from load_test import records
from load_test.records import Job, UnexpectedAnswer
from load_test.tables import Row, number, rows

_NEEDED: Final = ("id", "status", "substation", *State)
_NUMBERS: Final = ("requested_energy_kwh", "requested_power_kw", "max_wait_seconds")


def read(text: str) -> list[Job]:
    """Return the jobs of an export. Raise ``ConfigurationError`` with the line that is wrong."""
    return list(rows(text, _reader))


def _reader(names: tuple[str, ...]) -> Callable[[Row], Job]:
    if missing := [each for each in _NEEDED if each not in names]:
        listed = ", ".join(names) or "none"
        raise ConfigurationError(
            f"it has no column {missing[0]!r}, as the export of the api has: {listed}"
        )
    return _job


def _job(row: Row) -> Job:
    request: dict[str, Any] = {name: number(row, name) for name in _NUMBERS if row.get(name)}
    for name in ("departure_time", "earliest_start", "tenant"):
        if row.get(name):
            request[name] = row[name]
    if row.get("priority"):
        request["priority"] = int(number(row, "priority"))
    request["eligible_substations"] = (row.get("eligible_substations") or "").split()
    value = {
        "id": row["id"],
        "status": row["status"],
        "substation": row["substation"] or None,
        "times": {str(state): row[state] or None for state in State},
        "duplicates": int(number(row, "duplicates")) if row.get("duplicates") else 0,
        "request": request,
        "energy_kwh": number(row, "energy_kwh") if row.get("energy_kwh") else None,
    }
    try:
        return records.job(value)
    except UnexpectedAnswer as error:
        raise ConfigurationError(str(error)) from error
