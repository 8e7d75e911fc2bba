"""What is fuzzed: each reader, the one error it may raise, and inputs it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from dispatcher import targets
from grid import controls, events, messages
from grid.controls import Availability, Control, Message, PowerBlock, PowerLimits
from grid.errors import ConfigurationError, GridError, MalformedMessage, MalformedReading
from grid.events import SUBSTATIONS, Counts, Event, State
from grid.messages import ChargeRequest
from scheduling import readings
from scheduling.readings import GAUGES

AT: Final = 1_767_225_600.0


class Reader(NamedTuple):
    """A reader of bytes: it returns a value, or raises ``error``, and nothing else."""

    read: Callable[[bytes], object]
    error: type[GridError]
    seeds: tuple[bytes, ...]


def _page(body: bytes) -> object:
    """Read a page as the scraper does."""
    return readings.parse(body.decode("utf-8", errors="replace"), AT)


def _json_targets(body: bytes) -> object:
    return targets.parse(body, ".json")


def _yaml_targets(body: bytes) -> object:
    return targets.parse(body, ".yml")


_REQUEST: Final = ChargeRequest(
    "job-1", AT, "bus-7", 40.5, 22.0, AT + 3600, 9, ("substation1", "substation2"), "fleet", 1800
)
_COUNTS: Final = Counts(3, 20, 17, 1, AT, 66.0, 2)
_EVENTS: Final = (
    Event(State.QUEUED, AT, "job-1", detail=_REQUEST.fields()),
    Event(State.ASSIGNED, AT, "job-1", "substation1", 1, detail={"candidates": [{"load": 1.0}]}),
    Event(State.COMPLETED, AT, "job-1", "substation1", 1, "done", _COUNTS),
    Event(SUBSTATIONS, AT, detail={"substations": [{"substation": "substation1"}]}),
)
_LIMITS: Final = PowerLimits((PowerBlock(1.5e9, 1.6e9, 20.0),), "dso", 1.5e9, 60.0)
_CONTROLS: Final = Message((Control("substation1", Availability.DRAINING, 3, 2, _LIMITS),), "mark")
_PAGE: Final = b"# HELP ev_charging_load Sessions\n# TYPE ev_charging_load gauge\n" + b"".join(
    b"%s 2.0\n" % name.encode() for name in GAUGES
)

_JSON_TARGETS: Final = (
    b'[{"targets": ["h:1"], "labels": {"substation": "s1", "connectors": "8", "__scheme__": "https"'
    b', "__metrics_path__": "/a?b", "__param_x": "y"}}]'
)
_YAML_TARGETS: Final = (
    b"- targets: &t [h:1]\n  labels: &l {substation: 12, x: ~}\n"
    b"- {targets: [h:2], labels: {substation: 'b', connectors: 8}}\n"
)

READERS: Final = {
    "requests": Reader(
        messages.decode,
        MalformedMessage,
        (_REQUEST.encode(), ChargeRequest("job-1", AT).encode()),
    ),
    "events": Reader(
        events.decode,
        MalformedMessage,
        (events.encode(_EVENTS), *(events.encode([each]) for each in _EVENTS)),
    ),
    "controls": Reader(controls.decode, MalformedMessage, (controls.encode(_CONTROLS),)),
    "pages": Reader(
        _page,
        MalformedReading,
        (
            _PAGE,
            b'ev_charging_load{a="b"} 1e3 1\n',
            b"ev_charging_load NaN\n",
            b'ev_charging_info{substation="substation1"} 1.0\nev_charging_load 1 1767225600000\n',
        ),
    ),
    "json-targets": Reader(_json_targets, ConfigurationError, (_JSON_TARGETS,)),
    "yaml-targets": Reader(_yaml_targets, ConfigurationError, (_YAML_TARGETS, _JSON_TARGETS)),
}
