"""Values as error messages repeat them. It uses the standard library alone, as `make up` must."""

from __future__ import annotations

from typing import Final

_LONGEST: Final = 80


def shown(value: object) -> str:
    """Return a value as an error message repeats it: quoted, and cut if it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
