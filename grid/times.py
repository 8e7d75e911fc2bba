"""Times as they stand in a sentence. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def to_the_second(at: float) -> str:
    """Return Unix seconds as a date and time in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
