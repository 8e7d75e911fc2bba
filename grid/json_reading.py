"""Structs made of JSON that msgspec does not read but Python's ``json`` does. Pure.

These are a lone surrogate, NaN in a place where anything may stand, and a repeated name whose first
value is wrong. Invalid messages are read here, too: the error says where it is wrong, what is
there, and what is expected.
"""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from grid.messages import shown

_PLACED: Final = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_REPEATED: Final = re.compile(r"(?<=value) '.*", re.DOTALL)  # a value in full, of any length
_STEP: Final = re.compile(r"(\w+)|\[(\d+)\]")

S = TypeVar("S", bound=Struct)


def known(value: object, struct: type[Struct]) -> object:
    """Return an object with only a struct's fields: msgspec cannot read every other name."""
    if not isinstance(value, dict):
        return value
    return {name: value[name] for name in struct.__struct_fields__ if name in value}


def convert(value: object, struct: type[S]) -> S:
    """Return the struct of a JSON value; raise ``ValueError`` if it is none."""
    try:
        return msgspec.convert(value, struct)
    except msgspec.ValidationError as error:
        raise ValueError(_described(value, error)) from error


def _described(value: object, error: msgspec.ValidationError) -> str:
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
