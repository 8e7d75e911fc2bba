"""W3C Trace Context, by which one request is found in the logs and spans of every service. Pure.

Invalid headers are ignored, and never a reason to refuse a request.
Source: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
MAX_TRACESTATE: Final = (
    512  # characters of a tracestate that are carried on; a longer one is dropped
)
SAMPLED: Final = 0x01  # the flag by which a caller asks for its request to be recorded

_VERSION: Final = "00"
# a later version may have more after the flags, which is ignored
# ids of zeros only are not valid, nor is the version ff
_FORM: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_STATE: Final = re.compile(r"[\x20-\x7e]*")

Exemplar = dict[str, str]  # the labels by which a metric names a trace
Chance = Callable[[int], int]  # returns so many random bits, as ``random.Random.getrandbits`` does


class Trace(Struct, frozen=True, gc=False):
    """A service's place in a trace: its own span, and the span it was called from.

    Ids are lower-case hexadecimal; ``parent`` is empty if the trace begins here.
    """

    trace_id: str
    span_id: str
    parent: str = ""
    flags: int = 0
    state: str = ""

    @property
    def sampled(self) -> bool:
        """Return whether the caller asked for the request to be recorded."""
        return bool(self.flags & SAMPLED)

    @property
    def exemplar(self) -> Exemplar | None:
        """Return the exemplar of a trace that is recorded; else None."""
        return {"trace_id": self.trace_id} if self.flags & SAMPLED else None

    def headers(self) -> dict[str, str]:
        """Return the headers for the next service, the same in HTTP and in AMQP."""
        head = {TRACEPARENT: f"{_VERSION}-{self.trace_id}-{self.span_id}-{self.flags:02x}"}
        return {**head, TRACESTATE: self.state} if self.state else head


class Span(NamedTuple):
    """What a service did for a request, and when: ``began`` and ``ended`` are Unix seconds.

    It is asked over HTTP (``server``) or by a message (``consumer``). ``error`` says why it failed,
    if it did.
    """

    name: str
    kind: Literal["server", "consumer"]
    trace: Trace
    began: float
    ended: float
    attributes: Mapping[str, str | int | float]
    error: str = ""


Record = Callable[[Span], None]  # records a span of a sampled trace


class Sampler(NamedTuple):
    """Which traces are recorded, as OpenTelemetry's samplers of these names decide it.

    ``share`` is how many of 1 begin here and are recorded. One that begins elsewhere keeps its
    caller's flag if ``keeps_flag``.
    """

    share: float
    keeps_flag: bool

    def decide(self, trace: Trace) -> Trace:
        """Return a trace with the flag that says whether it is recorded."""
        if self.keeps_flag and trace.parent:
            return trace
        sampled = int(trace.trace_id[16:], 16) < round(self.share * 2**64)
        return replace(trace, flags=trace.flags | SAMPLED if sampled else trace.flags & ~SAMPLED)


def carried(headers: Mapping[str, Any], chance: Chance) -> Trace:
    """Return a new span of the trace in the headers; of a new trace if they carry none."""
    span = f"{chance(64) or 1:016x}"  # all zeros is not a valid id
    found = _read(headers.get(TRACEPARENT))
    if found is None:
        return Trace(f"{chance(128) or 1:032x}", span)
    trace_id, parent, flags = found
    # only the flags that this version knows are passed on
    return Trace(trace_id, span, parent, flags & SAMPLED, _state(headers.get(TRACESTATE)))


def _read(value: object) -> tuple[str, str, int] | None:
    """Return trace, span and flags of a ``traceparent``; None if it is none."""
    if not isinstance(value, str) or (found := _FORM.fullmatch(value.strip(" \t"))) is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    return None if version == _VERSION and more else (trace_id, span_id, int(flags, 16))


def _state(value: object) -> str:
    fits = isinstance(value, str) and len(value) <= MAX_TRACESTATE and _STATE.fullmatch(value)
    return str(value) if fits else ""
