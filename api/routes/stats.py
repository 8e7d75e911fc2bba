"""``GET /stats``: what happened, in numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from math import inf
from typing import Annotated, Final, NotRequired

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field, with_config
from typing_extensions import TypedDict

from api import answers
from api.answers import ONLY_DOCUMENTED
from api.jobs.stats import REQUESTS, SESSIONS, Cell, Stats
from api.openapi import INVALID, UNAVAILABLE
from api.routes.dependencies import check_query
from api.schemas import StatsFilter
from api.view import View
from grid.events import State

ROWS_AT_ONCE: Final = 100  # between which others are answered


class Rates(TypedDict):
    """How many there were a second, in the last full minute."""

    requests: float
    sessions: float
    completed: float


class Waits(TypedDict):
    """How long jobs waited from their request to the start of their session, in seconds.

    Null if none was started. The percentiles are exact to 5 %.
    """

    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None


class Counts(TypedDict):
    """What happened: sessions that were started, how jobs ended, and the energy of sessions."""

    sessions: int
    completed: int
    cancelled: int
    expired: int
    parked: int
    energy_kwh: Annotated[
        float, Field(description="What sessions had delivered when they ended, as far as known.")
    ]
    waits: Waits


class AllCounts(Counts):
    """What happened, and how many requests were accepted."""

    requests: int


class HourCounts(AllCounts):
    """What happened in an hour."""

    hour: Annotated[datetime, Field(description="Its beginning, in UTC.")]


class SubstationCounts(Counts):
    """What happened at a substation."""

    substation: str


class SubstationHourCounts(SubstationCounts):
    """What happened at a substation in an hour."""

    hour: Annotated[datetime, Field(description="Its beginning, in UTC.")]


@with_config(ONLY_DOCUMENTED)
class StatsAnswer(TypedDict):
    """What happened, in all, by hour, and by substation."""

    as_of: datetime
    jobs: Annotated[dict[State, int], Field(description="Jobs that are known now, by state.")]
    rates: Rates
    total: AllCounts
    hours: list[HourCounts]
    substations: list[SubstationCounts]
    substation_hours: NotRequired[
        Annotated[
            list[SubstationHourCounts],
            Field(
                description="By substation and hour together, the earliest hour first: those in "
                "which something happened. Only with `by=substation,hour`."
            ),
        ]
    ]


def router(view: View) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["jobs"], responses={**INVALID, **UNAVAILABLE})

    @routes.get(
        "/stats",
        summary="Get statistics",
        operation_id="getStats",
        response_description="The statistics of the period and the substation asked for.",
        response_model=StatsAnswer,
        dependencies=[Depends(check_query)],
    )
    async def stats(stats_filter: Annotated[StatsFilter, Query()]) -> Response:
        """Return counts, rates, waits and energy, in all, by hour, and by substation.

        They are of the event log as this api has read it: a day at most, and 48 hours if it has run
        for so long. With `substation`, sessions and ends are of that one; with
        `by=substation,hour`, each hour of each substation is counted as well.
        """
        view.log.check_caught_up()
        jobs = {state: view.projection.by_status[state] for state in State}
        found = await answer(view.projection.stats, stats_filter, view.clock())
        found["jobs"] = jobs
        return Response(answers.encode(found), media_type="application/json")

    return routes


async def answer(stats: Stats, wanted: StatsFilter, now: float) -> StatsAnswer:
    """Return the statistics, without the jobs that are known now.

    They are copied at once, and then added up while others are answered: a day of 300 substations
    is thousands of counts, and all parts of the answer must be of the same moment.
    """
    rates: Rates = {
        "requests": stats.a_second(REQUESTS, now),
        "sessions": stats.a_second(SESSIONS, now),
        "completed": stats.a_second(State.COMPLETED, now),
    }
    total = Cell()
    hours: dict[int, Cell] = {}
    substations: dict[str, Cell] = {}
    rows: list[SubstationHourCounts] = []
    for number, (hour, substation, cell) in enumerate(list(_cells(stats, wanted)), 1):
        total.add(cell)
        hours.setdefault(hour, Cell()).add(cell)
        if substation:
            substations.setdefault(substation, Cell()).add(cell)
            if wanted.by is not None:
                at = answers.moment(hour)
                rows.append({"substation": substation, "hour": at, **_counts(cell)})
        if number % ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)
    found: StatsAnswer = {
        "as_of": answers.moment(now),
        "jobs": {},
        "rates": rates,
        "total": _all_counts(total),
        "hours": [
            {"hour": answers.moment(hour), **_all_counts(cell)} for hour, cell in hours.items()
        ],
        "substations": [
            {"substation": name, **_counts(cell)} for name, cell in sorted(substations.items())
        ],
    }
    if wanted.by is not None:
        found["substation_hours"] = rows
    return found


def _cells(stats: Stats, wanted: StatsFilter) -> Iterator[tuple[int, str, Cell]]:
    """Yield copies of what was counted: the hour, the substation, or none, and the counts.

    Of what happened at none, only the requests belong to a substation that is asked for: they may
    have gone there.
    """
    since = -inf if wanted.since is None else wanted.since.timestamp()
    until = inf if wanted.until is None else wanted.until.timestamp()
    for hour, substation, cell in stats.cells(since, until):
        if wanted.substation in (None, substation):
            yield hour, substation, cell.copy()
        elif not substation:
            requests = Cell()
            requests.counts[REQUESTS] = cell.counts[REQUESTS]
            yield hour, substation, requests


def _all_counts(cell: Cell) -> AllCounts:
    return {"requests": _number(cell, REQUESTS), **_counts(cell)}


def _counts(cell: Cell) -> Counts:
    return {
        "sessions": _number(cell, SESSIONS),
        "completed": _number(cell, State.COMPLETED),
        "cancelled": _number(cell, State.CANCELLED),
        "expired": _number(cell, State.EXPIRED),
        "parked": _number(cell, State.PARKED),
        "energy_kwh": round(max(0.0, cell.energy_kwh), 3),
        "waits": {
            "mean": _seconds(cell.mean_wait),
            "p50": _seconds(cell.wait(0.5)),
            "p95": _seconds(cell.wait(0.95)),
            "p99": _seconds(cell.wait(0.99)),
        },
    }


def _number(cell: Cell, kind: str) -> int:
    return max(0, cell.counts[kind])


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
