"""A dispatcher that reclaims jobs, and whose substations, queues and timeouts a test controls."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from prometheus_client import CollectorRegistry

from dispatcher.choices import policy
from dispatcher.core import Core
from dispatcher.deliveries import Handled
from dispatcher.failure_detector import Evacuation, FailureDetector, Look
from dispatcher.inputs import Begin, Moment
from dispatcher.metrics import Metrics
from dispatcher.open_jobs import OpenJobs
from dispatcher.queue_edge import JobTaker
from dispatcher.queues import Queues
from dispatcher.shell import Shell
from dispatcher.standby import Standby
from grid import provenance, topology
from grid.amqp import Delivery, QueueState, Taker
from grid.amqp.acknowledger import Acknowledger
from grid.errors import BrokerUnavailable
from grid.event_log import EventWriter
from grid.events import Event, State
from grid.isolation import Isolation
from scheduling import policies
from scheduling.candidates import CandidateTable
from scheduling.load_tracker import LoadTracker
from scheduling.order import DeadlineOrder
from scheduling.rules import Rules
from tests.fake_broker import NOWHERE, FakeConsumer, FakePublisher, Settled, soon
from tests.grid.links import TIMEOUT

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
    """A dispatcher that reclaims jobs with short timeouts, what it sees, and what it does."""

    def __init__(
        self, *names: str, failure_detector: float = 0.0, taker: Taker | None = None
    ) -> None:
        self.reachable = dict.fromkeys(names, True)
        self.consumers: dict[str, int | None] = dict.fromkeys(names, 1)
        self.elsewhere = True
        self.willing = True
        self.at_work = True
        self.given_back: list[Delivery] = []
        self.handed: list[tuple[str, Delivery]] = []
        self.forgotten = 0
        self._looks = 0
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []
        self.taker = FakeTaker()
        self.on_reclaim: Callable[[str, Delivery], bool] = self.keep
        self.on_look: Callable[[str], QueueState | None] = self.look
        self._registry = CollectorRegistry()
        metrics, publisher = Metrics(self._registry), FakePublisher()
        standby = Standby("this")
        self.core = ScriptedCore(self, metrics, standby, ScriptedDetector(self, failure_detector))
        self.index, self.open_jobs = self.core.index, self.core.open_jobs
        self.open_jobs.absorb(OpenJobs())
        self.hand = self.core.reclaiming
        self.shell = Shell(
            self.core,
            publisher,
            EventWriter(publisher, "test", provenance.DISPATCHER),
            requests=FakeConsumer(topology.REQUESTS),
            metrics=metrics,
            isolation=Isolation(self._registry),
            moment=lambda: Moment(asyncio.get_running_loop().time(), 0.0, 0, certain=True),
            scrape=lambda _: None,
        )
        self.reclaim = JobTaker(self.shell, taker or self.taker, lambda: self.at_work)
        self.taker.begin(self._forget)
        self.shell.feed(Begin())

    @property
    def reclaimed(self) -> Counter[str]:
        """Return how many jobs are counted as reclaimed, by substation."""
        [metric] = (m for m in self._registry.collect() if m.name == "dispatcher_rescued_jobs")
        found = (each for each in metric.samples if each.name.endswith("_total"))
        return Counter({each.labels["substation"]: int(each.value) for each in found})

    def dropped(self, reason: str) -> float:
        """Return how many deliveries are counted as dropped for a reason."""
        labels = {"reason": reason}
        return self._registry.get_sample_value("dispatcher_dropped_total", labels) or 0.0

    def look(self, name: str) -> QueueState | None:
        """Return the state of a substation's queue."""
        consumers = self.consumers[name]
        if consumers is None:
            return None
        return QueueState(len(self.taker.queues.get(name, ())), consumers)

    def keep(self, substation: str, delivery: Delivery) -> bool:
        """Keep a job, or have it requeued, as the test says."""
        self.handed.append((substation, delivery))
        return self.willing

    def _forget(self) -> None:
        self.forgotten += 1
        self.shell.on_reclaimed_lost()

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
        until = self._looks + number * len(self.reachable)
        reached = asyncio.get_running_loop().create_future()
        self._awaited.append((until, reached))
        async with asyncio.timeout(TIMEOUT):
            await reached

    def looked_at(self, number: int) -> None:
        """Count that so many substations were looked at; whoever waits for that goes on at once."""
        self._looks += number
        for until, reached in self._awaited:
            if self._looks >= until and not reached.done():
                reached.set_result(None)


class ScriptedTracker(LoadTracker):
    """A load tracker whose substations can be read and used as the test says."""

    def __init__(self, harness: ReclaimHarness) -> None:
        super().__init__(stale_after=1e9, default_connectors=1)
        self._harness = harness

    def readable(self, _: float) -> dict[str, bool]:
        """Return whether the pages can be read."""
        return self._harness.reachable

    def another(self, _: str, __: float) -> bool:
        """Return what the test says."""
        return self._harness.elsewhere


class ScriptedQueues(Queues):
    """Queues that look as the test says."""

    def __init__(self, harness: ReclaimHarness, tracker: LoadTracker) -> None:
        super().__init__(tracker)
        self._harness = harness

    def state(self, substation: str) -> QueueState | None:
        """Return the state of a queue."""
        return self._harness.on_look(substation)


class ScriptedDetector(FailureDetector):
    """A failure detector whose clock counts looks, and has nothing to do with time."""

    def __init__(self, harness: ReclaimHarness, rescue_after: float) -> None:
        super().__init__(rescue_after)
        self._harness = harness
        self._rounds = 0

    def begin_grace(self, _: float) -> None:
        """Begin it now."""
        super().begin_grace(self._rounds)

    def observe(self, looks: Mapping[str, Look], _: float) -> dict[str, Evacuation]:
        """Count a look at each substation."""
        self._rounds += 1
        self._harness.looked_at(len(looks))
        return super().observe(looks, self._rounds)


class ScriptedCore(Core):
    """A core that sees what the test says, and handles reclaimed jobs as the test says."""

    def __init__(
        self,
        harness: ReclaimHarness,
        metrics: Metrics,
        standby: Standby,
        detector: FailureDetector,
    ) -> None:
        self._harness = harness
        tracker = ScriptedTracker(harness)
        super().__init__(
            CandidateTable(tracker, period=0.5, slow_start=0.0),
            Rules(DeadlineOrder(), policy(policies.DEFAULT)),
            standby,
            metrics,
            detector,
            random=Random(1),  # noqa: S311
            prefetch=1,
        )
        self.reclaiming._queues = ScriptedQueues(harness, tracker)  # noqa: SLF001
        self._deliveries.handle_reclaimed = self._handle_reclaimed  # type: ignore[method-assign]
        self._reclaimed._forget_waiting = self._give_back  # type: ignore[method-assign]  # noqa: SLF001

    def _handle_reclaimed(self, substation: str, delivery: Delivery) -> Handled:
        return Handled(goes_back=not self._harness.on_reclaim(substation, delivery))

    def _give_back(self) -> list[Delivery]:
        given_back, self._harness.given_back = self._harness.given_back, []
        return given_back


@asynccontextmanager
async def at_work(harness: ReclaimHarness) -> AsyncIterator[ReclaimHarness]:
    """Run a reclaimer while the context lasts."""
    task = asyncio.create_task(harness.reclaim.run())
    try:
        yield harness
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
