"""W3C Trace Context: by which the log lines of one request are found in every service. Pure.

What anybody writes there is read with care, and never refused: a request is not worse for it.
Source: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
STATE_MOST: Final = 512  # characters of a tracestate that are carried on; a longer one is dropped
SAMPLED: Final = 0x01  # the flag by which a caller asks for its request to be recorded

_VERSION: Final = "00"
# a later version may have more behind the flags, and is read as far as it is known
_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE: Final = re.compile(r"[\x20-\x7e]*")

Chance = Callable[[int], int]  # gives so many random bits, as ``random.Random.getrandbits`` does


@dataclass(frozen=True, slots=True)
class Trace:
    """Where in a trace one service is: its own span, and the span it was called from.

    Ids are lower-case hexadecimal; ``parent`` is empty where the trace begins.
    """

    trace_id: str
    span_id: str
    parent: str = ""
    flags: int = 0
    state: str = ""

    @property
    def sampled(self) -> bool:
        """Tell whether the caller asked for the request to be recorded."""
        return bool(self.flags & SAMPLED)

    def headers(self) -> dict[str, str]:
        """Give what tells the next service of it: headers in HTTP and in AMQP alike."""
        head = {TRACEPARENT: f"{_VERSION}-{self.trace_id}-{self.span_id}-{self.flags:02x}"}
        return {**head, TRACESTATE: self.state} if self.state else head


def carried(headers: Mapping[str, Any], chance: Chance) -> Trace:
    """Give a new span of the trace that headers carry; of a new trace where they carry none."""
    span = _id(chance, 64)
    found = _read(headers.get(TRACEPARENT))
    if found is None:
        return Trace(_id(chance, 128), span)
    trace_id, parent, flags = found
    # of the flags only those that this version knows are passed on
    return Trace(trace_id, span, parent, flags & SAMPLED, _state(headers.get(TRACESTATE)))


def _read(value: object) -> tuple[str, str, int] | None:
    """Read a ``traceparent``: trace, span and flags; None where it is none."""
    if not isinstance(value, str) or (found := _FORM.fullmatch(value.strip(" \t"))) is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == _VERSION and more) or not int(trace_id, 16):
        return None
    return (trace_id, span_id, int(flags, 16)) if int(span_id, 16) else None


def _state(value: object) -> str:
    fits = isinstance(value, str) and len(value) <= STATE_MOST and _STATE.fullmatch(value)
    return str(value) if fits else ""


def _id(chance: Chance, bits: int) -> str:
    number = chance(bits) or 1  # all zeros is no id
    return f"{number:0{bits // 4}x}"
