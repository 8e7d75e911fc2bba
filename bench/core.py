"""The time that the dispatcher's core takes for one request, from delivery to acknowledgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, Final

from prometheus_client import CollectorRegistry

from bench.node import RabbitMQ
from bench.policy import NOW, STATES, Times, table_of
from bench.report import Part, Row, Table
from bench.sizes import Sizes
from dispatcher.commands import Ack, Command, PublishJob, WriteEvent
from dispatcher.core import Core
from dispatcher.failure_detector import FailureDetector
from dispatcher.inputs import (
    Begin,
    EventWritten,
    Input,
    Moment,
    OlderEventsRead,
    PublishResult,
    RequestDelivered,
    Route,
)
from dispatcher.metrics import Metrics
from dispatcher.open_jobs import OpenJobs
from dispatcher.standby import Standby
from grid import topology
from grid.messages import ChargeRequest
from grid.outcome import Outcome
from scheduling.order import DeadlineOrder
from scheduling.policies import DEFAULT, POLICIES
from scheduling.rules import Rules

COUNTS: Final = (3, 100, 1_000)
REQUESTS: Final = 500  # in a row
STATE: Final = "idle and equal"
COLUMN: Final = "µs a request"
CLOCK: Final = 1_000.0  # Unix seconds


async def measure(_: RabbitMQ, _folder: Path, sizes: Sizes) -> Part:
    """Time requests that find capacity at once."""
    rows = [
        Row(f"{each:,} substations", [{COLUMN: handled(each, sizes.repeats)}]) for each in COUNTS
    ]
    text = (
        "What `core.handle` takes for a request that finds capacity at once: its delivery, the "
        "decision with its explanation, the confirm of its job and that of its event, until it is "
        "acknowledged. No I/O: commands are not executed, and nothing is encoded. "
        f"Medians of {sizes.repeats} times {REQUESTS}."
    )
    return Part("core", "The dispatcher's core", text, [Table("By substations", [COLUMN], rows)])


def handled(substations: int, repeats: int) -> float:
    """Return how long a request takes with so many substations, in µs."""
    number = REQUESTS * (repeats + 1)  # with the warm-up
    return Times(REQUESTS, repeats).median_of(Requests(substations, number).handle_next)


@dataclass(slots=True)
class Message:
    """A delivery that RabbitMQ has not back."""

    id: str
    body: bytes
    queue: str = topology.REQUESTS
    headers: Mapping[str, Any] = field(default_factory=dict)
    redelivered: bool = False
    is_live: bool = True


class Requests:
    """A core, and so many new requests for it.

    Whatever it sends is taken back, so that no substation is full.
    """

    def __init__(self, substations: int, number: int) -> None:
        random = Random(substations)  # noqa: S311 - nothing here is secret
        table = table_of(substations, STATES[STATE], random)
        standby = Standby("bench")
        standby.on_delivery()  # it is active already
        self._tracker = table.tracker
        self._seconds = 0.0
        self._at = Moment(NOW, CLOCK, position=0, certain=True)
        self._core = Core(
            table,
            Rules(DeadlineOrder(), POLICIES[DEFAULT]()),
            standby,
            Metrics(CollectorRegistry()),
            FailureDetector(rescue_after=10.0),
            random=random,
            prefetch=REQUESTS,
        )
        self._core.handle(Begin(), self._at)
        self._core.handle(OlderEventsRead(OpenJobs(complete=True)), self._at)
        self._messages = iter(
            [Message(job, ChargeRequest(job, CLOCK).encode()) for job in map(str, range(number))]
        )

    def handle_next(self) -> float:
        """Handle a new request until it is acknowledged; return how many seconds the core took."""
        message, self._seconds = next(self._messages), 0.0
        self._tell(RequestDelivered(message))  # type: ignore[arg-type]
        commands = self._tell(Route())
        (published,) = (each for each in commands if isinstance(each, PublishJob))
        (written,) = (each for each in commands if isinstance(each, WriteEvent))
        self._tell(PublishResult(published, Outcome.CONFIRMED))
        last = self._tell(EventWritten(written, written=True))
        if not any(isinstance(each, Ack) for each in last):
            raise RuntimeError(f"job {message.id} is not acknowledged: {last}")
        self._tracker.undo(published.substation)
        return self._seconds

    def _tell(self, input: Input) -> list[Command]:
        begun = perf_counter()
        commands = self._core.handle(input, self._at)
        self._seconds += perf_counter() - begun
        return commands
