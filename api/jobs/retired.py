"""Ended jobs that are not kept in full, packed so that a retry is still recognized. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import NamedTuple

from api.jobs.job import Job
from api.jobs.packed import pack, unpack


class _Kept(NamedTuple):
    """A packed job, how much of the log had been read then, and when it ended."""

    packed: bytes
    read: int
    at: float


class Retired:
    """Jobs without their decisions, kept for as long as the event log has them.

    ``max_bytes`` and ``max_age`` (seconds) are the log's own bounds.
    """

    def __init__(self, max_bytes: float = inf, max_age: float = inf) -> None:
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._read = 0
        self._jobs: OrderedDict[str, _Kept] = OrderedDict()

    def __len__(self) -> int:
        """Return how many jobs there are."""
        return len(self._jobs)

    def put(self, job: Job, now: float) -> None:
        """Add a job; ``now`` is the log's time, in Unix seconds."""
        self._jobs[job.id] = _Kept(pack(job), self._read, min(job.last_at, now))
        self._drop_while(lambda first: first.at < now - self._max_age)

    def get(self, id: str, number: int = 0) -> Job | None:
        """Return a job as it was, with this number; None if there is none."""
        kept = self._jobs.get(id)
        return None if kept is None else unpack(id, kept.packed, number)

    def pop(self, id: str, number: int) -> Job | None:
        """Remove and return a job, with this number; None if there is none."""
        job = self.get(id, number)
        self._jobs.pop(id, None)
        return job

    def read(self, size: int) -> None:
        """Record that so many more bytes of the log were read: it drops as many at its start."""
        self._read += size
        self._drop_while(lambda first: self._read - first.read > self._max_bytes)

    def _drop_while(self, old: Callable[[_Kept], bool]) -> None:
        while self._jobs and old(next(iter(self._jobs.values()))):
            self._jobs.popitem(last=False)
