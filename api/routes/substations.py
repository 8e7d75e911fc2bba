"""``/substations``: their state, and the controls by which operators drain or limit them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from datetime import datetime
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Path, Security
from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from api.answers import moment
from api.auth import ApiKey
from api.errors import UnknownSubstation
from api.openapi import INVALID, UNAVAILABLE, problem
from api.routes.dependencies import BEARER, OPERATOR_ERRORS, OperatorKey
from api.schemas import WHOLE, Strict
from api.substations import Substation
from api.view import View
from grid.control_log import Change, ControlLog
from grid.controls import MAX_LIMIT, Availability, Control
from grid.messages import SUBSTATION_PATTERN

logger = logging.getLogger(__name__)

TAG: Final = "substations"

_ERRORS: Final = {**OPERATOR_ERRORS, **problem(404, "There is no such substation.")}
_CHANGED: Final = "RabbitMQ has confirmed the change: the controls as they are now."

Id = Annotated[str, Path(pattern=SUBSTATION_PATTERN)]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, strict=True), WHOLE]


def _without_defaults(schema: dict[str, Any]) -> None:
    """Document a change without defaults: a client that sent them would change too much."""
    schema["minProperties"] = 1
    for each in schema["properties"].values():
        each.pop("default", None)


class ControlIn(Strict):
    """The controls of a substation; a field that is left out gets its default."""

    state: Availability = Field(
        default=Availability.AVAILABLE,
        description="A substation that is draining gets no new jobs, and finishes those it has.",
    )
    limit: Limit | None = Field(
        default=None,
        description="The maximum number of sessions at once, if it is lower than the connectors.",
    )

    def apply_to(self, before: Control) -> Control:
        """Return the control after this one replaced state and limit of the one before it."""
        return replace(before, **self.model_dump())


class ControlChange(Strict):
    """A change of the controls of a substation; a field that is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    state: Availability = Field(default=Availability.AVAILABLE, description="As with PUT.")
    limit: Limit | None = Field(default=None, description="As with PUT; null removes it.")

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty_change", "must have state, limit or both")
        return self

    def apply_to(self, before: Control) -> Control:
        """Return the control after this change to the one before it."""
        return replace(before, **self.model_dump(exclude_unset=True))


class ControlOut(BaseModel):
    """The controls of a substation as they are now."""

    id: str
    state: Availability
    limit: int | None


class SubstationList(BaseModel):
    """All substations, as the dispatcher described them at ``as_of``."""

    as_of: datetime | None = Field(description="When the dispatcher wrote this; null: never.")
    age_seconds: float | None = Field(
        description="How old that is: up to 10 s while nothing changes."
    )
    problem: str | None = Field(description="Why nothing is known of them; null if it is.")
    substations: list[Substation]


def router(view: View) -> APIRouter:
    """Return the route that needs no operator's key."""
    routes = APIRouter(tags=[TAG], responses=UNAVAILABLE)

    @routes.get(
        "/substations",
        summary="List substations",
        operation_id="listSubstations",
        response_description="Every substation as last seen, and how old that is.",
    )
    async def substations() -> SubstationList:
        """Return each substation as the dispatcher last saw it.

        If the dispatcher is silent, each is `unknown`, and none eligible.
        """
        view.log.check_caught_up()
        found, heard = view.projection.substations, view.feed.last_heard
        age = found.age(view.clock())
        return SubstationList(
            as_of=None if age is None else moment(found.at),
            age_seconds=None if age is None else round(age, 3),
            problem=found.silence(heard),
            substations=list(found.rows(heard)),
        )

    @routes.get(
        "/substations/{id}",
        summary="Get a substation",
        operation_id="getSubstation",
        response_description="The substation as last seen.",
        responses={
            **INVALID,
            **problem(404, "The dispatcher has described no such substation."),
        },
    )
    async def substation(id: Id) -> Substation:
        """Return a substation as the list has it."""
        view.log.check_caught_up()
        for each in view.projection.substations.rows(view.feed.last_heard):
            if each.id == id:
                return each
        raise UnknownSubstation(f"the dispatcher has described no substation {id}")

    return routes


def control_router(
    controls: ControlLog, known: Callable[[], Set[str]], timeout: float, operator_key: OperatorKey
) -> APIRouter:
    """Return the routes that need an operator's key.

    Args:
        controls: what operators have set.
        known: returns the ids of the substations, empty while they are not known.
        timeout: how many seconds RabbitMQ may take to confirm a change.
        operator_key: checks the key.
    """
    routes = APIRouter(tags=[TAG], responses=_ERRORS, dependencies=[Security(BEARER)])

    @routes.put(
        "/substations/{id}",
        summary="Replace the controls of a substation",
        operation_id="replaceSubstationControls",
        response_description=_CHANGED,
    )
    async def control(id: Id, body: ControlIn, key: ApiKey = operator_key) -> ControlOut:
        """Drain a substation, limit its sessions, or make it available again.

        A field that is left out gets its default. Answered once RabbitMQ has confirmed the change,
        which outlives restarts.
        """
        return await change_controls(id, body.apply_to, key)

    @routes.patch(
        "/substations/{id}",
        summary="Change the controls of a substation",
        operation_id="changeSubstationControls",
        response_description=_CHANGED,
    )
    async def change(id: Id, body: ControlChange, key: ApiKey = operator_key) -> ControlOut:
        """Drain a substation, limit its sessions, or make it available again.

        A field that is left out stays as it is. Answered once RabbitMQ has confirmed the change,
        which outlives restarts.
        """
        return await change_controls(id, body.apply_to, key)

    async def change_controls(id: str, change: Change, key: ApiKey) -> ControlOut:
        ids = known()
        if ids and id not in ids:
            raise UnknownSubstation(f"there is no substation {id}")
        now = await controls.set(id, change, timeout)
        limit = now.limit or "none"
        logger.info('operator "%s" set %s %s, limit %s', key.name, id, now.state, limit)
        return ControlOut(id=id, state=now.state, limit=now.limit)

    return routes
