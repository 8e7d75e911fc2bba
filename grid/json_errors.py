"""What is wrong with a value of JSON: where, what stands there, and what is expected. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from grid.messages import shown

_PLACED: Final = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_REPEATED: Final = re.compile(r"(?<=value) '.*", re.DOTALL)  # a value in full, however long it is
_STEP: Final = re.compile(r"(\w+)|\[(\d+)\]")


def described(value: object, error: msgspec.ValidationError) -> str:
    """Return an error about a value, with what stands at the place that it names."""
    if (found := _PLACED.fullmatch(str(error))) is None:
        return str(error)
    why, place = found.groups()
    for name, number in _STEP.findall(place):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and number:
            value = value[int(number)]
        else:
            return str(error)
    return f"{place} is {shown(value)}: {_REPEATED.sub('', why)}"
