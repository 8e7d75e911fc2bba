"""``/parked``: replaying and discarding jobs that could not be processed."""

from __future__ import annotations

import logging
from typing import Annotated, Final

from fastapi import APIRouter, Security
from pydantic import BaseModel, Field

from api.auth import ApiKey
from api.openapi import INVALID, UNAVAILABLE
from api.parked import Outcome, ParkedJobs
from api.routes.dependencies import BEARER, OPERATOR_ERRORS, OperatorKey
from api.schemas import MAX_LIST, Strict
from grid.messages import ID_PATTERN

logger = logging.getLogger(__name__)

TAG: Final = "parked"
MAX_REASON: Final = 500  # characters of a reason for a discard

ParkedId = Annotated[str, Field(pattern=ID_PATTERN)]
ParkedIds = Annotated[list[ParkedId], Field(min_length=1, max_length=MAX_LIST)]


class ReplayIn(Strict):
    """The parked jobs to replay: `GET /charges?status=parked` lists them."""

    ids: ParkedIds


class DiscardIn(Strict):
    """The parked jobs to discard, and why."""

    ids: ParkedIds
    reason: str = Field(
        default="", max_length=MAX_REASON, description="The job's `reason` will contain it."
    )


class RefusedJob(BaseModel):
    """A job that stays parked, and why."""

    id: str
    reason: str


class ParkedOut(BaseModel):
    """What became of parked jobs."""

    done: list[str]
    missing: list[str] = Field(
        description="They are not parked, or another operator has them at the moment."
    )
    refused: list[RefusedJob]


def router(parked: ParkedJobs, operator_key: OperatorKey) -> APIRouter:
    """Return the routes, which need an operator's key."""
    routes = APIRouter(
        tags=[TAG],
        responses={**OPERATOR_ERRORS, **INVALID, **UNAVAILABLE},
        dependencies=[Security(BEARER)],
    )

    @routes.post(
        "/parked/replay",
        summary="Replay parked jobs",
        operation_id="replayParked",
        response_description="Which jobs wait for the dispatcher again, and which stay as they "
        "were.",
    )
    async def replay(body: ReplayIn, key: ApiKey = operator_key) -> ParkedOut:
        """Send parked jobs to the dispatcher again, once their cause is mended.

        A job that would be parked again at once is refused.
        """
        return _answer("replayed", key, await parked.replay(body.ids))

    @routes.post(
        "/parked/discard",
        summary="Discard parked jobs",
        operation_id="discardParked",
        response_description="Which jobs are cancelled, and which stay as they were.",
    )
    async def discard(body: DiscardIn, key: ApiKey = operator_key) -> ParkedOut:
        """End parked jobs: they are cancelled, and nothing is charged."""
        return _answer("discarded", key, await parked.discard(body.ids, body.reason))

    return routes


def _answer(what: str, key: ApiKey, outcome: Outcome) -> ParkedOut:
    logger.info('operator "%s" %s %d parked jobs', key.name, what, len(outcome.done))
    refused = [RefusedJob(id=job, reason=why) for job, why in outcome.refused.items()]
    return ParkedOut(done=outcome.done, missing=outcome.missing, refused=refused)
