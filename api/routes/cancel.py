"""``DELETE /charge/{id}``: a client does not want its job any more."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Response

from api import answers
from api.answers import Charge
from api.canceller import Canceller
from api.openapi import INVALID, UNAVAILABLE, UNKNOWN_JOB, Responses, problem
from api.routes.dependencies import JobId
from api.view import View
from grid.events import State

CANCELLED: Final = "The job is cancelled, by this request or an earlier one."
NOT_YET: Final[Responses] = {
    202: {"model": Charge, "description": "It will be cancelled as soon as a service has it."}
}
CONFLICT: Final = problem(409, "The job has ended otherwise; the answer says how.")


def router(canceller: Canceller, view: View) -> APIRouter:
    """Return the routes that cancel a job."""
    routes = APIRouter(
        tags=["charging"],
        responses={**NOT_YET, **CONFLICT, **INVALID, **UNAVAILABLE, **UNKNOWN_JOB},
    )

    @routes.delete(
        "/charge/{id}",
        summary="Cancel a charge",
        operation_id="cancelCharge",
        response_description=CANCELLED,
        response_model=Charge,
    )
    async def delete(id: JobId) -> Response:
        """Cancel a job, wherever it is: waiting, on its way to a substation, or charging.

        Answered with 200 once it is cancelled, also if it was before; with 409 if it ended
        otherwise. With 202 it will be cancelled as soon as the dispatcher or the substation that
        has it is back.
        """
        return await answer(id)

    @routes.post(
        "/charge/{id}/cancel",
        summary="Cancel a charge without DELETE",
        operation_id="cancelChargeByPost",
        response_description=CANCELLED,
        response_model=Charge,
    )
    async def cancel(id: JobId) -> Response:
        """Do the same as DELETE, for clients that cannot send that."""
        return await answer(id)

    async def answer(id: str) -> Response:
        job = await canceller.cancel(id)
        status = HTTPStatus.OK if job.status is State.CANCELLED else HTTPStatus.ACCEPTED
        shown = answers.full_charge(job, view.wait_of(job))
        return Response(answers.encode(shown), status, media_type="application/json")

    return routes
