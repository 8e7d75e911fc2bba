"""Jobs that have ended and memory has no room for, so that a retry is still known. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import NamedTuple

from api.job import Job
from api.packed import pack, unpack


class _Kept(NamedTuple):
    """A packed job, how much of the log had been read then, and when it ended."""

    packed: bytes
    read: int
    at: float


class Retired:
    """Keeps jobs for as long as the event log has them, without their decisions.

    ``most_bytes`` and ``oldest`` (seconds) are the log's own bounds.
    """

    def __init__(self, most_bytes: float = inf, oldest: float = inf) -> None:
        self._most_bytes = most_bytes
        self._oldest = oldest
        self._read = 0
        self._jobs: OrderedDict[str, _Kept] = OrderedDict()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._jobs)

    def put(self, job: Job, now: float) -> None:
        """Add a job; ``now`` is the log's time, in Unix seconds."""
        self._jobs[job.id] = _Kept(pack(job), self._read, min(job.last_at, now))
        self._drop_while(lambda first: first.at < now - self._oldest)

    def get(self, id: str, number: int = 0) -> Job | None:
        """Return a job as it was, numbered so; None where there is none."""
        kept = self._jobs.get(id)
        return None if kept is None else unpack(id, kept.packed, number)

    def take(self, id: str, number: int) -> Job | None:
        """Return a job that is heard of again, and forget it here."""
        job = self.get(id, number)
        self._jobs.pop(id, None)
        return job

    def read(self, size: int) -> None:
        """Note that so many bytes more of the log were read: it drops as many at its other end."""
        self._read += size
        self._drop_while(lambda first: self._read - first.read > self._most_bytes)

    def _drop_while(self, old: Callable[[_Kept], bool]) -> None:
        while self._jobs and old(next(iter(self._jobs.values()))):
            self._jobs.popitem(last=False)
