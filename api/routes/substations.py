"""The operator's routes: drain a substation, or cap it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence, Set
from http import HTTPStatus
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Depends, HTTPException, Path, Request, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from api import problems
from api.auth import Key, Scope
from api.middleware import admission_of
from api.problems import NotFound, Problem
from api.schemas import WHOLE, Strict
from grid.control_log import Change, ControlLog
from grid.controls import MAX_LIMIT, Availability, Control
from grid.messages import SUBSTATION_PATTERN

log = logging.getLogger(__name__)

NO_KEYS: Final = (
    "no key is configured: `python -m api.new_key NAME operator` makes one, and the line of it for "
    "a file that OPERATOR_KEYS_FILE names, or API_KEYS_FILE, with which everybody needs a key"
)
NO_KEY: Final = "send an operator's key with the header Authorization: Bearer <key>"

# for the OpenAPI document: the key is checked once, by the middleware
_BEARER: Final = HTTPBearer(
    scheme_name=problems.SCHEME, description="A key of API_KEYS or API_KEYS_FILE.", auto_error=False
)
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": Problem, "description": "The key is missing, or not known."},
    403: {"model": Problem, "description": "The key does not have the scope operator."},
    404: {"model": Problem, "description": "There is no such substation."},
}

Id = Annotated[str, Path(pattern=SUBSTATION_PATTERN)]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, strict=True), WHOLE]


def _without_defaults(schema: dict[str, Any]) -> None:
    """Document a change without defaults: a client that sent them would set too much."""
    schema["minProperties"] = 1
    for each in schema["properties"].values():
        each.pop("default", None)


class ControlIn(Strict):
    """What shall hold for a substation: all of it, so what is left out is as if never set."""

    state: Availability = Field(
        default=Availability.AVAILABLE,
        description="A substation that is draining gets no new jobs, and finishes those it has.",
    )
    limit: Limit | None = Field(
        default=None, description="The most sessions at once, if fewer than its connectors."
    )


class ControlChange(Strict):
    """What shall change for a substation; what is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    state: Availability = Field(default=Availability.AVAILABLE, description="As with PUT.")
    limit: Limit | None = Field(default=None, description="As with PUT; null is none.")

    @model_validator(mode="after")
    def _check_something_is_said(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("nothing_said", "must have state, limit or both")
        return self

    def after(self, before: Control) -> tuple[Availability, int | None]:
        """Return state and limit after this change to what holds now."""
        said = self.model_fields_set
        state = self.state if "state" in said else before.state
        return state, self.limit if "limit" in said else before.limit


class ControlOut(BaseModel):
    """What holds for a substation now."""

    id: str
    state: Availability
    limit: int | None


def router(
    controls: ControlLog, known: Callable[[], Set[str]], timeout: float, *, any_keys: bool
) -> APIRouter:
    """Return the routes that need an operator's key; ``any_keys`` says whether there are some.

    ``known`` returns the ids of the substations, empty while they are not known; ``timeout`` is how
    many seconds RabbitMQ may take.
    """
    routes = APIRouter(tags=["operating"], responses=_ERRORS, dependencies=[Security(_BEARER)])

    async def operator(request: Request) -> Key:
        found = admission_of(request.scope).keys
        if not found:
            why = NO_KEY if any_keys else NO_KEYS
            raise HTTPException(HTTPStatus.UNAUTHORIZED, why, {"WWW-Authenticate": "Bearer"})
        return _with_scope(found, Scope.OPERATOR)

    needed = Depends(operator)  # an annotation would not see a name of this function

    @routes.put("/substations/{id}")
    async def control(id: Id, wanted: ControlIn, by: Key = needed) -> ControlOut:
        """Drain a substation, cap it, or make it available: what is left out is as if never set.

        Answered once RabbitMQ has it: it holds from then on, whatever is started again.
        """
        return await set_to(id, lambda _: (wanted.state, wanted.limit), by)

    @routes.patch("/substations/{id}")
    async def change(id: Id, wanted: ControlChange, by: Key = needed) -> ControlOut:
        """Drain a substation, cap it, or make it available: what is left out stays as it is.

        Answered once RabbitMQ has it: it holds from then on, whatever is started again.
        """
        return await set_to(id, wanted.after, by)

    async def set_to(id: str, change: Change, by: Key) -> ControlOut:
        there = known()
        if there and id not in there:
            raise NotFound(f"there is no substation {id}")
        now = await controls.set(id, change, timeout)
        limit = now.limit or "none"
        log.info('operator "%s" set %s %s, limit %s', by.name, id, now.state, limit)
        return ControlOut(id=id, state=now.state, limit=now.limit)

    return routes


def _with_scope(found: Sequence[Key], scope: Scope) -> Key:
    """Return the entry of a key that has a scope. Raise ``HTTPException`` (403) if none has."""
    for each in found:
        if each.scope is scope:
            return each
    raise HTTPException(
        HTTPStatus.FORBIDDEN, f'the key "{found[0].name}" does not have the scope {scope}'
    )
