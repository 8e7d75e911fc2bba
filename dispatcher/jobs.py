"""A request in hand, where it came from, and the memory of those that were sent."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from dispatcher.decision.line import Wish, wish
from dispatcher.parking import Parking
from grid.messages import ChargeRequest

TAKEN_BACK_HEADER: Final = "x-taken-back-from"  # a substation, of a request that was sent before
REMEMBERED: Final = 200_000  # ids of jobs sent, to know a redelivered request by


@dataclass(frozen=True, slots=True)
class Source:
    """Where requests are delivered from: ``charge.requests``, or the queue of a substation.

    ``done`` acknowledges a delivery by its tag; ``parking`` puts aside what cannot be processed.
    """

    done: Callable[[int], None]
    parking: Parking


@dataclass(slots=True, eq=False)
class Job:
    """A request in hand.

    ``tag`` is its delivery from ``source``, or None since that link broke; ``origin`` the
    substation whose queue it was taken back from; ``since`` when it came, in the ledger's seconds.
    """

    request: ChargeRequest
    body: bytes
    source: Source
    tag: int | None
    since: float
    origin: str = ""
    substation: str = ""  # where it is being sent
    assigned_at: float = 0.0  # when that was decided, in Unix seconds
    attempt: int = 0
    sent: bool = False
    unrecorded: int = 0  # decisions on their way to the event log
    returning: bool = False  # on its way back to the queue
    wish: Wish = field(init=False)

    def __post_init__(self) -> None:
        self.wish = wish(self.request)

    @property
    def id(self) -> str:
        """Its name."""
        return self.request.id

    def done(self) -> None:
        """Acknowledge its delivery, where that is still good."""
        if self.tag is not None:
            self.source.done(self.tag)


class Sent:
    """Where each job was sent last, as far as is remembered; what ended here is sent nowhere."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._where: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __contains__(self, id: object) -> bool:
        """Tell whether a job was sent, or ended here."""
        return id in self._where

    def where(self, id: str) -> str | None:
        """Name the substation a job was sent to; empty where it ended here, None if unknown."""
        known = self._where.get(id)
        return None if known is None else known[0]

    def since(self, id: str) -> float:
        """Give when that was decided, in Unix seconds; before all time if unknown."""
        known = self._where.get(id)
        return -inf if known is None else known[1]

    def note(self, id: str, substation: str, at: float) -> None:
        """Note where a job was sent, and when that was decided, in Unix seconds."""
        self._where[id] = substation, at
        if len(self._where) > self._most:
            self._where.popitem(last=False)

    def forget(self, id: str) -> None:
        """Note that a job was taken back."""
        self._where.pop(id, None)
