"""Finding jobs of a query; between some jobs and the next, others are answered."""

from __future__ import annotations

import asyncio

from api.jobs.job import Job
from api.jobs.projection import Projection
from api.jobs.rows import JobQuery


async def find(projection: Projection, query: JobQuery, after: int, limit: int) -> list[Job]:
    """Return up to ``limit`` jobs behind a number, in the order of the query."""
    found: list[Job] = []
    last: int | None = after
    while last is not None and len(found) < limit:
        page = projection.page(query, last, limit - len(found))
        found += page.jobs
        last = page.last
        if last is not None:
            await asyncio.sleep(0)
    return found
