"""What an event holds for its own kind, kept as JSON, since most readers never need it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from grid import wire


class Detail(Mapping[str, Any]):
    """The fields of a JSON object, known to be one and not empty, which is parsed when needed.

    A reader of the event log asks one decision in a thousand for more than a name that is not
    there, and each decision is as large as all other events of its job together. Bytes are small,
    and the garbage collector need not traverse them.
    """

    __slots__ = ("_fields", "json")

    def __init__(self, json: bytes) -> None:
        self.json = json
        self._fields: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return repr(self._read())

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """Return a field, or else the default, without parsing JSON that lacks the name."""
        if self._fields is None and not self.may_have(name):
            return default
        return self._read().get(name, default)

    def parsed(self) -> dict[str, Any]:
        """Return the fields, parsed anew unless they are known: nothing more is kept of them."""
        return _fields(self.json) if self._fields is None else self._fields

    def may_have(self, name: str) -> bool:
        """Return whether a field may have this in its name, without parsing anything."""
        return name.encode() in self.json or b"\\" in self.json

    def _read(self) -> dict[str, Any]:
        if self._fields is None:
            self._fields = _fields(self.json)
        return self._fields


def _fields(body: bytes) -> dict[str, Any]:
    """Return the fields of an object; none if it holds a number of thousands of digits."""
    for read in (msgspec.json.decode, json.loads):
        try:
            fields: dict[str, Any] = read(body)
        except wire.UNREADABLE:
            continue
        return fields
    return {}
