"""What Hypothesis draws: all that travels, in every allowed shape, and bytes of every shape."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from grid import events, messages
from grid.controls import (
    MAX_LIMIT,
    MAX_LIMIT_KW,
    SOURCE_PATTERN,
    Availability,
    Control,
    Message,
    PowerBlock,
    PowerLimits,
)
from grid.events import Counts, Event, State
from grid.messages import ChargeRequest
from tests.examples import examples

# how long one example takes says nothing on a busy machine
THOROUGH = examples(200)

job_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,63}", fullmatch=True)
substation_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)
printable = st.characters(categories=["L", "M", "N", "P", "S"])


def above_zero(most: float) -> st.SearchStrategy[float]:
    """Draw a number above 0 and up to ``most``, whole or not."""
    floats = st.floats(min_value=0, max_value=most, exclude_min=True)
    return floats | st.integers(min_value=1, max_value=int(most))


times = above_zero(messages.MAX_UNIX_TIME)

requests = st.builds(
    ChargeRequest,
    id=job_ids,
    requested_at=times,
    vehicle_id=st.none() | st.text(printable, min_size=1, max_size=messages.MAX_VEHICLE_ID),
    requested_energy_kwh=st.none() | above_zero(messages.MAX_ENERGY_KWH),
    requested_power_kw=st.none() | above_zero(messages.MAX_POWER_KW),
    departure_time=st.none() | times,
    priority=st.integers(0, messages.MAX_PRIORITY),
    eligible_substations=st.lists(substation_ids, max_size=30).map(tuple),
    tenant=st.none() | job_ids,
    max_wait_seconds=st.none() | above_zero(messages.MAX_WAIT_SECONDS),
    earliest_start=st.none() | times,
    reserve=st.booleans(),
)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()  # NaN and infinities as well: Python's JSON writes and reads them
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=10,
)
finite = st.floats(allow_nan=False, allow_infinity=False)
figures = st.floats(min_value=0, max_value=events.MAX_FIGURE)
# zero is left out of a message only where it is the default itself, the very same object
above_nothing = st.floats(min_value=1e-9, max_value=events.MAX_FIGURE)
details = st.dictionaries(
    st.text(), st.none() | st.booleans() | st.text() | st.integers() | finite, max_size=4
)

job_events = st.builds(
    Event,
    kind=st.sampled_from([*State, events.BOOKED, events.MARKER]),
    at=st.floats(min_value=0, max_value=messages.MAX_UNIX_TIME),
    job=job_ids,
    substation=st.just("") | substation_ids,
    attempt=st.integers(0, 1_000),
    reason=st.text(),
    energy_kwh=above_nothing,
    ends_at=above_nothing,
    counts=st.none()
    | st.builds(Counts, *[figures] * 5, power_kw=st.none() | figures, waiting=figures),
    detail=details,
)
snapshots = st.builds(
    Event,
    kind=st.just(events.SUBSTATIONS),
    at=st.floats(min_value=0, max_value=messages.MAX_UNIX_TIME),
    detail=details,
)
all_events = job_events | snapshots

kilowatts = st.floats(min_value=0, max_value=MAX_LIMIT_KW)


def _power_limits(bounds: list[float], kw: list[float], **more: Any) -> PowerLimits:  # noqa: ANN401
    """Return limits with a block between every two of these bounds."""
    bounds = sorted(bounds)
    pairs = zip(bounds[::2], bounds[1::2], kw, strict=False)
    return PowerLimits(tuple(PowerBlock(*each) for each in pairs), **more)


power_limits = st.builds(
    _power_limits,
    st.lists(
        st.integers(0, 10_000).map(float) | st.floats(0, messages.MAX_UNIX_TIME),
        max_size=12,
        unique=True,
    ),
    st.lists(kilowatts, min_size=6, max_size=6),
    source=st.from_regex(SOURCE_PATTERN[:-1] + r"\Z"),
    set_at=st.floats(0, messages.MAX_UNIX_TIME),
    fallback_kw=st.none() | kilowatts,
)
set_controls = st.builds(
    Control,
    substation=st.sampled_from(["s1", "s2"]) | substation_ids,
    state=st.sampled_from(Availability),
    limit=st.none() | st.integers(1, MAX_LIMIT),
    version=st.integers(1, 4) | st.integers(1, 2**53),
    power_limits=st.none() | power_limits,
)
control_messages = st.builds(
    Message, controls=st.lists(set_controls, max_size=4).map(tuple), marker=st.text()
)


def bodies(fields: list[str]) -> st.SearchStrategy[bytes]:
    """Draw bytes: any, any JSON, and JSON objects with these fields and any values."""
    objects = st.dictionaries(st.sampled_from(fields), json_values)
    return st.binary() | json_values.map(_json) | objects.map(_json)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def nested(depth: int) -> bytes:
    """Return JSON lists within lists."""
    return b"[" * depth + b"]" * depth
