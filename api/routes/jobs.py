"""``GET /charge/{id}`` and ``GET /charges``: what happened to a request."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from api import schemas
from api.errors import NotFound
from api.jobs.event_log import EventLog
from api.jobs.projection import Projection
from api.openapi import INVALID, UNAVAILABLE, UNKNOWN_JOB
from api.routes.dependencies import check_query
from api.schemas import Charge, ChargeList, JobFilter
from grid.messages import ID_PATTERN, shown

JobId = Annotated[str, Path(pattern=ID_PATTERN)]


def router(log: EventLog, projection: Projection) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["jobs"], responses={**INVALID, **UNAVAILABLE, **UNKNOWN_JOB})

    @routes.get("/charge/{id}", summary="Get a job")
    async def job(id: JobId) -> Charge:
        """Return a job: its state, its times, and the decision that sent it to its substation."""
        found = projection.get(id)
        if found is None:
            log.check_caught_up()
            raise NotFound(f"there is no job {id} in the event log")
        return schemas.charge(found)

    @routes.get("/charges", summary="List jobs", dependencies=[Depends(check_query)])
    async def jobs(job_filter: Annotated[JobFilter, Query()]) -> ChargeList:
        """Return a page of jobs, the oldest first, without their decisions.

        A parameter that is unknown or given twice is an error.
        """
        log.check_caught_up()
        try:
            jobs = projection.after(job_filter.after, job_filter.status, job_filter.substation)
            found = list(islice(jobs, job_filter.limit + 1))
        except KeyError:
            raise NotFound(f"after: there is no such job, got {shown(job_filter.after)}") from None
        page = found[: job_filter.limit]
        return ChargeList(
            charges=[schemas.listed(job) for job in page],
            next=page[-1].id if len(found) > job_filter.limit else None,
        )

    return routes
