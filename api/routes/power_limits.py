"""``/substations/{id}/limits``: how much power a substation may draw over time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from datetime import datetime
from math import inf
from typing import Annotated, Final

from fastapi import APIRouter, Security
from msgspec.structs import replace
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from api.answers import moment
from api.auth import ApiKey
from api.errors import UnknownSubstation
from api.openapi import INVALID, UNAVAILABLE, problem
from api.routes.dependencies import BEARER, OPERATOR_ERRORS, OperatorKey
from api.routes.substations import TAG, Id
from api.schemas import Moment, Strict
from grid.control_log import Change, ControlLog
from grid.controls import (
    MAX_BLOCKS,
    MAX_LIMIT_KW,
    SOURCE_PATTERN,
    Control,
    PowerBlock,
    PowerLimits,
    check_blocks,
)
from grid.messages import MAX_UNIX_TIME
from scheduling.power_limits import LimitSteps

logger = logging.getLogger(__name__)

_UNKNOWN: Final = problem(404, "There is no such substation.")


def _in_range(value: datetime) -> datetime:
    if not 0 <= value.timestamp() <= MAX_UNIX_TIME:
        raise ValueError("must be from 1970 to 9999 in UTC")
    return value


Time = Annotated[Moment, AfterValidator(_in_range)]
LimitKw = Annotated[float, Field(ge=0, le=MAX_LIMIT_KW, strict=True, allow_inf_nan=False)]

EXAMPLE: Final[JsonDict] = {
    "source": "dso",
    "fallback_kw": 60,
    "blocks": [
        {"start": "2030-05-01T17:00:00+02:00", "end": "2030-05-01T20:00:00+02:00", "limit_kw": 20},
        {"start": "2030-05-01T20:00:00+02:00", "end": "2030-05-02T06:00:00+02:00", "limit_kw": 120},
    ],
}


class BlockIn(Strict):
    """A limit from one time to another."""

    start: Time = Field(description="From when it holds, with its offset from UTC (RFC 3339).")
    end: Time = Field(description="Until when, exclusive: after `start`.")
    limit_kw: LimitKw = Field(
        description="What the substation may draw at most, other consumers included."
    )

    def block(self) -> PowerBlock:
        """Return it as it is written."""
        return PowerBlock(self.start.timestamp(), self.end.timestamp(), self.limit_kw)


class PowerLimitsIn(Strict):
    """The power that a substation may draw over time; they replace those there were."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    source: str = Field(
        pattern=SOURCE_PATTERN,
        description="Who asks for them: it is shown wherever a limit holds.",
    )
    blocks: list[BlockIn] = Field(
        min_length=1,
        max_length=MAX_BLOCKS,
        description="In order, without overlaps. A limit expires with its block's `end`.",
    )
    fallback_kw: LimitKw | None = Field(
        default=None,
        description="What holds wherever no block does: before, between and after them. "
        "null: no limit.",
    )

    def limits(self, now: float) -> PowerLimits:
        """Return them as they are written. Raise ``InvalidField`` if a block is wrong."""
        blocks = tuple(each.block() for each in self.blocks)
        check_blocks(blocks)
        return PowerLimits(blocks, self.source, now, self.fallback_kw)


class BlockOut(BaseModel):
    """A limit from one time to another."""

    start: datetime
    end: datetime
    limit_kw: float


class PowerLimitsOut(BaseModel):
    """The power that a substation may draw over time."""

    id: str
    source: str | None = Field(description="Who asked for them; null: nobody, nothing is limited.")
    set_at: datetime | None = Field(description="Since when they have been set.")
    blocks: list[BlockOut]
    fallback_kw: float | None = Field(description="What holds wherever no block does.")
    limit_kw: float | None = Field(description="What holds now; null: any power.")
    until: datetime | None = Field(description="When that changes; null: never.")


def readers(
    controls: ControlLog, known: Callable[[], Set[str]], clock: Callable[[], float]
) -> APIRouter:
    """Return the route that needs no operator's key.

    Args:
        controls: what operators have set.
        known: returns the ids of the substations, empty while they are not known.
        clock: returns Unix seconds.
    """
    routes = APIRouter(tags=[TAG], responses={**INVALID, **UNAVAILABLE, **_UNKNOWN})

    @routes.get(
        "/substations/{id}/limits",
        summary="Show the power limits of a substation",
        response_description="The limits, and the one that holds now.",
        operation_id="getSubstationLimits",
    )
    async def limits(id: Id) -> PowerLimitsOut:
        """Return the power that a substation may draw over time, and what holds now."""
        controls.check_caught_up()
        _check_known(id, known())
        return _shown(controls.get(id), clock())

    return routes


def router(
    controls: ControlLog,
    known: Callable[[], Set[str]],
    clock: Callable[[], float],
    timeout: float,
    operator_key: OperatorKey,
) -> APIRouter:
    """Return the routes that need an operator's key; RabbitMQ has ``timeout`` s to confirm."""
    routes = APIRouter(
        tags=[TAG],
        responses={**OPERATOR_ERRORS, **_UNKNOWN},
        dependencies=[Security(BEARER)],
    )

    @routes.put(
        "/substations/{id}/limits",
        summary="Limit the power of a substation over time",
        response_description="The limits as they are set now, and the one that holds.",
        operation_id="replaceSubstationLimits",
    )
    async def put(id: Id, body: PowerLimitsIn, key: ApiKey = operator_key) -> PowerLimitsOut:
        """Replace the power limits of a substation; to send the same again changes nothing.

        No session is started that would cross a limit, be it one that holds now or a lower one to
        come before the session's expected end. Answered once RabbitMQ has confirmed the change,
        which outlives restarts.
        """
        wanted = body.limits(clock())

        def apply(before: Control) -> Control:
            return replace(before, power_limits=_renewed(before, wanted))

        now = await change(id, apply)
        logger.info(
            'operator "%s" set the power limits of %s: %d blocks by %s until %s, then %s',
            key.name,
            id,
            len(wanted.blocks),
            wanted.source,
            moment(wanted.blocks[-1].end).isoformat(),
            "none" if wanted.fallback_kw is None else f"{wanted.fallback_kw:g} kW",
        )
        return _shown(now, clock())

    @routes.delete(
        "/substations/{id}/limits",
        summary="Remove the power limits of a substation",
        response_description="There are no limits now.",
        operation_id="removeSubstationLimits",
    )
    async def delete(id: Id, key: ApiKey = operator_key) -> PowerLimitsOut:
        """Let a substation draw any power its transformer is built for, fallback included."""
        now = await change(id, lambda before: replace(before, power_limits=None))
        logger.info('operator "%s" removed the power limits of %s', key.name, id)
        return _shown(now, clock())

    async def change(id: str, apply: Change) -> Control:
        _check_known(id, known())
        return await controls.set(id, apply, timeout)

    return routes


def _check_known(id: str, known: Set[str]) -> None:
    if known and id not in known:
        raise UnknownSubstation(f"there is no substation {id}")


def _renewed(before: Control, wanted: PowerLimits) -> PowerLimits:
    """Return limits; if they are set already, since when they were."""
    held = before.power_limits
    return held if held and replace(held, set_at=wanted.set_at) == wanted else wanted


def _shown(control: Control, now: float) -> PowerLimitsOut:
    limits = control.power_limits
    if limits is None:
        return PowerLimitsOut(
            id=control.substation, source=None, set_at=None, blocks=[], fallback_kw=None,
            limit_kw=None, until=None,
        )  # fmt: skip
    step = LimitSteps(limits).at(now)
    return PowerLimitsOut(
        id=control.substation,
        source=limits.source,
        set_at=moment(limits.set_at),
        blocks=[
            BlockOut(start=moment(each.start), end=moment(each.end), limit_kw=each.kw)
            for each in limits.blocks
        ],
        fallback_kw=limits.fallback_kw,
        limit_kw=None if step.kw == inf else step.kw,
        until=None if step.end == inf else moment(step.end),
    )
