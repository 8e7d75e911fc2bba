"""Jobs that memory has no room for, packed, so that a retry of one is still known. Pure."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import NamedTuple

from api.job import Job
from grid import events


class _Packed(NamedTuple):
    """A job's events, how much of the log had been read then, and when it ended."""

    body: bytes
    attempt: int
    replays: int
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
        self._jobs: OrderedDict[str, _Packed] = OrderedDict()

    def __len__(self) -> int:
        """Give how many there are."""
        return len(self._jobs)

    def put(self, job: Job, now: float) -> None:
        """Take a job in; ``now`` is the log's time, in Unix seconds."""
        body = zlib.compress(events.encode(job.events()), level=1)
        at = min(job.last_at, now)
        self._jobs[job.id] = _Packed(body, job.attempt, job.replays, self._read, at)
        self._drop_while(lambda first: first.at < now - self._oldest)

    def get(self, id: str, number: int = 0) -> Job | None:
        """Give a job as it was, numbered so; None where there is none."""
        packed = self._jobs.get(id)
        if packed is None:
            return None
        job = Job(id, number, attempt=packed.attempt, replays=packed.replays)
        for event in events.decode(zlib.decompress(packed.body)):
            job.take(events.State(event.kind), event)
        return job

    def take(self, id: str, number: int) -> Job | None:
        """Give a job that is heard of again, and let go of it."""
        job = self.get(id, number)
        self._jobs.pop(id, None)
        return job

    def read(self, size: int) -> None:
        """Note that so many bytes more of the log were read: it drops as many at its other end."""
        self._read += size
        self._drop_while(lambda first: self._read - first.read > self._most_bytes)

    def _drop_while(self, old: Callable[[_Packed], bool]) -> None:
        while self._jobs and old(next(iter(self._jobs.values()))):
            self._jobs.popitem(last=False)
