"""When the dispatcher was heard last, and whether its last snapshot is current. Pure.

The page, ``/substations``, ``/readyz`` and the reason of a job that waits all mean this by a silent
dispatcher.
"""

from __future__ import annotations

from math import inf
from typing import Final, NamedTuple

DISPATCHER_TIMEOUT: Final = 2.5  # seconds; the dispatcher writes at least once a second
SNAPSHOT_TIMEOUT: Final = 12.0  # seconds; one is due every 10 s at least


class LastHeard(NamedTuple):
    """How many seconds ago the dispatcher was heard, and its last snapshot was read.

    The latter is infinite if none was read yet. ``has_left`` says that the dispatcher which wrote
    it has stopped since.
    """

    seconds: float = 0.0
    snapshot_seconds: float = 0.0
    has_left: bool = False

    @property
    def is_silent(self) -> bool:
        """Return whether nothing is known of the substations: the last snapshot is not current."""
        return (
            self.has_left
            or self.seconds > DISPATCHER_TIMEOUT
            or self.snapshot_seconds > SNAPSHOT_TIMEOUT
        )

    @property
    def problem(self) -> str | None:
        """Return why nothing is known of the substations; None if it is."""
        if not self.is_silent:
            return None
        if self.has_left:
            return f"dispatcher stopped {self.snapshot_seconds:.0f} s ago"
        if self.seconds > DISPATCHER_TIMEOUT:
            return f"dispatcher not heard for {self.seconds:.0f} s"
        if self.snapshot_seconds == inf:
            return "dispatcher has not described the substations yet"
        return f"dispatcher has not described the substations for {self.snapshot_seconds:.0f} s"


class DispatcherWatch:
    """When the dispatcher was heard, and when its last snapshot was read.

    Anything that a dispatcher writes shows that it lives; what it knows, its snapshots show alone.
    All times are seconds of a steady clock.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        self._heard_at: float | None = None
        self._snapshot_at = -inf
        self._has_left = False
        self._is_linked = True
        self._linked_at = now  # since when it is excused, for a moment
        self._may_be_excused = True

    def begin(self, heard_at: float, snapshot_at: float, *, has_left: bool) -> None:
        """Begin with what was written before the start, so far as nothing was heard since."""
        if self._heard_at is None:
            self._heard_at = heard_at
        if self._snapshot_at == -inf:
            self._snapshot_at, self._has_left = snapshot_at, has_left

    def hear(self, now: float) -> None:
        """Record that the dispatcher, or another one, has written anything."""
        self._heard_at = now
        self._may_be_excused = True

    def see_snapshot(self, now: float, *, has_left: bool) -> None:
        """Record that a snapshot was read; ``has_left`` if it is the last one of its dispatcher."""
        self._snapshot_at, self._has_left = now, has_left

    def on_link(self, now: float, *, is_up: bool) -> None:
        """Record whether the links to RabbitMQ are up.

        Once they are up again, the dispatcher is excused for a moment, but not again before it was
        heard: a link that breaks every other second would hide that it is dead.
        """
        if is_up and not self._is_linked and self._may_be_excused:
            self._linked_at, self._may_be_excused = now, False
        self._is_linked = is_up

    def is_excused(self, now: float) -> bool:
        """Return whether what it wrote may still come: the link has not been up for long."""
        return now - self._linked_at <= DISPATCHER_TIMEOUT

    def last_heard(self, now: float) -> LastHeard:
        """Return when it was heard last; before that, it counts as heard at the start."""
        heard_at = self._since if self._heard_at is None else self._heard_at
        return LastHeard(now - heard_at, now - self._snapshot_at, self._has_left)
