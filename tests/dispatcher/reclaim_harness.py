"""A reclaimer whose substations, queues and timeouts a test controls."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from dispatcher.failure_detector import FailureDetector
from dispatcher.job_index import JobIndex
from dispatcher.open_jobs import OpenJobs
from dispatcher.reclaim import ReclaimedJobs, Reclaimer
from grid import topology
from grid.amqp import Delivery, QueueState, Taker
from grid.amqp.acknowledger import Acknowledger
from grid.errors import BrokerUnavailable
from grid.events import Event, State
from tests.fake_broker import NOWHERE, Settled, soon
from tests.grid.links import eventually

PERIOD = 0.01
BOUND = 5


class FakeTaker(Taker):
    """Queues by substation; by RabbitMQ's rule, no delivery is settled twice."""

    def __init__(self) -> None:
        super().__init__("fake", NOWHERE, lambda *_: None)
        self.up.set()
        self.queues: dict[str, deque[str | None]] = {}
        self.outstanding: dict[int, tuple[str, str | None]] = {}
        self.acked: list[str | None] = []
        self.requeued: list[str | None] = []
        self.rejected: list[str | None] = []
        self.asked: list[str] = []
        self.problem = ""
        self.headers: dict[str, dict[str, Any]] = {}  # by job, of those that have some
        self._tag = 0
        self._acknowledger = Acknowledger(1, self._on_frame, soon)

    def begin(self, lost: Callable[[], None]) -> None:
        """Call this from now on, as the taker does while it runs."""
        self._tell_lost = lost

    def put(self, substation: str, *ids: str | None) -> None:
        """Have jobs wait for a substation."""
        self.queues.setdefault(substation, deque()).extend(ids)

    async def take(self, queue: str) -> Delivery | None:
        """Return the first job of a queue, or None if it is empty."""
        await asyncio.sleep(0)
        name = queue.removeprefix(topology.SUBSTATION_QUEUE_PREFIX)
        self.asked.append(name)
        if self.problem:
            raise BrokerUnavailable(self.problem)
        if not self.queues.get(name):
            return None
        self._tag += 1
        job = self.queues[name].popleft()
        self.outstanding[self._tag] = (name, job)
        headers = self.headers.get(str(job), {})
        self._acknowledger.delivered(self._tag)
        return Delivery(
            self._acknowledger,
            self._tag,
            str(job).encode(),
            queue=queue,
            id=job,
            headers=headers,
        )

    def break_link(self) -> None:
        """Lose the channel: all messages go back, and delivery tags begin at 1 again."""
        for name, job in reversed(self.outstanding.values()):
            self.queues[name].appendleft(job)
        self.outstanding.clear()
        self._tag = 0
        self._lost()
        self._acknowledger = Acknowledger(1, self._on_frame, soon)

    def _on_frame(self, frame: bytes) -> None:
        """Record how a delivery is settled; put back what is requeued."""
        settled = Settled.by(frame, self.outstanding)
        where = {"ack": self.acked, "requeue": self.requeued, "reject": self.rejected}[settled.how]
        for tag in settled.tags:
            name, job = self.outstanding.pop(tag)
            where.append(job)
            if settled.how == "requeue":
                self.queues[name].appendleft(job)


class ReclaimHarness:
    """A reclaimer with short timeouts, what it sees, and what it does."""

    def __init__(self, *names: str, failure_detector: float = 0.0) -> None:
        self.index = JobIndex(1_000)
        self.open_jobs = OpenJobs()
        self.reachable = dict.fromkeys(names, True)
        self.consumers: dict[str, int | None] = dict.fromkeys(names, 1)
        self.known = True  # whether RabbitMQ tells the state of a queue
        self.elsewhere = True
        self.willing = True
        self.at_work = True
        self.given_back: list[Delivery] = []
        self.handed: list[tuple[str, Delivery]] = []
        self.forgotten = 0
        self.reclaimed: Counter[str] = Counter()
        self.looks = 0
        seconds = count()
        self.taker = FakeTaker()
        self.on_reclaim: Callable[[str, Delivery], bool] = self.keep
        self.hand = ReclaimedJobs()
        self.reclaim = Reclaimer(
            self.taker,
            FailureDetector(failure_detector),
            self.hand,
            FakeWork(self),
            look=self.look,
            now=lambda: float(next(seconds)),
        )
        self.taker.begin(self._forget)

    def look(self, name: str) -> QueueState | None:
        """Return the state of a substation's queue."""
        self.looks += 1
        consumers = self.consumers[name]
        if consumers is None:
            return None
        return QueueState(len(self.taker.queues.get(name, ())), consumers)

    def keep(self, substation: str, delivery: Delivery) -> bool:
        """Keep a job, or have it requeued, as the test says."""
        self.handed.append((substation, delivery))
        if not self.willing:
            delivery.requeue()
        return self.willing

    def _forget(self) -> None:
        self.forgotten += 1
        self.reclaim.on_link_lost()

    def state(self, name: str, *, reachable: bool, consumers: int | None) -> None:
        """Have a substation look like this from now on."""
        self.reachable[name], self.consumers[name] = reachable, consumers

    def kill(self, name: str) -> None:
        """Let a substation die."""
        self.state(name, reachable=False, consumers=0)

    def jobs(self) -> list[str | None]:
        """Return the ids of what was handed over, in order."""
        return [each.id for _, each in self.handed]

    def deliveries(self) -> list[Delivery]:
        """Return what was handed over, in order."""
        return [each for _, each in self.handed]

    def in_hand(self) -> list[str | None]:
        """Return the ids of what was handed over and is not settled, in order."""
        return [each.id for each in self.deliveries() if each.is_live]

    def charges(self, job: str, where: str) -> None:
        """Record in the job index that a job is charging."""
        self.index.apply(Event(State.CHARGING, 1, job=job, substation=where))

    def ends(self, job: str) -> None:
        """Record in the job index that a job has ended."""
        self.index.apply(Event(State.COMPLETED, 2, job=job))

    async def rounds(self, number: int = 4) -> None:
        """Wait until every substation was looked at ``number`` times more."""
        until = self.looks + number * len(self.reachable)
        await eventually(lambda: self.looks >= until, "it looks again")


class FakeWork:
    """A dispatcher whose knowledge and answers a test sets."""

    def __init__(self, harness: ReclaimHarness) -> None:
        self._harness = harness

    @property
    def is_fed(self) -> bool:
        """Return what the test says."""
        return self._harness.at_work

    def readable(self) -> Mapping[str, bool]:
        """Return whether the pages can be read."""
        return self._harness.reachable

    def has_alternative(self, substation: str) -> bool:  # noqa: ARG002
        """Return what the test says."""
        return self._harness.elsewhere

    def has_ended(self, job: str, replays: int, asked_at: float) -> bool:
        """Return what the log says."""
        indices = self._harness.index.ended, self._harness.open_jobs.has_ended
        return any(ended(job, replays, asked_at) for ended in indices)

    def charging_at(self, job: str) -> Collection[str | None]:
        """Return what the log says."""
        return self._harness.index.charging_at(job), self._harness.open_jobs.charging_at(job)

    def reclaim(self, substation: str, delivery: Delivery) -> bool:
        """Handle a job as the test says."""
        return self._harness.on_reclaim(substation, delivery)

    def return_reclaimed(self) -> list[Delivery]:
        """Requeue what the test says."""
        for each in self._harness.given_back:
            each.requeue()
        return self._harness.given_back

    def count_reclaimed(self, substation: str) -> None:
        """Count it."""
        self._harness.reclaimed.update([substation])


@asynccontextmanager
async def at_work(harness: ReclaimHarness) -> AsyncIterator[ReclaimHarness]:
    """Run a reclaimer while the context lasts."""
    task = asyncio.create_task(harness.reclaim.run())
    try:
        yield harness
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
