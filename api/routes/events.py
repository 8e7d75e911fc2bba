"""``GET /events``: what happens, as server-sent events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from api.errors import NotCaughtUp
from api.jobs.feed import Feed, Reader, Selection
from api.openapi import INVALID, UNAVAILABLE, stream
from api.routes.dependencies import check_query
from api.schemas import SubstationId
from api.stream_data import EVENTS
from api.view import View
from grid import messages
from grid.asgi import IS_HEAD
from grid.errors import STILL_READING
from grid.events import State

_STATE: Final = f"({'|'.join(State)})"
_STREAM: Final = stream(
    "Events, each with the offset of the event log as its id: `snapshot` first; then `jobs`, and "
    "without a filter also `substations` and, each second, `status`.",
    EVENTS,
)


class EventFilter(BaseModel):
    """Which jobs' changes are sent; any other parameter is an error."""

    model_config = ConfigDict(extra="forbid")

    job: Annotated[str, Field(pattern=messages.ID_PATTERN)] | None = None
    vehicle: Annotated[str, Field(min_length=1, max_length=messages.MAX_VEHICLE_ID)] | None = None
    substation: SubstationId | None = None
    state: Annotated[str, Field(pattern=rf"^{_STATE}(,{_STATE})*$")] | None = Field(
        default=None, description="One or more states, separated by commas."
    )

    def selection(self) -> Selection:
        """Return what it selects."""
        states = frozenset(State(each) for each in self.state.split(",")) if self.state else None
        return Selection(self.job, self.vehicle, self.substation, states)


class _Stream(EventSourceResponse):
    """The answer to one reader, which is forgotten when its connection ends."""

    def __init__(self, feed: Feed, reader: Reader) -> None:
        super().__init__(reader.chunks(), headers={"X-Accel-Buffering": "no"})
        self._feed = feed
        self._reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer until the connection ends, also if it has ended before the first chunk."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.close(self._reader)


def router(view: View, problems: Callable[[], list[str]]) -> APIRouter:
    """Return the route; ``problems`` returns what keeps the api from being ready."""
    routes, feed = APIRouter(tags=["jobs"], responses={**INVALID, **UNAVAILABLE}), view.feed

    @routes.get(
        "/events",
        summary="Follow what happens",
        operation_id="streamEvents",
        response_class=StreamingResponse,  # with its own class, FastAPI wants a generator of items
        responses=_STREAM,
        dependencies=[Depends(check_query)],
    )
    async def events(
        request: Request,
        event_filter: Annotated[EventFilter, Query()],
        last_event_id: Annotated[
            str | None,
            Header(
                alias="Last-Event-ID",
                pattern=r"^[0-9]{1,18}$",  # below 2^63, as RabbitMQ's offsets
                description="The id of the last event that was received: the stream continues "
                "from there, if the api still knows what changed since. Of each job that has "
                "changed, its last state is sent: with `state`, a state that it has left again is "
                "not. Some changes may come twice.",
            ),
        ] = None,
    ) -> Response:
        """Stream the changes of jobs and substations as server-sent events.

        A client that reads too slowly is disconnected; it continues with Last-Event-ID.
        """
        if not view.log.caught_up.is_set():  # without its links the api cannot read on
            found = [each for each in problems() if each != STILL_READING]
            raise NotCaughtUp("; ".join([*found, view.log.progress()]))
        if request.scope.get(IS_HEAD):
            return Response(media_type=EventSourceResponse.media_type)
        seen = None if last_event_id is None else int(last_event_id)
        return _Stream(feed, await feed.open(event_filter.selection(), seen, problems()))

    return routes
