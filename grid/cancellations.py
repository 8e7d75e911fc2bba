"""What clients have cancelled, as ``charge.cancellations`` carries it. Pure.

The dispatchers and the substations all read the stream from its start; whoever has the job ends it.
"""

from __future__ import annotations

import json
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from grid import wire
from grid.errors import MalformedMessage
from grid.json_reading import convert, known
from grid.messages import MAX_UNIX_TIME, ChargeRequest, JobId, shown

REMEMBERED: Final = 200_000  # as many as the stream has at its limit
Time: TypeAlias = (
    Annotated[int, Meta(ge=0, le=int(MAX_UNIX_TIME))]
    | Annotated[float, Meta(ge=0.0, le=MAX_UNIX_TIME)]
)


class Cancellation(Struct, frozen=True):
    """A client does not want its job any more since ``at``, in Unix seconds.

    It holds for a request that was made before; the same id may be requested anew.
    """

    job: JobId
    at: Time


_DECODER: Final = msgspec.json.Decoder(Cancellation)


def encode(cancellation: Cancellation) -> bytes:
    """Return the JSON form of a cancellation."""
    return wire.encode(cancellation)


def decode(body: bytes) -> Cancellation:
    """Return one message of the stream; fields it does not know are ignored.

    Raise ``MalformedMessage`` for anything ``encode`` would not have written.
    """
    try:
        return _DECODER.decode(body.decode())
    except wire.UNREADABLE:
        return _decode_slowly(body)


def _decode_slowly(body: bytes) -> Cancellation:
    """Return a cancellation that msgspec does not read; say what is wrong where it is none."""
    try:
        return convert(known(json.loads(body), Cancellation), Cancellation)
    except wire.UNREADABLE as error:
        raise MalformedMessage(f"not a cancellation: {shown(body)}: {error}") from error


class Cancellations:
    """The newest cancellation of each job; those that were read first are forgotten first."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._at: dict[str, float] = {}

    def __len__(self) -> int:
        """Return how many jobs are remembered."""
        return len(self._at)

    def add(self, cancellation: Cancellation) -> None:
        """Remember a cancellation, in whatever order and however often they come."""
        at = max(cancellation.at, self._at.pop(cancellation.job, 0.0))
        self._at[cancellation.job] = at
        if len(self._at) > self._most:
            del self._at[next(iter(self._at))]

    def apply_to(self, request: ChargeRequest) -> bool:
        """Return whether a request is cancelled."""
        at = self._at.get(request.id)
        return at is not None and request.requested_at <= at
