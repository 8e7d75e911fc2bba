"""When the dispatcher was heard last, and whether what it said is old. Pure.

The page, ``/substations``, ``/readyz`` and the reason of a job that waits all mean this by a silent
dispatcher.
"""

from __future__ import annotations

from typing import Final, NamedTuple

DISPATCHER_TIMEOUT: Final = 2.5  # seconds; the dispatcher writes at least once a second


class LastHeard(NamedTuple):
    """How many seconds ago the dispatcher was heard last, and whether that was its last word."""

    seconds: float = 0.0
    has_left: bool = False

    @property
    def is_silent(self) -> bool:
        """Return whether the dispatcher has stopped, or was not heard for too long."""
        return self.has_left or self.seconds > DISPATCHER_TIMEOUT
