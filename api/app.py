"""The HTTP interface."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from prometheus_client import CollectorRegistry

from api import docs, document, problems, schemas
from api.admission import Door
from api.charging import Charging
from api.door import AtTheDoor
from api.headers import SecurityHeaders
from api.intake import Intake
from api.limits import BodyLimit
from api.log import EventLog
from api.problems import FIELD_MOST, NotCaughtUp, NotFound, NotJson, Problem
from api.projection import Projection
from api.repeated import RepeatedHeaders
from api.schemas import Charge, ChargeList, SubstationList, Wanted
from api.telemetry import Metrics, RequestMetrics
from grid import telemetry
from grid.asgi import NO_TELEMETRY, HeadAsGet, TrailingSlash
from grid.errors import STILL_READING, InvalidField
from grid.messages import ID_PATTERN, shown
from grid.trace import Chance

BODY_BYTES: Final = 64 * 1024
LIST_BYTES: Final = 1024 * 1024

_JSON: Final = re.compile(r"application/json|[\w!#$&^.+-]+/[\w!#$&^.+-]+\+json", re.ASCII)

Responses = dict[int | str, dict[str, Any]]
Id = Annotated[str, Path(pattern=ID_PATTERN)]


def _problem(status: int, description: str) -> Responses:
    return {status: {"model": Problem, "description": description}}


_WRONG: Final = _problem(422, "A field is wrong; the answer names it.")
_AWAY: Final = _problem(503, "RabbitMQ is away: try again after Retry-After.")
_LARGE: Final = _problem(
    413, f"The body is longer than {BODY_BYTES} bytes, or {LIST_BYTES} where it is a list."
)
_NOT_JSON: Final = _problem(415, "The body is not declared as JSON.")
_UNKNOWN: Final = _problem(404, "There is no such job.")
_TAKING: Final = {**_WRONG, **_AWAY, **_LARGE, **_NOT_JSON}


def create(
    intake: Intake,
    log: EventLog,
    projection: Projection,
    metrics: Metrics,
    registry: CollectorRegistry,
    *,
    operating: APIRouter,
    door: Door,
    now: Callable[[], float],
    chance: Chance,
    decision_wait: float,
    not_ready: telemetry.Problems,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
) -> FastAPI:
    """Return the app; ``decision_wait`` is how many seconds an answer waits for the decision.

    ``operating`` are the routes that need an operator's key (see ``api.operators``), ``now``
    returns the steady seconds for ``door``'s rate limits, ``chance`` the random bits for new names
    in a trace.
    """
    app = FastAPI(
        title="Smart grid dispatcher",
        description="Sends charge requests to the least-loaded substation.",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    charging = Charging(intake, log, decision_wait, chance)
    app.router.routes += charging.routes(
        tags=["charging"], responses=_TAKING, dependencies=[Depends(_check_json)]
    )
    app.include_router(_telling(log, projection))
    app.include_router(operating, responses=_TAKING, dependencies=[Depends(_check_json)])
    app.include_router(telemetry.router(registry, not_ready))
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        BodyLimit, limit=lambda path: LIST_BYTES if path == "/charges" else BODY_BYTES
    )
    app.add_middleware(problems.Unforeseen, new_id=lambda: f"{chance(64):016x}")
    app.add_middleware(AtTheDoor, door=door, registry=registry, now=now)
    app.add_middleware(RepeatedHeaders)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestMetrics, metrics=metrics)
    app.add_middleware(TrailingSlash)
    docs.install(app)
    problems.install(app, door.closed)
    document.install(app)
    return app


def _telling(log: EventLog, projection: Projection) -> APIRouter:
    routes = APIRouter(tags=["what became of it"], responses={**_WRONG, **_AWAY})

    def check_caught_up() -> None:
        if not log.caught_up.is_set():
            raise NotCaughtUp(STILL_READING)

    @routes.get("/charge/{id}", responses=_UNKNOWN)
    async def job(id: Id) -> Charge:
        """Tell what became of a request, and why it was sent where it was."""
        found = projection.get(id)
        if found is None:
            check_caught_up()
            raise NotFound(f"there is no job {id} in the event log")
        return schemas.charge(found)

    @routes.get("/charges", responses=_UNKNOWN, dependencies=[Depends(_check_query)])
    async def jobs(wanted: Annotated[Wanted, Query()]) -> ChargeList:
        """List the jobs, the oldest first. Each parameter is given once, and no other."""
        check_caught_up()
        try:
            jobs = projection.after(wanted.after, wanted.status, wanted.substation)
            found = list(islice(jobs, wanted.limit + 1))
        except KeyError:
            raise NotFound(f"after: there is no such job, got {shown(wanted.after)}") from None
        page = found[: wanted.limit]
        return ChargeList(
            charges=[schemas.listed(job) for job in page],
            next=page[-1].id if len(found) > wanted.limit else None,
        )

    @routes.get("/substations")
    async def substations() -> SubstationList:
        """Show each substation as the dispatcher last saw it."""
        check_caught_up()
        event = projection.substations
        if event is None:
            return SubstationList(as_of=None, substations=[])
        rows = schemas.substations(event)
        return SubstationList(as_of=schemas.moment(event.at), substations=rows)

    return routes


async def _check_query(request: Request) -> None:
    """Reject a parameter that is given more than once: one of its values would be ignored."""
    given = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in given.items():
        if count > 1:
            raise InvalidField(name[:FIELD_MOST], f"must be given once, got {count}")


async def _check_json(request: Request) -> None:
    """Reject a body that is not declared as JSON: a page of another site could send it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not _JSON.fullmatch(kind) and await request.body():
        raise NotJson(
            "send the body with the header Content-Type: application/json, "
            f"got {shown(kind) if kind else 'none'}"
        )
