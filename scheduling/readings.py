"""Reading a substation's metrics page: text in, a reading out, one error for all else. Pure.

Unknown is never idle: a gauge that is there must be a number that can be true.
Only the lines that matter go through the parser: its time grows with the square of a line's length,
and a page can be made of such lines, or be long for good reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from grid.errors import MalformedReading
from grid.events import MAX_FIGURE, Counts
from grid.messages import shown, valid_substation_id

LOAD: Final = "ev_charging_load"
CONNECTORS: Final = "ev_charging_connectors"
POWER: Final = "ev_charging_power_kw"
RATED_POWER: Final = "ev_charging_rated_power_kw"
BACKGROUND_POWER: Final = "ev_charging_background_power_kw"
ACCEPTED: Final = "ev_charging_sessions_accepted_total"
COMPLETED: Final = "ev_charging_sessions_completed_total"
DUPLICATES: Final = "ev_charging_duplicate_deliveries_total"
EXPIRED: Final = "ev_charging_expired_deliveries_total"
CANCELLED: Final = "ev_charging_sessions_cancelled_total"
CANCELLED_DELIVERIES: Final = "ev_charging_cancelled_deliveries_total"
WAITING: Final = "ev_charging_waiting"
STARTED: Final = "process_start_time_seconds"
SESSION_SECONDS: Final = "ev_charging_session_seconds_sum"
SESSIONS_TIMED: Final = "ev_charging_session_seconds_count"
INFO: Final = "ev_charging_info"
SUBSTATION_LABEL: Final = "substation"
GAUGES: Final = (LOAD, CONNECTORS, POWER, RATED_POWER, BACKGROUND_POWER)
_WANTED: Final = (
    *GAUGES, INFO, ACCEPTED, COMPLETED, DUPLICATES, EXPIRED, WAITING, STARTED,
    SESSION_SECONDS, SESSIONS_TIMED, CANCELLED, CANCELLED_DELIVERIES,
)  # fmt: skip
_WANTED_LINE: Final = re.compile(rf"^[ \t]*(?:{'|'.join(_WANTED)})(?![A-Za-z0-9_:]).*", re.M)
_MAX_LINE: Final = 1000  # characters; a name and a number are far fewer
_SESSION_LEAST: Final = 0.001  # seconds; who says that sessions take less does not know
MAX_AHEAD_SECONDS: Final = 60.0  # seconds that a timestamp may be ahead: clocks differ a little


@dataclass(frozen=True, slots=True)
class Reading:
    """What a substation's page says, all of one instant; what the page does not say is None.

    ``load`` is sessions in progress, power is in kW, ``session_seconds`` how long a session took on
    average. ``counts`` is there if the page has the session counters and the process's start.
    ``substation`` is the one that the page names. ``ages`` is how many seconds old each gauge
    was when the page was asked for, where the page has a timestamp for it.
    """

    load: float
    connectors: float | None = None
    power_kw: float | None = None
    rated_power_kw: float | None = None
    background_power_kw: float | None = None
    counts: Counts | None = None
    session_seconds: float | None = None
    substation: str | None = None
    ages: Mapping[str, float] = field(default_factory=dict)

    def gauges(self) -> dict[str, float]:
        """Return the gauges that are there, by their names on the page."""
        values = (
            self.load, self.connectors, self.power_kw,
            self.rated_power_kw, self.background_power_kw,
        )  # fmt: skip
        found = zip(GAUGES, values, strict=True)
        return {name: value for name, value in found if value is not None}


def parse(page: str, asked_at: float) -> Reading:
    """Return what a page in Prometheus's text format says that was asked for at ``asked_at``.

    That is in Unix seconds.
    A gauge with a timestamp has that age. One that is ahead is as old as the request, no younger;
    one that is far ahead tells of a wrong clock, and of no age.

    Raises:
        MalformedReading: it is no such page, has no load, or has a figure that cannot be.
    """
    found: dict[str, float] = {}
    ages: dict[str, float] = {}
    substation: str | None = None
    for sample in _samples(page):
        name, value = sample.name, sample.value
        if name in found:
            raise MalformedReading(f"{name} has several samples: it must be one")
        if name == INFO:
            substation = _named(sample)
        elif sample.labels:
            raise MalformedReading(f"{name} has several samples or labels: it must be one, without")
        if not 0 <= value <= MAX_FIGURE:  # NaN compares false
            raise MalformedReading(f"{name} is {value:g}: it must be from 0 to {MAX_FIGURE:g}")
        found[name] = value
        if name in GAUGES and sample.timestamp is not None:
            ages[name] = _age(name, float(sample.timestamp), asked_at)
    if LOAD not in found:
        raise MalformedReading(f"the page has no {LOAD}")
    if found.get(CONNECTORS, 1) < 1:
        raise MalformedReading(f"{CONNECTORS} is {found[CONNECTORS]:g}: it must be 1 or more")
    connectors, power, rated, background = (found.get(name) for name in GAUGES[1:])
    return Reading(
        found[LOAD],
        connectors,
        power,
        rated,
        background,
        _counts(found),
        _session_seconds(found),
        substation,
        ages,
    )


def _named(info: Sample) -> str:
    """Return whose page it is."""
    name = info.labels.get(SUBSTATION_LABEL)
    if info.value != 1 or not valid_substation_id(name):
        raise MalformedReading(
            f"{INFO} must be 1, with a label {SUBSTATION_LABEL} that names a substation, got "
            f"{info.value:g} and {shown(name)}"
        )
    return str(name)


def _age(name: str, timestamp: float, asked_at: float) -> float:
    """Return how old a sample was when it was asked for, by its own timestamp in Unix seconds."""
    age = asked_at - timestamp
    if not isfinite(age):
        raise MalformedReading(f"{name} has a timestamp that is no time: {timestamp:g}")
    if age < -MAX_AHEAD_SECONDS:
        raise MalformedReading(
            f"{name} has a timestamp {-age:.0f} s ahead of the dispatcher's clock: "
            "set the clock that is wrong"
        )
    return max(0.0, age)


def _samples(page: str) -> Iterator[Sample]:
    if page.lstrip()[:1] == "<":
        raise MalformedReading(f"not a metrics page but HTML or XML: {shown(page)}")
    for line in _WANTED_LINE.findall(page):
        if len(line) > _MAX_LINE:
            raise MalformedReading(f"a line is longer than {_MAX_LINE} characters: {shown(line)}")
        yield from _sample(line)


def _sample(line: str) -> Iterator[Sample]:
    try:
        for family in text_string_to_metric_families(line):
            for each in family.samples:
                timestamp = None if each.timestamp is None else float(each.timestamp)
                yield each._replace(value=float(each.value), timestamp=timestamp)
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
        found[COMPLETED] + found.get(CANCELLED, 0.0),
        sum(found.get(name, 0.0) for name in (DUPLICATES, EXPIRED, CANCELLED_DELIVERIES)),
        found[STARTED],
        found.get(POWER),
        found.get(WAITING, 0.0),
    )


def _session_seconds(found: dict[str, float]) -> float | None:
    total, sessions = found.get(SESSION_SECONDS, 0.0), found.get(SESSIONS_TIMED, 0.0)
    mean = total / sessions if sessions else 0.0
    return mean if mean >= _SESSION_LEAST else None
