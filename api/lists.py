"""Lists of jobs, page by page and as CSV; between some jobs and the next, others are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from api import answers, csv_export
from api.answers import Charge, ChargeList
from api.errors import UnknownJob
from api.jobs.job import Job
from api.jobs.rows import START
from api.jobs.search import find
from api.schemas import JobFilter
from api.view import View
from grid.messages import shown

SHOWN_AT_ONCE: Final = 200  # jobs


class Lists:
    """The jobs that filters select."""

    def __init__(self, view: View) -> None:
        self._view = view

    async def page(self, job_filter: JobFilter) -> ChargeList:
        """Return a page of jobs. Raise as ``start_of``."""
        start, limit = self.start_of(job_filter), job_filter.limit
        found = await find(self._view.projection, job_filter.query(), start, limit + 1)
        charges: list[Charge] = []
        for begin in range(0, min(len(found), limit), SHOWN_AT_ONCE):
            charges += self._show(found[begin : min(begin + SHOWN_AT_ONCE, limit)])
            await asyncio.sleep(0)
        return {"charges": charges, "next": found[limit - 1].id if len(found) > limit else None}

    def start_of(self, job_filter: JobFilter) -> int:
        """Return the number behind which a list begins.

        Raise ``NotCaughtUp`` while it is not known which jobs there are, ``UnknownJob`` if the one
        of ``after`` is not there.
        """
        self._view.log.check_caught_up()
        if job_filter.after is None:
            return START
        try:
            return self._view.projection.number_of(job_filter.after)
        except KeyError:
            found = shown(job_filter.after)
            raise UnknownJob(f"after: there is no such job, got {found}") from None

    async def as_csv(self, job_filter: JobFilter, start: int) -> AsyncIterator[bytes]:
        """Yield the lines of the jobs behind a number; all of them if the filter has no limit."""
        yield csv_export.header()
        query, last = job_filter.query(), start
        has_limit = "limit" in job_filter.model_fields_set
        left = job_filter.limit if has_limit else SHOWN_AT_ONCE
        while left > 0:
            wanted = min(SHOWN_AT_ONCE, left)
            jobs = await find(self._view.projection, query, last, wanted)
            if jobs:
                yield csv_export.lines(self._show(jobs))
                last = jobs[-1].number
            if len(jobs) < wanted:
                return
            if has_limit:
                left -= len(jobs)

    def _show(self, jobs: list[Job]) -> list[Charge]:
        return [answers.listed(each, self._view.wait_of(each)) for each in jobs]
