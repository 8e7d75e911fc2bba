"""Substations' queues are declared if missing, and looked at as often as necessary."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from dispatcher import queue_edge, queues
from dispatcher.choices import policy
from dispatcher.core import Core
from dispatcher.failure_detector import FailureDetector
from dispatcher.inputs import Moment
from dispatcher.metrics import Metrics
from dispatcher.queue_edge import QueueWatch
from dispatcher.queues import Whereabouts
from dispatcher.shell import Shell
from dispatcher.standby import Standby
from grid import provenance, topology
from grid.amqp import Declarer, QueueState
from grid.errors import BrokerUnavailable
from grid.event_log import EventWriter
from grid.events import Counts
from grid.isolation import Isolation
from grid.topology import Queue
from scheduling import policies
from scheduling.candidates import CandidateTable
from scheduling.load_tracker import NO_CONSUMER, LoadTracker
from scheduling.order import DeadlineOrder
from scheduling.readings import Reading
from scheduling.rules import Rules
from tests.fake_broker import FakeConsumer, FakePublisher, turns

COUNTS = Counts(0, 3, 3, 0, 1.0)


class FakeDeclarer:
    """A declarer that returns each queue's state, or raises an error if there is none."""

    def __init__(self, **states: QueueState) -> None:
        self.up = asyncio.Event()
        self.up.set()
        self.states = states
        self.gone: set[str] = set()
        self.asked: list[str] = []
        self.declared: list[str] = []
        self.leaderless: set[str] = set()
        self.leaders_asked: list[str] = []

    async def queue(self, queue: Queue) -> QueueState:
        """Declare a queue."""
        self.asked.append(queue.key)
        await asyncio.sleep(0)
        if queue.key not in self.states:
            raise BrokerUnavailable(f"cannot declare {queue.name}: it is of another kind")
        self.declared.append(queue.key)
        self.gone.discard(queue.key)
        return self.states[queue.key]

    async def look(self, name: str) -> QueueState | None:
        """Look at a queue, without making it."""
        key = str(topology.substation_of(name))
        self.asked.append(key)
        await asyncio.sleep(0)
        if key in self.gone:
            return None
        if key not in self.states:
            raise BrokerUnavailable(f"cannot look at {name}: it is of another kind")
        return self.states[key]

    async def is_empty(self, name: str) -> bool:
        """Return whether the leader of a queue says that it is empty."""
        key = str(topology.substation_of(name))
        self.leaders_asked.append(key)
        if key in self.leaderless:
            raise BrokerUnavailable(f"{name} has no leader")
        return not self.states[key].ready


class QueueHarness:
    """A dispatcher that looks at some substations' queues, with a clock that a test controls."""

    def __init__(self, declarer: FakeDeclarer, *names: str) -> None:
        self.declarer = declarer
        self.tracker = LoadTracker(stale_after=1e9, default_connectors=10)
        self.tracker.keep(dict.fromkeys(names))
        self.hurried: list[str] = []
        self.now = 5.0
        self.registry = CollectorRegistry()
        isolation = Isolation(self.registry)
        self.held: set[str] = set()
        metrics, publisher = Metrics(self.registry), FakePublisher()
        core = Core(
            CandidateTable(self.tracker, period=0.5, slow_start=0.0),
            Rules(DeadlineOrder(), policy(policies.DEFAULT)),
            Standby("this"),
            metrics,
            FailureDetector(rescue_after=10.0),
            random=Random(1),  # noqa: S311
            prefetch=1,
        )
        core.reclaiming.holds = self.held.__contains__  # type: ignore[method-assign, assignment]
        self.under_way, self.queues = core.life.publishing, core.queues
        shell = Shell(
            core,
            publisher,
            EventWriter(publisher, "test", provenance.DISPATCHER),
            requests=FakeConsumer(topology.REQUESTS),
            metrics=metrics,
            isolation=isolation,
            moment=lambda: Moment(self.now, 0.0, 0, certain=True),
            scrape=self.hurried.append,
        )
        self.watch = QueueWatch(shell, cast(Declarer, declarer), isolation)

    async def run(self, count: int = 100) -> None:
        """Run it for some turns of the loop."""
        task = asyncio.create_task(self.watch.run())
        await turns(count)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def reason_against(self, name: str) -> str | None:
        """Return why nothing may be sent to a substation."""
        return self.tracker.ineligible_reason(self.tracker.substations[name], self.now)

    def anchor(self, name: str) -> None:
        """Make a substation fully known, so that its queue need not be looked at."""
        self.tracker.read(name, Reading(0, counts=COUNTS), self.now)
        self.tracker.ask_depth(name)
        self.tracker.depth(name, 0, self.now)
        self.tracker.read(name, Reading(0, counts=COUNTS), self.now)
        self.tracker.queued(name, 0, 1)

    async def asked_in(self, seconds: float, step: float = 0.25) -> Counter[str]:
        """Count how often each queue is looked at while the clock goes on."""
        self.declarer.asked.clear()
        for _ in range(int(seconds / step)):
            self.now += step
            await self.run(20 + 3 * len(self.tracker.substations))
        return Counter(self.declarer.asked)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INTERVAL_SECONDS", "PAUSE_SECONDS"):
        monkeypatch.setattr(queues, name, 0)
    monkeypatch.setattr(queue_edge, "IDLE_SECONDS", 0)


async def test_queue_watch_goes_on_when_one_queue_cannot_be_declared() -> None:
    """A queue of another type makes its substation ineligible, with the reason, and no other."""
    harness = QueueHarness(FakeDeclarer(s1=QueueState(0, 1), s3=QueueState(0, 1)), "s1", "s2", "s3")
    for name in harness.tracker.substations:
        harness.queues.declare(name, harness.now)
        harness.tracker.read(name, Reading(0, counts=COUNTS), 1.0)
    await harness.run()
    assert {"s1", "s3"} <= set(harness.hurried)
    for name in ("s1", "s3"):
        harness.tracker.read(name, Reading(0, counts=COUNTS), 6.0)
        assert harness.reason_against(name) is None
    assert "of another kind" in str(harness.reason_against("s2"))


async def test_queue_watch_declares_missing_queue_until_it_is_there() -> None:
    """It tries again until the queue is there, and then no longer."""
    declarer = FakeDeclarer()
    harness = QueueHarness(declarer, "s1")
    harness.queues.declare("s1", harness.now)
    await harness.run()
    assert len(declarer.asked) > 1
    declarer.states["s1"] = QueueState(0, 1)
    harness.anchor("s1")
    await harness.run()
    before = len(declarer.asked)
    await harness.run()
    assert len(declarer.asked) == before


async def test_queue_watch_declares_a_queue_once_and_then_only_looks_at_it() -> None:
    """To declare and bind a queue costs RabbitMQ four times as much as to look at it."""
    declarer = FakeDeclarer(s1=QueueState(0, 0))
    harness = QueueHarness(declarer, "s1")
    await harness.asked_in(10)
    assert len(declarer.asked) >= 10
    assert declarer.declared == ["s1"]


async def test_queue_watch_declares_a_queue_again_when_it_is_gone() -> None:
    """An operator may have deleted it."""
    declarer = FakeDeclarer(s1=QueueState(0, 0))
    harness = QueueHarness(declarer, "s1")
    await harness.asked_in(2)
    declarer.gone.add("s1")
    await harness.asked_in(2)
    assert declarer.declared == ["s1", "s1"]
    assert harness.queues.state("s1") == QueueState(0, 0)


async def test_queue_watch_gives_consumers_time_to_hear_of_a_deletion() -> None:
    """RabbitMQ would move them to a queue that is declared at once, and serve none of them."""
    declarer = FakeDeclarer(s1=QueueState(0, 0), s2=QueueState(0, 0))
    harness = QueueHarness(declarer, "s1", "s2")
    await harness.asked_in(2)
    declarer.declared.clear()
    declarer.gone.update(("s1", "s2"))
    harness.queues.declare("s1", harness.now)  # a job was returned; of the other, a look tells
    counted = await harness.asked_in(queues.AGAIN_SECONDS - 0.25)
    assert declarer.declared == []
    assert counted["s1"] == 0
    assert counted["s2"] == 1, "what is known to be gone is not looked at"
    for name in ("s1", "s2"):
        harness.tracker.read(name, Reading(0, counts=COUNTS), harness.now)
        assert harness.reason_against(name) == NO_CONSUMER, "no job is sent there meanwhile"
    harness.queues.declare("s1", harness.now)  # another one was: it is declared no later for that
    await harness.asked_in(0.25)
    assert declarer.declared == ["s1"]
    await harness.asked_in(1)
    assert declarer.declared == ["s1", "s2"]


async def test_queue_watch_binds_a_queue_again_when_a_job_was_returned() -> None:
    """The queue is there, but a message was returned: its binding is missing."""
    declarer = FakeDeclarer(s1=QueueState(0, 0))
    harness = QueueHarness(declarer, "s1")
    await harness.asked_in(2)
    harness.queues.declare("s1", harness.now)
    await harness.asked_in(2)
    assert declarer.declared == ["s1", "s1"]


async def test_queue_watch_looks_soon_at_every_queue_after_a_link_broke() -> None:
    """With many, each is looked at but once in a while."""
    names = [f"s{number}" for number in range(200)]
    harness = QueueHarness(FakeDeclarer(**dict.fromkeys(names, QueueState(0, 1))), *names)
    for name in names:
        harness.anchor(name)
    await harness.asked_in(2, step=0.5)
    for name in names:
        harness.anchor(name)
    harness.now += 0.6
    harness.queues.hurry(harness.now)
    assert len(await harness.asked_in(0.5, step=0.5)) == 200


async def test_queue_watch_adds_queue_depth_to_page_with_only_a_load() -> None:
    """The jobs in the queue count as its load; without a consumer nothing is sent there."""
    declarer = FakeDeclarer(s1=QueueState(4, 1))
    harness = QueueHarness(declarer, "s1")
    harness.tracker.read("s1", Reading(2), 1.0)
    await harness.run()
    assert harness.tracker.substations["s1"].load == 6
    assert harness.reason_against("s1") is None
    for state, reason in ((QueueState(4, 0), NO_CONSUMER), (QueueState(0, 1), None)):
        declarer.states["s1"] = state
        harness.now += queues.POLL_SECONDS
        await harness.run()
        assert harness.reason_against("s1") == reason


async def test_queue_watch_reports_consumers_with_and_without_counters() -> None:
    """A living substation that does not consume from its queue gets no jobs."""
    harness = QueueHarness(FakeDeclarer(s1=QueueState(7, 0)), "s1")
    harness.anchor("s1")
    harness.now += queues.POLL_SECONDS
    await harness.run()
    assert harness.tracker.substations["s1"].consumers == 0
    assert harness.reason_against("s1") == NO_CONSUMER
    assert harness.tracker.substations["s1"].load == 0, "its counters tell that"


async def test_queue_watch_reads_depth_only_while_nothing_is_in_flight() -> None:
    """Jobs in flight may or may not be in the queue: they would count twice, or not at all."""
    harness = QueueHarness(FakeDeclarer(s1=QueueState(2, 1)), "s1")
    harness.tracker.read("s1", Reading(0, counts=COUNTS), harness.now)
    harness.under_way["s1"] = 1
    await harness.run()
    assert harness.hurried == []
    harness.under_way["s1"] = 0
    await harness.run()
    assert harness.hurried == ["s1"], "once: its page completes it"
    harness.tracker.read("s1", Reading(0, counts=COUNTS), harness.now)
    assert harness.tracker.substations["s1"].load == 2


async def test_queue_watch_forgets_state_of_queue_that_it_cannot_read() -> None:
    """The last state of a queue that cannot be looked at must not count as current."""
    declarer = FakeDeclarer(s1=QueueState(3, 1))
    harness = QueueHarness(declarer, "s1")
    assert harness.queues.state("s1") is None
    await harness.run()
    assert harness.queues.state("s1") == QueueState(3, 1)
    declarer.states.clear()
    harness.now += queues.POLL_SECONDS
    await harness.run()
    assert harness.queues.state("s1") is None


async def test_queue_watch_forgets_substation_that_left() -> None:
    """Its queue is watched until it was empty for long, since a job may be requeued there."""
    declarer = FakeDeclarer(s1=QueueState(0, 1), s2=QueueState(3, 0))
    harness = QueueHarness(declarer, "s1", "s2", "s3")
    harness.queues.declare("s3", harness.now)
    await harness.run()
    harness.tracker.keep({"s1": None})
    await harness.run()
    declarer.asked.clear()
    harness.now += queues.POLL_SECONDS
    await harness.run()
    assert set(declarer.asked) == {"s1", "s2"}
    assert harness.queues.state("s2") == QueueState(3, 0)
    assert set(harness.tracker.readable(harness.now)) == {"s1", "s2", "s3"}
    declarer.states["s2"] = QueueState(0, 0)
    harness.held.add("s2")
    for former in ({"s2", "s3"}, {"s2", "s3"}):
        harness.now += queues.EMPTY_SECONDS
        await harness.run()
        assert harness.tracker.former == former, "what was taken from it is in hand"
    harness.held.clear()
    for former in ({"s2", "s3"}, {"s3"}):
        assert harness.tracker.former == {"s2", "s3"}
        harness.now += queues.EMPTY_SECONDS
        await harness.run()
        assert harness.tracker.former == former
    assert harness.queues.state("s2") is None


async def test_queue_watch_declares_no_queue_for_name_in_a_snapshot() -> None:
    """Only names in the target file get queues; another name without a queue is forgotten."""
    declarer = FakeDeclarer(s1=QueueState(0, 1), s2=QueueState(3, 0))
    declarer.gone = {f"x{number}" for number in range(600)}
    harness = QueueHarness(declarer, "s1")
    harness.queues.declare("s1", harness.now)
    harness.tracker.recall({"s2", *declarer.gone})
    await harness.run(3_000)
    assert set(declarer.declared) == {"s1"}
    assert harness.tracker.former == {"s2"}, "its queue is there"


async def test_queue_watch_keeps_missing_queue_while_its_jobs_are_in_hand() -> None:
    """Jobs that were reclaimed from a queue that is gone still have to be sent elsewhere."""
    declarer = FakeDeclarer(s1=QueueState(0, 1))
    declarer.gone = {"s2"}
    harness = QueueHarness(declarer, "s1")
    harness.held.add("s2")
    harness.tracker.recall({"s2"})
    await harness.run()
    assert harness.tracker.former == {"s2"}


async def test_queue_watch_keeps_substation_that_left_through_an_error() -> None:
    """A short outage must not strand its jobs, but other queues are looked at more often."""
    declarer = FakeDeclarer(s1=QueueState(0, 1))
    harness = QueueHarness(declarer, "s1", "s2")
    harness.tracker.keep({"s1": None})
    await harness.run()
    asked = await harness.asked_in(2 * queues.GONE_SECONDS)
    assert asked["s2"] == 2
    assert asked["s1"] == 2 * queues.GONE_SECONDS / queues.POLL_SECONDS
    declarer.states["s2"] = QueueState(3, 0)
    harness.now += queues.GONE_SECONDS
    await harness.run()
    assert harness.queues.state("s2") == QueueState(3, 0)


async def test_queue_watch_watches_only_some_queues_often() -> None:
    """Dead substations, and those without consumer or counters: twice a second; others less."""
    names = [f"s{number:03}" for number in range(100)]
    declarer = FakeDeclarer(**dict.fromkeys(names, QueueState(0, 1)))
    harness = QueueHarness(declarer, *names)
    for name in names[3:]:
        harness.anchor(name)
    harness.anchor("s000")
    harness.tracker.fail("s000", "away", harness.now)
    harness.anchor("s001")
    declarer.states["s001"] = QueueState(0, 0)
    harness.tracker.read("s002", Reading(0), harness.now)
    await harness.run(500)
    asked = await harness.asked_in(6.0)
    needy = {"s000", "s001", "s002"}
    assert {asked[name] for name in needy} == {12}
    assert {asked[name] for name in names if name not in needy} == {3}


async def test_queue_watch_watches_few_queues_twice_a_second_at_most() -> None:
    """Twice a second is the most for any queue."""
    harness = QueueHarness(FakeDeclarer(s1=QueueState(0, 1)), "s1")
    harness.anchor("s1")
    await harness.run()
    assert await harness.asked_in(4.0) == {"s1": 8}


@pytest.mark.parametrize(
    ("state", "leaderless", "expected"),
    [
        (QueueState(0, 0), False, Whereabouts.GONE),
        (QueueState(0, 0), True, Whereabouts.UNKNOWN),
        (QueueState(1, 0), False, Whereabouts.UNKNOWN),
        (QueueState(0, 1), False, Whereabouts.UNKNOWN),
    ],
)
async def test_queue_watch_asks_leader_before_jobs_of_unreadable_substation_are_gone(
    state: QueueState,
    leaderless: bool,  # noqa: FBT001
    expected: Whereabouts,
) -> None:
    """RabbitMQ reports a queue without a leader as empty, and without consumers."""
    declarer = FakeDeclarer(s1=state)
    declarer.leaderless = {"s1"} if leaderless else set()
    harness = QueueHarness(declarer, "s1")
    assert await harness.watch.whereabouts("s1") is expected
    assert declarer.leaders_asked == ["s1"] * (state == QueueState(0, 0))


async def test_queue_watch_finds_whereabouts_with_as_little_as_is_needed() -> None:
    """A missing queue has no leader; a substation that works shows where its jobs are."""
    declarer = FakeDeclarer(s1=QueueState(0, 1), s2=QueueState(0, 1))
    declarer.gone = {"s2"}
    harness = QueueHarness(declarer, "s1", "s2")
    assert await harness.watch.whereabouts("s2") is Whereabouts.GONE
    harness.anchor("s1")
    assert await harness.watch.whereabouts("s1") is Whereabouts.QUEUE_EMPTY
    declarer.asked.clear()
    harness.tracker.read("s1", Reading(0, counts=COUNTS._replace(waiting=2)), harness.now)
    assert await harness.watch.whereabouts("s1") is Whereabouts.SERVED
    harness.held.add("s1")
    assert await harness.watch.whereabouts("s1") is Whereabouts.UNKNOWN
    assert (declarer.asked, declarer.leaders_asked) == ([], [])


async def test_queue_watch_waits_while_link_is_down() -> None:
    """A broker that is away does not make a substation ineligible."""
    declarer = FakeDeclarer(s1=QueueState(0, 1))
    declarer.up.clear()
    harness = QueueHarness(declarer, "s1")
    await harness.run()
    assert declarer.asked == []
    assert harness.tracker.substations["s1"].refusal is None


async def test_queue_watch_goes_on_after_unforeseen_error_of_one_queue() -> None:
    """It makes the substation ineligible, with the reason, until a look at its queue succeeds."""

    class Failing(FakeDeclarer):
        wrong = True

        async def queue(self, queue: Queue) -> QueueState:
            found = await super().queue(queue)
            if queue.key == "a" and self.wrong:
                raise KeyError("some mistake")
            return found

    declarer = Failing(a=QueueState(0, 1), b=QueueState(3, 1))
    harness = QueueHarness(declarer, "a", "b")
    for name in "ab":
        harness.tracker.read(name, Reading(0, counts=COUNTS), harness.now)
        harness.queues.declare(name, harness.now)
    task = asyncio.create_task(harness.watch.run())
    await turns(100)
    assert harness.reason_against("a") == "KeyError: 'some mistake'"
    assert harness.queues.state("b") == QueueState(3, 1)
    assert harness.hurried == ["b"]
    declarer.wrong = False
    await turns(100)
    assert harness.queues.state("a") == QueueState(0, 1)
    assert harness.hurried == ["b", "a"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
