"""What operators have set for each substation, as ``charge.controls`` carries it. Pure.

Each message carries all that was ever set, so that the newest one alone is complete. Two writers at
once lose nothing: messages are merged, substation by substation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta, Struct

from grid import wire
from grid.errors import MalformedMessage
from grid.json_reading import convert, known
from grid.messages import SubstationId, shown

MAX_LIMIT: Final = 1_000_000  # sessions at once
_MAX_VERSION: Final = 2**53  # the largest that every reader of JSON takes for a whole number
Limit: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]
Version: TypeAlias = Annotated[int, Meta(ge=1, le=_MAX_VERSION)]


class Availability(StrEnum):
    """Whether a substation is given jobs; one that drains finishes what it has."""

    AVAILABLE = "available"
    DRAINING = "draining"


class Control(Struct, frozen=True):
    """What holds for one substation; the defaults hold if nobody has ever set anything.

    ``limit`` is how many sessions it may have at once, whatever its connectors; None is no limit.
    ``version`` counts the changes: one that was reverted keeps its version, and so wins over the
    change before.
    """

    substation: str
    state: Availability = Availability.AVAILABLE
    limit: int | None = None
    version: int = 0


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

    def changed(self, substation: str, state: Availability, limit: int | None) -> Control:
        """Return the control that replaces the one that holds; it is not merged yet."""
        return Control(substation, state, limit, self.get(substation).version + 1)

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


class _Message(Struct):
    controls: tuple[_Control, ...]
    marker: str = ""


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
