"""The answers of the peers: as short as a client needs them."""

from __future__ import annotations

from pydantic import BaseModel

from grid.events import State


class Details(BaseModel):
    """Where a request was sent, and the loads that were seen then."""

    routed_to: str | None
    loads: dict[str, float]
    reason: str | None


class Accepted(BaseModel):
    """An accepted request."""

    id: str
    status: State
    details: Details


class AcceptedList(BaseModel):
    """The accepted requests of a list, in its order."""

    jobs: list[Accepted]
