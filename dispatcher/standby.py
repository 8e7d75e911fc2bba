"""Which of several dispatchers is active: the one that RabbitMQ delivers the requests to. Pure."""

from __future__ import annotations

from math import inf
from typing import Final

SNAPSHOT_WITHIN_SECONDS: Final = 12.0  # the active one writes a snapshot at least every 10 s
GIVEN_UP_SECONDS: Final = (
    45.0  # without a snapshot; RabbitMQ closes a silent link after two heartbeats
)
STAND_BY_SECONDS: Final = 25.0  # without a snapshot, the other one is gone


class Standby:
    """Whether this dispatcher is active or on standby: RabbitMQ feeds one of several.

    A dispatcher that has read another's snapshot, and has had no request since, is on standby. So
    is one that has just started, until an active one would have written a snapshot. A dispatcher
    that ends orderly says so in its last snapshot. ``name`` is this dispatcher's;
    ``now`` is always in the same monotonic seconds.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._taken = False
        self.terms = 0  # how often it took over
        self._other_heard_at: float | None = None
        self._other_left = False
        self._listening_until = -inf
        self._heard_before_start: float | None = None  # when another wrote one
        self._leaves = False

    def is_undisputed(self, now: float) -> bool:
        """Return whether no other dispatcher can have requests that RabbitMQ delivered to it.

        The last delivery was to this one, or another has been silent for so long that RabbitMQ has
        closed its link.
        """
        if self._leaves:
            return False
        if (self._taken and self._other_heard_at is None) or self._other_left:
            return True
        last = self._heard_before_start if self._other_heard_at is None else self._other_heard_at
        return last is None or now - last > GIVEN_UP_SECONDS

    def is_standby(self, now: float) -> bool:
        """Return whether another dispatcher is active, or this one is ending."""
        heard = self._other_heard_at
        if self._leaves or now < self._listening_until:
            return True
        return heard is not None and not self._other_left and now - heard < STAND_BY_SECONDS

    def heard(self, name: str, now: float, *, leaves: bool = False) -> None:
        """Record a dispatcher's snapshot, perhaps this one's; its last one if it ``leaves``."""
        if name != self.name:
            self._other_heard_at, self._other_left = now, leaves

    def heard_before(self, name: str, seconds: float, now: float, *, leaves: bool = False) -> None:
        """Record a dispatcher's snapshot from before this start, ``seconds`` old."""
        if name != self.name:
            ago = max(0.0, seconds)
            self._heard_before_start = None if leaves else now - ago
            until = now + SNAPSHOT_WITHIN_SECONDS - ago
            self._listening_until = -inf if leaves else max(self._listening_until, until)

    def end(self) -> None:
        """Record that this dispatcher is ending."""
        self._leaves = True

    def on_delivery(self) -> bool:
        """Record a delivery of a request; return whether another may have been active until now.

        At the first one that is always so: another may have been active without a snapshot.
        """
        taken_over = not self._taken or self._other_heard_at is not None
        self._taken, self._other_heard_at, self._listening_until = True, None, -inf
        self.terms += taken_over
        return taken_over
