"""What operators have set for each substation, as ``charge.controls`` carries it. Pure.

Each message carries all that was ever set, so that the newest one alone is complete. Two writers at
once lose nothing: messages are merged, substation by substation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta, Struct

from grid import wire
from grid.errors import InvalidField, MalformedMessage
from grid.json_reading import convert, known
from grid.messages import MAX_UNIX_TIME, SubstationId, shown

MAX_LIMIT: Final = 1_000_000  # sessions at once
MAX_BLOCKS: Final = 200  # of one substation: two days of quarters of an hour
MAX_BYTES: Final = 4_000_000  # of a message: half of what RabbitMQ takes, and two may write at once
MAX_LIMIT_KW: Final = 1_000_000.0
SOURCE_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$"
_MAX_VERSION: Final = 2**53  # the largest that every reader of JSON takes for a whole number
Limit: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]
Version: TypeAlias = Annotated[int, Meta(ge=1, le=_MAX_VERSION)]
Source: TypeAlias = Annotated[str, Meta(pattern=SOURCE_PATTERN[:-1] + r"\Z")]
Time: TypeAlias = Annotated[float, Meta(ge=0.0, le=MAX_UNIX_TIME)]
LimitKw: TypeAlias = Annotated[float, Meta(ge=0.0, le=MAX_LIMIT_KW)]


class Availability(StrEnum):
    """Whether a substation is given jobs; one that drains finishes what it has."""

    AVAILABLE = "available"
    DRAINING = "draining"


class PowerBlock(Struct, frozen=True, array_like=True):
    """A limit in kW from ``start`` until ``end``, in Unix seconds."""

    start: Time
    end: Time
    kw: LimitKw


class PowerLimits(Struct, frozen=True):
    """How much power a substation may draw over time, in the shape of OSCP's forecast.

    ``blocks`` are in order and do not overlap. ``fallback_kw`` holds wherever no block does, also
    once the last one has ended; None is no limit. ``source`` says who asked for them; they were set
    at ``set_at``, in Unix seconds.
    """

    blocks: Annotated[tuple[PowerBlock, ...], Meta(max_length=MAX_BLOCKS)]
    source: Source
    set_at: Time
    fallback_kw: LimitKw | None = None


class Control(Struct, frozen=True, omit_defaults=True):
    """What holds for one substation; the defaults hold if nobody has ever set anything.

    ``limit`` is how many sessions it may have at once, whatever its connectors; None is no limit.
    ``version`` counts the changes: one that was reverted keeps its version, and so wins over the
    change before. Without ``power_limits`` none are written, as older readers know it.
    """

    substation: str
    # not plain defaults, which would be left out of a message
    state: Availability = msgspec.field(default_factory=lambda: Availability.AVAILABLE)
    limit: int | None = msgspec.field(default_factory=lambda: None)
    version: int = msgspec.field(default_factory=int)
    power_limits: PowerLimits | None = None


class Message(NamedTuple):
    """One message of the stream; its writer recognises it by ``marker`` when reading it back."""

    controls: tuple[Control, ...] = ()
    marker: str = ""


class Controls:
    """The newest control of each substation, in whatever order and however often they come."""

    def __init__(self) -> None:
        self._newest: dict[str, Control] = {}

    def get(self, substation: str) -> Control:
        """Return what holds for a substation."""
        return self._newest.get(substation) or Control(substation)

    def all(self) -> tuple[Control, ...]:
        """Return every control that was ever set, by the substations' names."""
        return tuple(self._newest[name] for name in sorted(self._newest))

    def changed(self, control: Control) -> Control:
        """Return the control that replaces the one that holds; it is not merged yet."""
        version = self.get(control.substation).version + 1
        return msgspec.structs.replace(control, version=version)

    def merge(self, controls: Iterable[Control]) -> list[Control]:
        """Merge what a message says; return the controls that changed.

        The higher version wins, and of equal ones the earlier: readers of one stream agree on that,
        and whoever wrote the later one finds out that it does not hold.
        """
        return [each for each in controls if self._take(each)]

    def _take(self, control: Control) -> bool:
        held = self._newest.get(control.substation)
        if held is not None and held.version >= control.version:
            return False
        self._newest[control.substation] = control
        return True


class _Control(Struct):
    """A control as it is written: complete, and checked."""

    substation: SubstationId
    state: Availability
    limit: Limit | None
    version: Version
    power_limits: PowerLimits | None = None


class _Message(Struct):
    controls: tuple[_Control, ...]
    marker: str = ""


def check_blocks(blocks: Iterable[PowerBlock]) -> None:
    """Raise ``InvalidField`` for a block that is empty, out of order, or overlaps another."""
    before = -1.0
    for number, (start, end) in enumerate((each.start, each.end) for each in blocks):
        if end <= start:
            problem = f"must be after start, {_shown_time(start)}, got {_shown_time(end)}"
            raise InvalidField(f"blocks.{number}.end", problem)
        if start < before:
            raise InvalidField(
                f"blocks.{number}.start",
                f"must not be before the block before it ends, {_shown_time(before)}, got "
                f"{_shown_time(start)}: blocks are in order, and do not overlap",
            )
        before = end


def check_length(controls: Iterable[Control]) -> None:
    """Raise ``InvalidField`` if a message of all these controls would be too long."""
    if (length := len(encode(Message(tuple(controls))))) > MAX_BYTES:
        raise InvalidField(
            "blocks",
            f"the controls of all substations may take {MAX_BYTES} bytes, and would take {length}: "
            "send fewer blocks, or remove limits of other substations",
        )


def _shown_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


_DECODER: Final = msgspec.json.Decoder(_Message)


def encode(message: Message) -> bytes:
    """Return the JSON form of a message."""
    value: dict[str, Any] = {"controls": message.controls}
    if message.marker:
        value["marker"] = message.marker
    return wire.encode(value)


def decode(body: bytes) -> Message:
    """Return one message of the stream; fields it does not know are ignored.

    Raise ``MalformedMessage`` for anything ``encode`` would not have written.
    """
    try:
        found = _DECODER.decode(body.decode())
    except wire.UNREADABLE:
        found = _decode_slowly(body)
    for each in found.controls:
        try:
            check_blocks(each.power_limits.blocks if each.power_limits else ())
        except InvalidField as error:
            problem = f"not a message of controls: {each.substation}: {error}"
            raise MalformedMessage(problem) from error
    controls = (Control(*msgspec.structs.astuple(each)) for each in found.controls)
    return Message(tuple(controls), found.marker)


def _decode_slowly(body: bytes) -> _Message:
    """Return a message that msgspec does not read; say what is wrong where it is none."""
    try:
        value = known(json.loads(body), _Message)
        if isinstance(value, dict) and isinstance(rows := value.get("controls"), list):
            value["controls"] = [known(each, _Control) for each in rows]
        return convert(value, _Message)
    except wire.UNREADABLE as error:
        raise MalformedMessage(f"not a message of controls: {shown(body)}: {error}") from error
