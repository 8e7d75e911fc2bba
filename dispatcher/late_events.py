"""For which substations redelivered requests wait: their events may be late. Pure.

RabbitMQ that is killed may have kept a job, and not its decision, which is in another file. The job
is charged as soon as its substation consumes again, and its event is written once that substation's
other link is up. A dispatcher that has read the event log before knows of neither.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from typing import Final

from dispatcher.queues import Queues
from scheduling.load_tracker import LoadTracker

EVENTS_SECONDS: Final = 10.0  # for the events of all; a substation may never write them


class LateEvents:
    """The substations that may have begun jobs of which no event was read.

    All may, when a link has broken. One is up to date once its queue has a consumer, and a page
    asked for after that shows nothing but what was read. So is one that counts as dead. Jobs that
    it does not begin meanwhile, since every connector is taken, do not count.

    Args:
        tracker: Knows the pages and the events.
        queues: Knows the consumers.
    """

    def __init__(self, tracker: LoadTracker, queues: Queues) -> None:
        self._tracker = tracker
        self._queues = queues
        # by name: when its queue was seen with a consumer, inf if it was not; None if not asked yet
        self._late: dict[str, float] | None = None
        self._until = inf

    def begin(self, now: float) -> None:
        """Record that a link has broken, of this dispatcher or of another one."""
        self._late = None
        self._queues.hurry(now)

    def update(self, now: float) -> Collection[str]:
        """Return the substations for which redelivered requests are to wait still."""
        if self._late is None:
            self._late = dict.fromkeys(self._tracker.substations, inf)
            self._until = now + EVENTS_SECONDS
        for name in [*self._late]:
            if self._is_up_to_date(name, self._late, now):
                del self._late[name]
        return self._late

    def pop_overdue(self, now: float) -> Collection[str]:
        """Return the substations that were waited for long enough, and wait for them no more."""
        if not self._late or now < self._until:
            return ()
        overdue, self._late = self._late, {}
        return overdue

    def _is_up_to_date(self, name: str, consumed_at: dict[str, float], now: float) -> bool:
        state = self._tracker.substations.get(name)
        if state is None or self._tracker.is_lost(state, now):
            return True
        if state.events_due is not None:
            return False
        if not self._queues.was_looked_at(name):
            return True  # a page alone tells
        if consumed_at[name] == inf:
            consumed_at[name] = self._queues.consumed_at(name)
        return state.asked_at >= consumed_at[name]
