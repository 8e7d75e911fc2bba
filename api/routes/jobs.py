"""``GET /charge/{id}`` and ``GET /charges``: what happened to requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from api import answers
from api.answers import Charge, ChargeList
from api.jobs.job import Job
from api.lists import Lists
from api.openapi import INVALID, UNAVAILABLE, UNKNOWN_JOB, header
from api.routes.dependencies import JobId, check_query
from api.schemas import JobFilter, JobWait
from api.view import View
from grid.events import ENDED, State
from grid.negotiation import prefers

JSON: Final = "application/json"
CSV: Final = "text/csv"
_ORDER: Final = (State.QUEUED, State.ASSIGNED, State.CHARGING)
_VARY: Final = {"Vary": "Accept"}
# not declared by GET /charges: for two kinds of content, a generated client has a union of types
_AS_CSV: Final[dict[str, Any]] = {
    CSV: {
        "schema": {"type": "string"},
        "example": "id,status,vehicle_id,…\r\n0b4e…,completed,bus 12,…\r\n",
    }
}

JobFilterQuery = Annotated[JobFilter, Query()]


def router(view: View) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["jobs"], responses={**INVALID, **UNAVAILABLE, **UNKNOWN_JOB})
    lists = Lists(view)

    @routes.get(
        "/charge/{id}",
        summary="Get a job",
        operation_id="getCharge",
        response_description="The job as it is now.",
        response_model=Charge,
        dependencies=[Depends(check_query)],
    )
    async def job(request: Request, id: JobId, job_wait: Annotated[JobWait, Query()]) -> Response:
        """Return a job: its state, its times, and the decision that sent it to its substation.

        With `wait`, the answer comes once the job is in the state `until`, or after so many seconds
        as it is then, or earlier if the api stops. While a job waits to be sent, `reason` says why,
        and `place` when its turn is.
        """
        found = view.log.existing(id)
        if job_wait.wait:
            view.log.check_caught_up()
            has_reached = partial(_has_reached, until=job_wait.until)
            waiting = view.log.until(found, has_reached, job_wait.wait)
            found = await _while_connected(request, waiting) or found
        shown = answers.full_charge(found, view.wait_of(found))
        return Response(answers.encode(shown), media_type=JSON)

    @routes.get(
        "/charges",
        summary="List jobs",
        operation_id="listCharges",
        response_description="A page of the jobs that match, and where the next one begins.",
        response_model=ChargeList,
        dependencies=[Depends(check_query)],
        responses=header("Vary"),
    )
    async def jobs(request: Request, job_filter: JobFilterQuery) -> Response:
        """Return a page of jobs, without their decisions.

        A parameter that is unknown or given twice is an error. With `Accept: text/csv`, the answer
        is that of GET /charges.csv.
        """
        if prefers_csv(",".join(request.headers.getlist("accept"))):
            return export(job_filter, _VARY)
        page = await lists.page(job_filter)
        return Response(answers.encode(page), media_type=JSON, headers=_VARY)

    @routes.get(
        "/charges.csv",
        summary="Export jobs as CSV",
        operation_id="exportCharges",
        response_description="The jobs that match, one a line.",
        response_class=Response,
        dependencies=[Depends(check_query)],
        responses={200: {"content": _AS_CSV, **header("Content-Disposition")[200]}},
    )
    async def jobs_as_csv(job_filter: JobFilterQuery) -> Response:
        """Return the jobs that GET /charges lists, one a line; without `limit`, all of them.

        The first line names the columns. Times are UTC. A text that a spreadsheet would take for a
        formula begins with an apostrophe.
        """
        return export(job_filter, {})

    def export(job_filter: JobFilter, headers: Mapping[str, str]) -> Response:
        return StreamingResponse(
            lists.as_csv(job_filter, lists.start_of(job_filter)),
            media_type=f"{CSV}; charset=utf-8; header=present",
            headers={"Content-Disposition": 'attachment; filename="charges.csv"', **headers},
        )

    return routes


def prefers_csv(accept: str) -> bool:
    """Return whether an Accept header asks for CSV rather than for JSON."""
    return prefers(accept, CSV, JSON)


def _has_reached(job: Job, until: State) -> bool:
    """Return whether a job is in a state, or in one that follows."""
    if job.status in ENDED:
        return True
    return until in _ORDER and _ORDER.index(job.status) >= _ORDER.index(until)


async def _while_connected(request: Request, waiting: Awaitable[Job]) -> Job | None:
    """Return what is waited for; None if the client has left before.

    Raise what is wrong with a body that comes meanwhile, as ``BodyLimit`` does.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    reached, left = asyncio.ensure_future(waiting), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({reached, left}, return_when=asyncio.FIRST_COMPLETED)
        if reached.done():
            return reached.result()
        left.result()
        return None
    finally:
        for each in (reached, left):
            each.cancel()
        # an error that nobody asks for would end the service
        await asyncio.gather(reached, left, return_exceptions=True)
