"""The time to read and write a message, compared with plain JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final, NamedTuple

from bench.node import RabbitMQ
from bench.report import Part, Row, Table
from bench.sizes import Sizes
from grid import controls, events, messages
from grid.controls import Availability, Control, Message
from grid.events import Counts, Event, State
from grid.messages import ChargeRequest

ENCODE, PLAIN_ENCODE = "encode, µs", "json.dumps, µs"
DECODE, PLAIN_DECODE = "decode, µs", "json.loads, µs"
ENCODES, DECODES = "encode ÷ json", "decode ÷ json"
CALLS: Final = 500  # timed together
AT: Final = 1_790_000_000.123456
REQUEST: Final = ChargeRequest(
    "3f0c8a54f1a94c0f9f6b7cbb1f3a9d10",
    AT,
    vehicle_id="EV-4711",
    requested_energy_kwh=40.5,
    requested_power_kw=22.0,
    departure_time=AT + 3600,
    priority=3,
    eligible_substations=("substation1", "substation2"),
)
COUNTS: Final = Counts(12.0, 4711.0, 4699.0, 0.0, AT - 86_400, 88.8, 0.0)
CANDIDATE: Final = {
    "load": 12.0, "connectors": 50.0, "gauge": 11.0, "gauge_age_seconds": 0.31,
    "outstanding": 1.0, "utilisation": 0.24, "power_kw": 88.8, "rated_power_kw": 400.0,
    "score": 0.26, "eligible": True,
}  # fmt: skip
DECISION: Final = {
    "requested_at": AT,
    "policy": "least-loaded",
    "reason": "the lowest utilisation of 3",
    "candidates": [{"substation": f"substation{each}", **CANDIDATE} for each in (1, 2, 3)],
}
EVENTS: Final = {
    "event: queued": Event(State.QUEUED, AT, REQUEST.id, detail=REQUEST.fields()),
    "event: assigned": Event(
        State.ASSIGNED, AT, REQUEST.id, "substation1", attempt=1, detail=DECISION
    ),
    "event: charging": Event(
        State.CHARGING, AT, REQUEST.id, "substation1", attempt=1, counts=COUNTS
    ),
}
CONTROLS: Final = Message(
    tuple(Control(f"substation{each}", Availability.DRAINING, 10, 3) for each in (1, 2, 3)), "m"
)


class Codec(NamedTuple):
    """One value, and how it is written and read."""

    encode: Callable[[], bytes]
    decode: Callable[[bytes], object]


CODECS: Final[dict[str, Codec]] = {
    "request": Codec(REQUEST.encode, messages.decode),
    **{
        name: Codec(lambda event=event: events.encode([event]), events.decode)  # type: ignore[misc]
        for name, event in EVENTS.items()
    },
    "controls": Codec(lambda: controls.encode(CONTROLS), controls.decode),
}


async def measure(_: RabbitMQ, _folder: Path, sizes: Sizes) -> Part:
    """Time every codec."""
    rows = [Row(name, _rounds(codec, sizes.repeats)) for name, codec in CODECS.items()]
    table = Table(
        "One message", [ENCODE, PLAIN_ENCODE, ENCODES, DECODE, PLAIN_DECODE, DECODES, "bytes"], rows
    )
    text = (
        "`grid.messages`, `grid.events` and `grid.controls`, with all their checks, compared "
        f"with `json` on the same bytes, without checks. {CALLS} calls in a row, the median of "
        f"{sizes.repeats} times."
    )
    return Part("codecs", "Codecs", text, [table])


def _rounds(codec: Codec, repeats: int) -> list[dict[str, float]]:
    body = codec.encode()
    value: Any = json.loads(body)
    found = []
    for _ in range(repeats):
        encode, decode = micros(codec.encode), micros(lambda: codec.decode(body))
        plain_encode = micros(lambda: json.dumps(value, separators=(",", ":")).encode())
        plain_decode = micros(lambda: json.loads(body))
        found.append(
            {
                ENCODE: encode,
                PLAIN_ENCODE: plain_encode,
                ENCODES: encode / plain_encode,
                DECODE: decode,
                PLAIN_DECODE: plain_decode,
                DECODES: decode / plain_decode,
                "bytes": len(body),
            }
        )
    return found


def micros(work: Callable[[], object]) -> float:
    """Return how long one call takes, in µs: the median of tenths of them."""
    return median(_timed(work, CALLS // 10) for _ in range(10))


def _timed(work: Callable[[], object], calls: int) -> float:
    begun = perf_counter()
    for _ in range(calls):
        work()
    return (perf_counter() - begun) / calls * 1e6
