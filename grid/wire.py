"""Messages as JSON: the bytes that ``json.dumps`` writes, in a fifth of its time. Pure.

Services of two versions run side by side, and either may have written what is in a queue or a
stream: a message has the same bytes whichever version wrote it (decision 40).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

UNREADABLE: Final = (ValueError, RecursionError)  # what is raised over bytes that are no JSON
_UNWRITABLE: Final = (TypeError, ValueError, OverflowError, RecursionError)
# `json.dumps` writes small numbers as 1e-05, msgspec as 0.00001 and 1e-7. Both patterns begin with
# a text: `re` finds that in a quarter of the time it needs for a class of characters. The number
# ends behind one digit: one in ten UUIDs has e-4 in it, and `json.dumps` is much slower for each.
_SMALL: Final = re.compile(rb"0\.0000").search
_SMALLER: Final = re.compile(rb"e-(?<=[0-9]e-)[0-9](?![0-9A-Za-z-])").search


def encode(value: object) -> bytes:
    """Return the JSON form of a struct, or of whatever JSON can hold.

    Raise ``TypeError`` for a value that it cannot hold.
    """
    try:
        body = _ENCODER.encode(value)
    except _UNWRITABLE:  # a lone surrogate, which `json.dumps` escapes
        return _dumps(value)
    return body if _is_as_dumped(body) else _dumps(value)


def encode_lines(values: Iterable[object]) -> bytes:
    """Return the JSON forms of several values, one a line; the last line has no line break."""
    values = list(values)  # msgspec 0.22 never frees the iterator of anything else
    try:
        body = _ENCODER.encode_lines(values)[:-1]
    except _UNWRITABLE:
        return b"\n".join(map(encode, values))
    return body if _is_as_dumped(body) else b"\n".join(map(encode, values))


def _is_as_dumped(body: bytes) -> bool:
    """Return whether ``json.dumps`` writes the same: it escapes all but printable ASCII."""
    return body.isascii() and b"\x7f" not in body and not _SMALL(body) and not _SMALLER(body)


def _dumps(value: object) -> bytes:
    plain: Any = msgspec.to_builtins(value, enc_hook=_as_builtin)
    return json.dumps(plain, separators=(",", ":")).encode()


def _as_builtin(value: object) -> float | dict[Any, Any]:
    """Return a numpy number as Python's own, and any mapping as a dict."""
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be written as JSON")


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_as_builtin)
