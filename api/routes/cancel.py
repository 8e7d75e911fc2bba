"""``DELETE /charge/{id}``: a client does not want its job any more."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Path, Response

from api import schemas
from api.canceller import Canceller
from api.openapi import INVALID, UNAVAILABLE, UNKNOWN_JOB, Responses, problem
from api.schemas import Charge
from grid.events import State
from grid.messages import ID_PATTERN

NOT_YET: Final[Responses] = {
    202: {"model": Charge, "description": "It will be cancelled as soon as a service has it."}
}
CONFLICT: Final = problem(409, "The job has ended otherwise; the answer says how.")

JobId = Annotated[str, Path(pattern=ID_PATTERN)]


def router(canceller: Canceller) -> APIRouter:
    """Return the routes that cancel a job."""
    routes = APIRouter(
        tags=["charging"],
        responses={**NOT_YET, **CONFLICT, **INVALID, **UNAVAILABLE, **UNKNOWN_JOB},
    )

    @routes.delete("/charge/{id}", summary="Cancel a charge")
    async def delete(id: JobId, response: Response) -> Charge:
        """Cancel a job, wherever it is: waiting, on its way to a substation, or charging.

        Answered with 200 once it is cancelled, also if it was before; with 409 if it ended
        otherwise. With 202 it will be cancelled as soon as the dispatcher or the substation that
        has it is back.
        """
        return await answer(id, response)

    @routes.post("/charge/{id}/cancel", summary="Cancel a charge without DELETE")
    async def cancel(id: JobId, response: Response) -> Charge:
        """Do the same as DELETE, for clients that cannot send that."""
        return await answer(id, response)

    async def answer(id: str, response: Response) -> Charge:
        job = await canceller.cancel(id)
        if job.status is not State.CANCELLED:
            response.status_code = HTTPStatus.ACCEPTED
        return schemas.charge(job)

    return routes
