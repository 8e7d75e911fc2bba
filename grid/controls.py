"""What operators have set for each substation, as ``charge.controls`` carries it. Pure.

Each message carries all that was ever set, so that the newest one alone tells everything. Two
writers at once lose nothing: messages are merged, substation by substation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from grid.errors import MalformedMessage
from grid.messages import shown, valid_substation_id

MAX_LIMIT: Final = 1_000_000  # sessions at once
_MAX_VERSION: Final = 2**53  # the largest that every reader of JSON takes for a whole number


class Availability(StrEnum):
    """Whether a substation is given jobs; one that drains finishes what it has."""

    AVAILABLE = "available"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Control:
    """What holds for one substation; as it stands here, where nobody has ever set anything.

    ``limit`` is how many sessions it may have at once, whatever its connectors; none is no limit.
    ``version`` counts the changes: one that was taken back keeps its version, and so wins over the
    change before.
    """

    substation: str
    state: Availability = Availability.AVAILABLE
    limit: int | None = None
    version: int = 0


class Message(NamedTuple):
    """One message of the stream; by ``marker`` its writer knows it again when it reads it back."""

    controls: tuple[Control, ...] = ()
    marker: str = ""


class Controls:
    """The newest control of each substation, whatever order and repetition they come in."""

    def __init__(self) -> None:
        self._newest: dict[str, Control] = {}

    def get(self, substation: str) -> Control:
        """Give what holds for a substation."""
        return self._newest.get(substation) or Control(substation)

    def all(self) -> tuple[Control, ...]:
        """Give every control that was ever set, by the substations' names."""
        return tuple(self._newest[name] for name in sorted(self._newest))

    def changed(self, substation: str, state: Availability, limit: int | None) -> Control:
        """Give the control that replaces the one that holds; it is not taken in yet."""
        return Control(substation, state, limit, self.get(substation).version + 1)

    def merge(self, controls: Iterable[Control]) -> list[Control]:
        """Take in what a message says; gives those that are others now.

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


def encode(message: Message) -> bytes:
    """Give the JSON form of a message."""
    value: dict[str, Any] = {"controls": [_fields(each) for each in message.controls]}
    if message.marker:
        value["marker"] = message.marker
    return json.dumps(value, separators=(",", ":")).encode()


def decode(body: bytes) -> Message:
    """Read one message of the stream; fields it does not know are ignored.

    Raises ``MalformedMessage`` for anything ``encode`` would not have written.
    """
    try:
        value = json.loads(body)
        controls = tuple(map(_control, value["controls"]))
        marker = value.get("marker", "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MalformedMessage(f"not what operators have set: {shown(body)}: {error}") from error
    if not isinstance(marker, str) or not isinstance(value["controls"], list):
        raise MalformedMessage(f"not what operators have set: {shown(body)}: a field is wrong")
    return Message(controls, marker)


def _fields(control: Control) -> dict[str, Any]:
    return {
        "substation": control.substation,
        "state": control.state,
        "limit": control.limit,
        "version": control.version,
    }


def _control(value: dict[str, Any]) -> Control:
    """Read one control. Raises ``ValueError`` and the errors of a value of another shape."""
    state = next((each for each in Availability if each == value["state"]), None)
    if state is None:
        raise ValueError(f"state is {shown(value['state'])}")
    control = Control(value["substation"], state, value["limit"], value["version"])
    if not valid_substation_id(control.substation):
        raise ValueError(f"substation is {shown(control.substation)}")
    if control.limit is not None and not _is_whole(control.limit, MAX_LIMIT):
        raise ValueError(f"limit is {shown(control.limit)}")
    if not _is_whole(control.version, _MAX_VERSION):
        raise ValueError(f"version is {shown(control.version)}")
    return control


def _is_whole(value: object, most: int) -> bool:
    return type(value) is int and 1 <= value <= most
