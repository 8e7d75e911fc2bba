"""What became of a job before: what was sent from here, and what the event log tells of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import Final

from dispatcher.progress import Progress
from grid.events import Event
from scheduling.load_tracker import LoadTracker

REMEMBERED: Final = 200_000  # ids of jobs sent, to know a second request by


class Sent:
    """Where each job was sent last, as far as is remembered; what ended here is sent nowhere."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._where: OrderedDict[str, tuple[str, float, int]] = OrderedDict()

    def has(self, id: str, replays: int = 0) -> bool:
        """Return whether a job was sent, or ended here, since it was replayed so often."""
        known = self._where.get(id)
        return known is not None and known[2] >= replays

    def where(self, id: str) -> str | None:
        """Return the substation a job was sent to; empty where it ended here, None if unknown."""
        known = self._where.get(id)
        return None if known is None else known[0]

    def since(self, id: str) -> float:
        """Return when that was decided, in Unix seconds; before all time if unknown."""
        known = self._where.get(id)
        return -inf if known is None else known[1]

    def note(self, id: str, substation: str, at: float, replays: int = 0) -> None:
        """Record where a job was sent, and when that was decided, in Unix seconds."""
        self._where[id] = substation, at, replays
        if len(self._where) > self._most:
            self._where.popitem(last=False)

    def forget(self, id: str) -> None:
        """Forget where a job was sent: it was taken back."""
        self._where.pop(id, None)


class History:
    """Judges a job by both: its own memory, and ``progress``, which knows of other dispatchers.

    ``now`` returns the tracker's seconds.
    """

    def __init__(self, tracker: LoadTracker, progress: Progress, now: Callable[[], float]) -> None:
        self._tracker = tracker
        self._progress = progress
        self._now = now
        self.sent = Sent()

    def is_over(self, id: str, replays: int, asked_at: float) -> bool:
        """Return whether a request needs nothing more: its job was sent, or has ended.

        What was before an operator replayed it does not count, nor that one of its id was put aside
        before this one was asked for (Unix seconds).
        """
        return self.sent.has(id, replays) or self._progress.ended(id, replays, asked_at)

    def end(self, id: str, replays: int, asked_at: float) -> Event | None:
        """Return the event that ended such a job, where that is known."""
        over = self._progress.ended(id, replays, asked_at)
        return self._progress.end(id) if over else None

    def reclaim(self, id: str, substation: str) -> None:
        """Record that a job was taken back from a substation, where it had been sent."""
        self.sent.forget(id)
        self._tracker.invalidate_baseline(substation)

    def went_elsewhere(self, id: str, substation: str) -> bool:
        """Return whether a job that waits at a substation was sent elsewhere since, or ended here.

        What was remembered here is not the last word where another dispatcher sent it there later.
        """
        where = self.sent.where(id)
        if where in (None, substation):
            return False
        return not where or not self._went_there(id, substation)

    def was_reclaimed(self, id: str, substation: str) -> bool:
        """Return whether a job that comes as taken back from a substation was so after it was sent.

        By whichever dispatcher: what is remembered here of its way does not count any more.
        """
        where = self.sent.where(id)
        return bool(where) and (where == substation or self._went_there(id, substation))

    def is_unclear(self, id: str, substation: str) -> bool:
        """Return whether only the log can say when a job was taken back from that substation."""
        return self.sent.where(id) not in (None, "", substation)

    def sent_before(self, id: str, reclaimed: object = "", since: float = -inf) -> str | None:
        """Return the substation that another dispatcher decided on, as the event log has it.

        Not before ``since`` (Unix seconds), nor the one from which it was ``reclaimed``. None
        where that cannot be read any more; one whose first page is still to come is not given up.
        """
        where = self._progress.charging_at(id) or self._progress.sent_to(id)
        if where == reclaimed or self._progress.sent_at(id) < since:
            return None
        return self.known_there(where or "")

    def known_there(self, where: str) -> str | None:
        """Return a substation that knows a second copy which is sent there now; else None.

        Whether it is gone is not for a single page to say that could not be read.
        """
        state = self._tracker.substations.get(where)
        return where if state and not self._tracker.is_lost(state, self._now()) else None

    def charging_at(self, id: str) -> str | None:
        """Return the substation that charges a job now, as far as the newest events tell."""
        return self._progress.charging_at(id)

    def still_there(self, where: str) -> str | None:
        """Return a substation that there still is, dead or not: it is taken back; else None."""
        return where if where in self._tracker.substations else None

    def _went_there(self, id: str, substation: str) -> bool:
        """Return whether another dispatcher sent a job there, after it was sent from here."""
        where, at = self.sent.where(id) or "", self.sent.since(id)
        return self._progress.sent_since(id, substation, where, at)
