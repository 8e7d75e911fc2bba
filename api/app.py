"""The HTTP interface."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, FastAPI, Header, Path, Query, Response
from prometheus_client import CollectorRegistry

from api import problems, schemas
from api.intake import Intake
from api.limits import BodyLimit
from api.log import EventLog
from api.problems import NotCaughtUp, NotFound
from api.projection import Job, Projection
from api.schemas import (
    Accepted,
    AcceptedList,
    Charge,
    ChargeIn,
    ChargeList,
    Problem,
    Substation,
    SubstationList,
)
from api.telemetry import Metrics, RequestMetrics
from grid import telemetry
from grid.errors import InvalidField
from grid.events import State
from grid.messages import ID_PATTERN, MAX_BODY_BYTES, SUBSTATION_PATTERN, shown

LIST_BYTES = 1024 * 1024
LIST_MOST = 1000

Responses = dict[int | str, dict[str, Any]]
Id = Annotated[str, Path(pattern=ID_PATTERN)]
Prefer = Annotated[
    str, Header(description="`respond-async` (RFC 7240): do not wait for the decision.")
]


def _problem(status: int, description: str) -> Responses:
    return {status: {"model": Problem, "description": description}}


_WRONG: Final = _problem(422, "A field is wrong; the answer names it.")
_AWAY: Final = _problem(503, "RabbitMQ is away: try again after Retry-After.")
_LARGE: Final = _problem(413, "The body is too long.")
_UNKNOWN: Final = _problem(404, "There is no such job.")


def create(
    intake: Intake,
    log: EventLog,
    projection: Projection,
    metrics: Metrics,
    registry: CollectorRegistry,
    *,
    decision_wait: float,
    not_ready: telemetry.Problems,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
) -> FastAPI:
    """Make the app; ``decision_wait`` is how many seconds an answer waits for the decision."""
    app = FastAPI(
        title="Smart grid dispatcher",
        description="Sends charge requests to the least-loaded substation.",
        version="1",
        lifespan=lifespan,
    )
    app.include_router(_taking(intake, log, decision_wait))
    app.include_router(_telling(log, projection))
    app.include_router(telemetry.router(registry, not_ready))
    app.add_middleware(
        BodyLimit, limit=lambda path: LIST_BYTES if path == "/charges" else MAX_BODY_BYTES
    )
    app.add_middleware(RequestMetrics, metrics=metrics)
    problems.install(app)
    return app


def _taking(intake: Intake, log: EventLog, decision_wait: float) -> APIRouter:
    routes = APIRouter(tags=["charging"], responses={**_WRONG, **_AWAY, **_LARGE})

    @routes.post("/charge", status_code=202)
    async def charge(
        response: Response,
        wanted: Annotated[ChargeIn | None, Body()] = None,
        prefer: Prefer = "",
    ) -> Accepted:
        """Ask for a vehicle to be charged.

        Answered once RabbitMQ has the request, and usually with the substation it was sent to.
        """
        job = await intake.accept(wanted or ChargeIn())
        response.headers["Location"] = f"/charge/{job.id}"
        if _respond_async(prefer):
            response.headers["Preference-Applied"] = "respond-async"
        else:
            await log.decided(job, decision_wait)
        return schemas.accepted(job)

    @routes.post("/charges", status_code=202)
    async def charge_several(
        wanted: Annotated[list[ChargeIn], Body(min_length=1, max_length=LIST_MOST)],
    ) -> AcceptedList:
        """Ask for several vehicles to be charged; answered once RabbitMQ has all requests."""
        jobs = await intake.accept_all(wanted)
        return AcceptedList(jobs=[schemas.accepted(job) for job in jobs])

    return routes


def _telling(log: EventLog, projection: Projection) -> APIRouter:
    routes = APIRouter(tags=["what became of it"], responses={**_WRONG, **_AWAY})

    def check_caught_up() -> None:
        if not log.caught_up.is_set():
            raise NotCaughtUp("the event log is still being read")

    @routes.get("/charge/{id}", responses=_UNKNOWN)
    async def job(id: Id) -> Charge:
        """Tell what became of a request, and why it was sent where it was."""
        found = projection.get(id)
        if found is None:
            check_caught_up()
            raise NotFound(f"there is no job {id} in the event log")
        return schemas.charge(found, with_decision=True)

    @routes.get("/charges")
    async def jobs(
        status: State | None = None,
        substation: Annotated[str | None, Query(pattern=SUBSTATION_PATTERN)] = None,
        limit: Annotated[int, Query(ge=1, le=LIST_MOST)] = 100,
        after: Annotated[
            str | None, Query(pattern=ID_PATTERN, description="The last id of the page before.")
        ] = None,
    ) -> ChargeList:
        """List the jobs, the oldest first."""
        check_caught_up()

        def wanted(job: Job) -> bool:
            return status in (None, job.status) and substation in (None, job.substation)

        try:
            found = list(islice(filter(wanted, projection.after(after)), limit + 1))
        except KeyError:
            raise InvalidField("after", f"there is no such job, got {shown(after)}") from None
        page = found[:limit]
        return ChargeList(
            charges=[schemas.charge(job, with_decision=False) for job in page],
            next=page[-1].id if len(found) > limit else None,
        )

    @routes.get("/substations")
    async def substations() -> SubstationList:
        """Show each substation as the dispatcher last saw it."""
        check_caught_up()
        event = projection.substations
        if event is None:
            return SubstationList(as_of=None, substations=[])
        found = [Substation(**each) for each in event.detail["substations"]]
        return SubstationList(as_of=schemas.moment(event.at), substations=found)

    return routes


def _respond_async(prefer: str) -> bool:
    """Read RFC 7240's list of preferences."""
    names = (part.split(";")[0].strip().lower() for part in prefer.split(","))
    return "respond-async" in names
