"""Reading a substation's metrics page: text in, a reading out, one error for all else. Pure.

Unknown is never idle: a gauge that is there must be a number that can be true.
Only the lines that matter go through the parser: its time grows with the square of a line's length,
and a page can be made of such lines, or be long for good reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from grid.errors import MalformedReading
from grid.events import MAX_FIGURE, Counts
from grid.messages import shown

LOAD: Final = "ev_charging_load"
CONNECTORS: Final = "ev_charging_connectors"
POWER: Final = "ev_charging_power_kw"
RATED_POWER: Final = "ev_charging_rated_power_kw"
BACKGROUND_POWER: Final = "ev_charging_background_power_kw"
ACCEPTED: Final = "ev_charging_sessions_accepted_total"
COMPLETED: Final = "ev_charging_sessions_completed_total"
DUPLICATES: Final = "ev_charging_duplicate_deliveries_total"
EXPIRED: Final = "ev_charging_expired_deliveries_total"
WAITING: Final = "ev_charging_waiting"
STARTED: Final = "process_start_time_seconds"
SESSION_SECONDS: Final = "ev_charging_session_seconds_sum"
SESSIONS_TIMED: Final = "ev_charging_session_seconds_count"
GAUGES: Final = (LOAD, CONNECTORS, POWER, RATED_POWER, BACKGROUND_POWER)
_WANTED: Final = (
    *GAUGES, ACCEPTED, COMPLETED, DUPLICATES, EXPIRED, WAITING, STARTED,
    SESSION_SECONDS, SESSIONS_TIMED,
)  # fmt: skip
_WANTED_LINE: Final = re.compile(rf"^[ \t]*(?:{'|'.join(_WANTED)})(?![A-Za-z0-9_:]).*", re.M)
_LINE_MOST: Final = 1000  # characters; a name and a number are far fewer
_SESSION_LEAST: Final = 0.001  # seconds; who says that sessions take less does not know


@dataclass(frozen=True, slots=True)
class Reading:
    """What a substation's page says, all of one instant; what the page does not say is None.

    ``load`` is sessions in progress, power is in kW, ``session_seconds`` how long a session took on
    average. ``counts`` is there if the page has the session counters and the process's start.
    """

    load: float
    connectors: float | None = None
    power_kw: float | None = None
    rated_power_kw: float | None = None
    background_power_kw: float | None = None
    counts: Counts | None = None
    session_seconds: float | None = None

    def gauges(self) -> dict[str, float]:
        """Give the gauges that are there, by their names on the page."""
        values = (
            self.load, self.connectors, self.power_kw,
            self.rated_power_kw, self.background_power_kw,
        )  # fmt: skip
        found = zip(GAUGES, values, strict=True)
        return {name: value for name, value in found if value is not None}


def parse(page: str) -> Reading:
    """Read a page in Prometheus's text format.

    Raises ``MalformedReading`` where it is not one, has no load, or has a figure that cannot be.
    """
    found: dict[str, float] = {}
    for name, labels, value in _samples(page):
        if name in found or labels:
            raise MalformedReading(f"{name} has several samples or labels: it must be one, without")
        if not 0 <= value <= MAX_FIGURE:  # NaN compares false
            raise MalformedReading(f"{name} is {value:g}: it must be from 0 to {MAX_FIGURE:g}")
        found[name] = value
    if LOAD not in found:
        raise MalformedReading(f"the page has no {LOAD}")
    if found.get(CONNECTORS, 1) < 1:
        raise MalformedReading(f"{CONNECTORS} is {found[CONNECTORS]:g}: it must be 1 or more")
    connectors, power, rated, background = (found.get(name) for name in GAUGES[1:])
    return Reading(
        found[LOAD], connectors, power, rated, background, _counts(found), _session_seconds(found)
    )


def _samples(page: str) -> Iterator[tuple[str, dict[str, str], float]]:
    if page.lstrip()[:1] == "<":
        raise MalformedReading(f"not a metrics page but HTML or XML: {shown(page)}")
    for line in _WANTED_LINE.findall(page):
        if len(line) > _LINE_MOST:
            raise MalformedReading(f"a line is longer than {_LINE_MOST} characters: {shown(line)}")
        yield from _sample(line)


def _sample(line: str) -> Iterator[tuple[str, dict[str, str], float]]:
    try:
        for family in text_string_to_metric_families(line):
            for sample in family.samples:
                yield sample.name, sample.labels, float(sample.value)
    # the parser lets whatever its own steps raise pass through
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        problem = f"not a line in Prometheus's text format: {shown(line)}: {error}"
        raise MalformedReading(problem) from error


def _counts(found: dict[str, float]) -> Counts | None:
    if not {ACCEPTED, COMPLETED, STARTED} <= found.keys():
        return None
    return Counts(
        found[LOAD],
        found[ACCEPTED],
        found[COMPLETED],
        found.get(DUPLICATES, 0.0) + found.get(EXPIRED, 0.0),
        found[STARTED],
        found.get(POWER),
        found.get(WAITING, 0.0),
    )


def _session_seconds(found: dict[str, float]) -> float | None:
    total, sessions = found.get(SESSION_SECONDS, 0.0), found.get(SESSIONS_TIMED, 0.0)
    mean = total / sessions if sessions else 0.0
    return mean if mean >= _SESSION_LEAST else None
