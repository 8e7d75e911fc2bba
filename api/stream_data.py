"""The data of each event of ``GET /events``, for the OpenAPI document. Pure.

``api.jobs.feed`` makes it, ready for JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from api.alerts import Severity, Source
from api.answers import Charge, Reservation
from api.substations import Substation
from grid.events import State

UnixTime = Annotated[float, Field(description="In Unix seconds.")]
Median = Annotated[
    float | None,
    Field(description="Half of the latest sessions began so many seconds after their requests."),
]
Percentile95 = Annotated[float | None, Field(description="The same for 95 of 100.")]
Spread = Annotated[
    float | None,
    Field(
        description="The difference between the highest and the lowest utilisation of the "
        "substations that are eligible; null if there is none."
    ),
]


class JobChange(TypedDict):
    """What happened to a job, and its state after that."""

    id: str
    status: State
    event: Annotated[
        State | Literal["booked"],
        Field(
            description="The state that it entered; `booked`: it was promised a start, or has none "
            "any more, or was refused one, as `reservation` says."
        ),
    ]
    at: datetime
    substation: Annotated[
        str | None, Field(description="The job's, as in a list: where it charges, or was sent.")
    ]
    attempt: int
    vehicle_id: str | None
    reason: Annotated[
        str | None,
        Field(
            description="Why it ended otherwise than completed, or was replayed, or is promised "
            "another start than before, or none any more."
        ),
    ]
    reservation: Annotated[
        Reservation | None, Field(description="The job's, as in a list, after this change.")
    ]
    earliest_start: Annotated[datetime | None, Field(description="That of its request.")]


class SubstationRows(TypedDict):
    """All substations; `as_of` is when the dispatcher wrote this, null: never."""

    as_of: datetime | None
    substations: list[Substation]


class DispatcherStatus(TypedDict):
    """Whether the dispatcher is heard."""

    silent_seconds: Annotated[float, Field(description="How long ago it was heard last.")]
    is_silent: Annotated[
        bool,
        Field(description="Whether what it said is old, so that nothing is known of substations."),
    ]


class StreamRates(TypedDict):
    """How many there were a second, lately."""

    accepted: float
    assigned: float
    completed: float


class StreamSecond(TypedDict):
    """What was counted in the last second, and what held at its end."""

    accepted: int
    assigned: int
    completed: int
    spread: Spread
    p50: Median
    p95: Percentile95


class StreamAlert(TypedDict):
    """Something that is wrong: what, and what to do."""

    name: str
    severity: Severity
    summary: str
    action: str
    source: Annotated[Source, Field(description="Who found it.")]
    runbook: Annotated[
        str | None,
        Field(description="A page about it, as Prometheus's rule names it: an address, or a file."),
    ]
    since: UnixTime


class StreamStatus(TypedDict):
    """How all is, each second, and at once if the dispatcher becomes silent or is heard again."""

    at: UnixTime
    dispatcher: DispatcherStatus
    accepts: Annotated[bool, Field(description="Whether requests are accepted.")]
    counts: Annotated[dict[State, int], Field(description="Jobs that are known, by state.")]
    rates: StreamRates
    second: StreamSecond | None
    waiting: Annotated[
        int,
        Field(
            description="Jobs that wait for their substation, without those that may begin only "
            "later."
        ),
    ]
    oldest_at: Annotated[
        float | None,
        Field(
            description="Since when the one waits that waits longest, in Unix seconds: its "
            "request, its last replay, or the start that it asked for."
        ),
    ]
    last_minute: Annotated[
        dict[str, tuple[int, int]],
        Field(description="Jobs assigned and completed in the last minute, by substation."),
    ]
    energy_today_kwh: Annotated[
        dict[str, float],
        Field(description="What sessions delivered since midnight in UTC, by substation."),
    ]
    alerts: list[StreamAlert]


class StreamHistory(TypedDict):
    """The last seconds: a list each, with an entry a second."""

    at: list[UnixTime]
    accepted: list[int]
    assigned: list[int]
    completed: list[int]
    waiting: list[int]
    spread: list[Spread]
    p50: list[Median]
    p95: list[Percentile95]
    loads: Annotated[dict[str, list[float | None]], Field(description="By substation.")]


class StreamSnapshot(TypedDict):
    """What holds when the stream begins; all but the jobs only without a filter."""

    jobs: list[Charge]
    as_of: NotRequired[datetime | None]
    substations: NotRequired[list[Substation]]
    status: NotRequired[StreamStatus]
    history: NotRequired[StreamHistory]


EVENTS: Final[Mapping[str, Any]] = {
    "snapshot": StreamSnapshot,
    "jobs": list[JobChange],
    "substations": SubstationRows,
    "status": StreamStatus,
}
