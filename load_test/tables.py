"""Tables with a header, as CSV: their rows, and what a cell holds. Pure.

An error names the line, and the column with its value.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import StringIO
from math import isfinite, nan
from typing import TypeAlias, TypeVar

from grid.errors import ConfigurationError

Row: TypeAlias = Mapping[str, str | None]
T = TypeVar("T")


def rows(text: str, reader: Callable[[tuple[str, ...]], Callable[[Row], T]]) -> Iterator[T]:
    """Yield what is read of each row; ``reader`` returns how, from the names of the columns.

    Raise ``ConfigurationError`` with the line.
    """
    table = csv.DictReader(StringIO(text, newline=""), strict=True)
    try:
        read = reader(tuple(table.fieldnames or ()))
        for row in table:
            yield read(row)
    except (csv.Error, ConfigurationError) as error:
        raise ConfigurationError(f"line {max(table.reader.line_num, 1)}: {error}") from error


def number(row: Row, name: str) -> float:
    """Return a cell's number, 0 or more."""
    try:
        value = float(row[name] or "")
    except ValueError:
        value = nan
    if not (isfinite(value) and value >= 0):
        raise ConfigurationError(f"{name} must be a number, 0 or more, got {row[name]!r}")
    return value


def moment(row: Row, name: str) -> float:
    """Return a cell's time in Unix seconds; without an offset it is taken as UTC."""
    text = row[name] or ""
    try:
        found = _date(text)
    except ValueError as error:
        wanted = "a time like 2019-05-01 06:33:14-07:00"
        raise ConfigurationError(f"{name} must be {wanted}, got {row[name]!r}") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _date(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parsedate_to_datetime(text)  # as in "Wed, 25 Apr 2018 11:08:04 GMT"
