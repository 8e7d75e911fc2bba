"""The sessions in progress at each substation, and how long sessions take there. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from msgspec import Struct

from api.jobs.job import Job
from grid.events import CHARGING, COMPLETED, ENDED, Event

MAX_SECONDS: Final = 30 * 24 * 3600.0  # of a session: who plans a longer one is not believed
MEAN_OF: Final = 50  # sessions: an older one counts less and less


class Session(Struct, frozen=True, gc=False):
    """When a session began, and when it is planned to end, in Unix seconds; 0 is unknown."""

    began: float
    ends_at: float


class Sessions:
    """What the event log says of sessions; a job has one at most."""

    def __init__(self) -> None:
        self._sessions: dict[str, dict[str, Session]] = {}  # by substation and job
        self._places: dict[str, str] = {}  # of the jobs that charge
        # that sessions take on average, by substation, and how many there were
        self._seconds: dict[str, tuple[float, int]] = {}

    def apply(self, event: Event, job: Job) -> None:
        """Apply an event that was applied to its job."""
        if event.kind in ENDED:
            session = self._remove(job.id)
            if session is not None and not session.ends_at and event.kind == COMPLETED:
                self._note(event.substation, event.at - session.began)
        elif job.status is not CHARGING:
            self._remove(job.id)
        elif event.kind == CHARGING and event.substation == job.substation:
            self._remove(job.id)
            self._places[job.id] = event.substation
            at = self._sessions.setdefault(event.substation, {})
            planned = event.ends_at - event.at
            is_known = 0 < planned <= MAX_SECONDS
            at[job.id] = Session(event.at, event.ends_at if is_known else 0.0)
            if is_known:  # at once: of those that end, the short ones are the first
                self._note(event.substation, planned)

    def forget(self, job: str) -> None:
        """Forget a job of which only a substation wrote: it could make up any number."""
        self._remove(job)

    def at(self, substation: str) -> Collection[Session]:
        """Return the sessions in progress at a substation."""
        return self._sessions.get(substation, {}).values()

    def seconds(self, substation: str) -> float | None:
        """Return how long sessions take at a substation; None while nobody knows."""
        known = self._seconds.get(substation)
        return None if known is None else known[0]

    def _remove(self, job: str) -> Session | None:
        where = self._places.pop(job, None)
        return None if where is None else self._sessions[where].pop(job)

    def _note(self, substation: str, seconds: float) -> None:
        if seconds < 0:  # a wrong clock
            return
        mean, count = self._seconds.get(substation, (seconds, 0))
        count = min(count + 1, MEAN_OF)
        self._seconds[substation] = mean + (seconds - mean) / count, count
