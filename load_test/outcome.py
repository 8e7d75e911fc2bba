"""Following the accepted requests until they end, as the api reads them from the event log."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from math import inf
from typing import Final

from grid.events import State
from load_test import records
from load_test.client import Api, TryAgain
from load_test.forecasts import Forecast
from load_test.presence import Sample, present
from load_test.publisher import Clock
from load_test.records import Job, Substation, UnexpectedAnswer

DEFAULT_TIMEOUT: Final = 60.0
_SINGLES: Final = 200  # jobs asked for one by one in one poll, if the pages lack them
SAMPLE_SECONDS: Final = 1.0  # the dispatcher writes no more often
_PAUSE_SECONDS: Final = 0.3


class Follower:
    """What is known of the jobs; ``jobs`` holds all that were seen, by their ids, oldest first.

    Pages start at the first job of the run, and later after those that have ended; so a poll costs
    what is open and new, not all there is. The few jobs that pages miss, since they were accepted
    before the first one, are asked for one by one. ``samples`` are the substations' loads
    meanwhile, ``forecasts`` when waiting jobs were expected to begin.
    """

    def __init__(self, api: Api, clock: Clock) -> None:
        self.jobs: dict[str, Job] = {}
        self._api = api
        self._clock = clock
        self.samples: list[Sample] = []
        self.forecasts: dict[str, Forecast] = {}  # the first of each job
        self._sample_due = -inf
        self._gone: set[str] = set()
        self._after: str | None = None
        self.trouble = ""  # why the last look failed, if it did

    async def look_back(self) -> None:
        """Record the jobs that are in progress before the run: they make load as well.

        A job that no substation has any more will never end, and is not followed.
        """
        await self.sample()
        for status in ("assigned", "charging"):
            async for page in self._walk(None, status=status):
                self._add(page)
        self._gone = self.jobs.keys() - {
            job.id for job in present(self.jobs.values(), self.samples)
        }

    async def sample(self) -> None:
        """Record the substations' loads, unless that was done within ``SAMPLE_SECONDS``."""
        now = self._clock.steady()
        if now < self._sample_due:
            return
        self._sample_due = now + SAMPLE_SECONDS
        with suppress(TryAgain, UnexpectedAnswer):  # the next sample is enough
            sample = (await self._api.snapshot()).sample
            if sample is not None and (not self.samples or sample.at > self.samples[-1].at):
                self.samples.append(sample)

    def open(self, accepted: Iterable[str]) -> list[str]:
        """Return those of the jobs that have not ended, as far as is known."""
        jobs = self.jobs
        return [job for job in accepted if job not in jobs or not jobs[job].has_ended]

    async def follow(
        self, accepted: Sequence[str], timeout: float, tell: Callable[[int], object]
    ) -> None:
        """Poll until all have ended, or nothing has happened to any for ``timeout`` seconds.

        ``tell`` is called after each poll with how many have ended.
        """
        seen: Counter[State] = Counter()
        until = self._clock.steady() + timeout
        while True:
            await self.look(accepted)
            tell(len(accepted) - len(self.open(accepted)))
            states = Counter(self.jobs[job].status for job in accepted if job in self.jobs)
            if states != seen:
                seen, until = states, self._clock.steady() + timeout
            if not self.open(accepted) or self._clock.steady() > until:
                return
            await self._clock.sleep(_PAUSE_SECONDS)

    async def look(self, accepted: Sequence[str]) -> None:
        """Poll once. If the api is away, or restarting, nothing changes but ``trouble``."""
        await self.sample()
        try:
            fresh = await self._pages(accepted)
            missed = [job for job in self._all_open(accepted) if job not in fresh]
            for job in missed[:_SINGLES]:
                await self._single(job)
        except (TryAgain, UnexpectedAnswer) as error:
            self.trouble = str(error)
        else:
            self.trouble = ""

    def _all_open(self, accepted: Iterable[str]) -> list[str]:
        others = (
            job.id for job in self.jobs.values() if not job.has_ended and job.id not in self._gone
        )
        return list(dict.fromkeys([*self.open(accepted), *others]))

    async def _pages(self, accepted: Sequence[str]) -> set[str]:
        """Read all pages from where the last poll stopped; return the ids seen."""
        fresh: set[str] = set()
        all_ended = True
        async for page in self._walk(await self._start(accepted)):
            self._add(page)
            for job in page:
                fresh.add(job.id)
                all_ended = all_ended and job.has_ended
                self._after = job.id if all_ended else self._after
        return fresh

    async def _start(self, accepted: Sequence[str]) -> str | None:
        """Return the job to begin after; None, for the oldest one, if the api no longer has it."""
        start = self._after or next(iter(accepted), None)
        return start if start is not None and await self._single(start) else None

    async def _walk(self, after: str | None, **query: str) -> AsyncIterator[list[Job]]:
        while True:
            page, following = await self._api.jobs(after=after, **query)
            yield page
            if following is None or following == after:
                return
            after = following

    async def _single(self, job: str) -> bool:
        value = await self._api.job(job)
        if value is not None:
            self._add([records.job(value)])
        return value is not None

    def _add(self, jobs: Iterable[Job]) -> None:
        now = self._clock.wall()
        for job in jobs:
            self.jobs[job.id] = job
            if job.expected is not None:
                self.forecasts.setdefault(job.id, Forecast(now, job.expected))


def choosable(before: Iterable[Substation], after: Iterable[Substation]) -> dict[str, float]:
    """Return the connectors of the substations that could be chosen, before or after the run.

    If one does not say how many it has, no number is used: all count as equal.
    """
    eligible = _eligible(before, after)
    known = {name: count for name, count in eligible.items() if count}
    return known if len(known) == len(eligible) else dict.fromkeys(eligible, 1.0)


def capacity(before: Iterable[Substation], after: Iterable[Substation]) -> int | None:
    """Return the connectors of all those together; None if one does not say how many it has."""
    counts = _eligible(before, after).values()
    return int(sum(count for count in counts if count)) if counts and all(counts) else None


def _eligible(before: Iterable[Substation], after: Iterable[Substation]) -> dict[str, float | None]:
    return {one.id: one.connectors for one in (*before, *after) if one.eligible}
