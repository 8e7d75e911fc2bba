"""The core loses no request, whatever the order of inputs, broken links and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.commands import LookAtQueue, TakeFromQueue
from dispatcher.failure_detector import DEAD_LOOKS
from dispatcher.inputs import (
    JobReclaimed,
    OlderEventsRead,
    QueueObserved,
    ReclaimDue,
)
from dispatcher.open_jobs import OpenJobs
from dispatcher.reclaim import INTERVAL_SECONDS
from grid import events, provenance, topology
from grid.amqp import Outcome, Publication, QueueState
from grid.events import Event, State
from tests.dispatcher.harness import AT, RESCUE_AFTER, SUBSTATIONS, Harness, body
from tests.examples import examples
from tests.fake_broker import FakePublisher, Message, raise_violations, turns

pytestmark = pytest.mark.usefixtures("no_pauses")

KINDS: dict[str, Callable[[str], bytes]] = {
    "new": body,
    "nowhere": lambda job: body(job, "s9"),
    "pinned": lambda job: body(job, "s2"),
    "leaves": lambda job: body(job, departure_time=AT + 5),
    "later": lambda job: body(job, earliest_start=AT + 5),
    "booked": lambda job: body(job, earliest_start=AT + 5, reserve=True),
    "prompt": lambda job: body(job, departure_time=AT + 9e3, reserve=True),
    "bad": lambda _: b"?",
}
ANSWERS = {
    "confirm": (SUBSTATIONS, Outcome.CONFIRMED),
    "refuse": (SUBSTATIONS, Outcome.REFUSED),
    "miss": (SUBSTATIONS, Outcome.UNROUTABLE),
    "record": (topology.EVENTS, Outcome.CONFIRMED),
    "lose": (topology.EVENTS, Outcome.REFUSED),
    "park": (topology.PARKED, Outcome.CONFIRMED),
    "not parked": (topology.PARKED, Outcome.REFUSED),
    "back": (topology.REQUESTS, Outcome.CONFIRMED),
    "not back": (topology.REQUESTS, Outcome.REFUSED),
}


Copy = tuple[str, Mapping[str, Any]]  # of a job, and its headers


class Simulation:
    """RabbitMQ, substations that charge nothing, and two dispatchers to which anything happens.

    One is active; the other reads the event log, too, and its clock is ``ahead`` by some seconds.
    """

    def __init__(self, ahead: float = 0.0) -> None:
        self.bodies: dict[str, bytes] = {}
        self.stations: dict[str, list[str]] = {"s1": [], "s2": []}  # what waits in their queues
        self.back: list[Copy] = []  # requeued, and not delivered yet
        self.early: set[Publication] = set()  # delivered before they were confirmed
        self.ended: set[str] = set()  # parked, or on record as expired
        self.log: list[bytes] = []
        self.lost: set[str] = set()  # substations that are dead
        self.standby = self.started()
        self.standby.at += ahead
        self.start()
        self.steps: dict[str, Callable[[], object]] = {
            **{name: partial(self.request, name) for name in KINDS},
            **{name: partial(self.answer, *answer) for name, answer in ANSWERS.items()},
            "copy": self.copy,
            "early copy": self.early_copy,
            "break": self.break_requests,
            "break reclaim": self.break_reclaim_link,
            "dead": partial(self.reclaim, "s1"),
            "dead too": partial(self.reclaim, "s2"),
            "settle": self.settle,
            "swap": self.swap,
            "crash": self.crash,
            "crash late": partial(self.crash, late=True),
            "read": self.read,
            "lost": partial(self.lose, "s2"),
            "dies": self.die,
            "is cut off": self.cut_off,
            "begin": self.begin_session,
            "review": self.review,
            "not fed": lambda: self.harness.shell.feed(ReclaimDue(is_fed=False)),
            "second": self.second,
            "hour": self.hour,
            "lapse": partial(self.be_certain, certain=False),
            "renew": partial(self.be_certain, certain=True),
        }

    def start(self) -> None:
        """Start an active dispatcher that has read the event log."""
        self.harness = self.started()

    def started(self) -> Harness:
        """Return a dispatcher that has read the event log."""
        harness = Harness(FakePublisher(), "s1", "s2", connectors=3)
        harness.shell.feed(OlderEventsRead(OpenJobs()))
        for each in self.log:
            harness.read_log(each, provenance.DISPATCHER)
        return harness

    def request(self, kind: str) -> None:
        """Have a new request delivered."""
        job = f"{kind}{len(self.bodies)}"
        self.bodies[job] = KINDS[kind](job)
        self.harness.queue.bring(self.bodies[job], job)

    def answer(self, exchange: str, outcome: Outcome) -> None:
        """Answer the oldest message that waits for a confirm on an exchange, if there is one."""
        if waiting := self.harness.publisher.to(exchange, self.harness.publisher.waiting):
            if outcome is Outcome.CONFIRMED:
                self.keep(waiting[0])
            if outcome is Outcome.CONFIRMED or waiting[0] not in self.early:
                self.harness.publisher.answer(exchange, outcome)

    def settle(self) -> None:
        """Confirm all messages that wait for it."""
        for each in list(self.harness.publisher.waiting):
            self.answer(each.exchange, Outcome.CONFIRMED)

    def keep(self, message: Publication) -> None:
        """Store a published message where RabbitMQ would."""
        job = str(message.id)
        if message.exchange == SUBSTATIONS:
            self.stations[message.key].append(job)
        elif message.exchange == topology.PARKED:
            self.ended.add(job)
        elif message.exchange == topology.EVENTS_EXCHANGE:
            self.log.append(message.body)
            found = events.decode(message.body)
            self.ended |= {each.job for each in found if each.kind == State.EXPIRED}
            for each in (self.harness, self.standby):
                each.read_log(message.body, provenance.DISPATCHER)
        elif message not in self.early:
            self.back.append((job, message.headers or {}))

    def copy(self) -> None:
        """Deliver the copy of a request that was requeued."""
        if self.back:
            job, headers = self.back.pop(0)
            self.harness.queue.bring(self.bodies[job], job, headers=headers)

    def early_copy(self) -> None:
        """Deliver the copy of a request before the dispatcher's publish of it is confirmed."""
        for each in self.harness.publisher.to(topology.REQUESTS, self.harness.publisher.waiting):
            if each not in self.early:
                self.early.add(each)
                job, headers = str(each.id), each.headers or {}
                self.harness.queue.bring(self.bodies[job], job, headers=headers)
                return

    def break_requests(self) -> None:
        """Break the link of the requests: what is not acknowledged is redelivered."""
        self.redeliver(self.harness.queue.break_link())

    def redeliver(self, lost: Iterable[Message]) -> None:
        """Redeliver what was not acknowledged."""
        for each in lost:
            self.harness.queue.bring(each.body, each.id, again=True, headers=each.headers)

    def swap(self) -> None:
        """Make the other dispatcher active, with what this one has not acknowledged."""
        lost = self.harness.queue.break_link()
        self.break_reclaim_link()
        self.harness, self.standby = self.standby, self.harness
        self.redeliver(lost)

    def reclaim(self, name: str) -> None:
        """Reclaim the first job in a substation's queue."""
        if self.stations[name]:
            job = self.stations[name].pop(0)
            self.harness.reclaim.deliver(name, self.bodies[job], job)

    def lose(self, name: str) -> None:
        """Have a substation die: neither page nor consumer is left."""
        self.lost.add(name)
        self.harness.fail_page(name)

    def die(self) -> None:
        """Have a substation die, and its jobs be reclaimed."""
        self.lose("s2")
        self.review()

    def cut_off(self) -> None:
        """Have the page of a living substation fail, and its jobs be reclaimed."""
        self.harness.fail_page("s2")
        self.review()

    def begin_session(self) -> None:
        """Have the substation that may be cut off begin to charge the first job in its queue."""
        if self.stations["s2"]:
            charging = Event(State.CHARGING, self.harness.at, self.stations["s2"][0], "s2", 1)
            self.log.append(events.encode([charging]))
            for each in (self.harness, self.standby):
                each.read_log(self.log[-1], provenance.DISPATCHER)

    def review(self) -> None:
        """Have the core look at the queues, and reclaim what it wants from them."""
        harness = self.harness
        for name in self.stations:
            self.observe(name)
        for _ in range(int(RESCUE_AFTER) + DEAD_LOOKS):
            harness.now += INTERVAL_SECONDS
            while takes := harness.shell.feed(ReclaimDue(is_fed=True)):
                for each in takes:
                    if isinstance(each, TakeFromQueue) and self.stations[each.substation]:
                        self.reclaim(each.substation)
                    elif isinstance(each, TakeFromQueue):
                        harness.shell.feed(JobReclaimed(each.substation, None))

    def observe(self, name: str) -> None:
        """Have a substation's queue observed."""
        state = QueueState(len(self.stations[name]), consumers=int(name not in self.lost))
        self.harness.shell.feed(QueueObserved(LookAtQueue(name), state))

    def put_back(self) -> None:
        """Put back into the substations' queues what was requeued."""
        for harness in (self.harness, self.standby):
            for name, job in harness.reclaim.requeued:
                self.stations[name].insert(0, job)
            harness.reclaim.requeued.clear()

    def break_reclaim_link(self) -> None:
        """Break the link of reclaimed jobs: what is not acknowledged is in its queue again."""
        for name, each in self.harness.reclaim.break_link():
            self.stations[name].append(str(each.id))

    def crash(self, *, late: bool = False) -> None:
        """End the dispatcher; with ``late``, RabbitMQ still gets its unconfirmed messages."""
        if late:
            for message in self.harness.publisher.waiting:
                self.keep(message)
        lost = self.harness.queue.break_link()
        self.break_reclaim_link()
        self.start()
        self.redeliver(lost)

    def read(self) -> None:
        """Have both substations read, page and queue."""
        self.lost.clear()
        for name in self.stations:
            self.observe(name)
            self.harness.arrive(name)

    def second(self) -> None:
        """Advance the wall clock by a second, which may reach a departure."""
        self.harness.at += 1.0
        self.harness.shell.tick()

    def hour(self) -> None:
        """Advance time by an hour, longer than anything may be held."""
        self.harness.now += 3_600.0
        self.harness.shell.tick()

    def be_certain(self, *, certain: bool) -> None:
        """Make it uncertain or certain that the dispatcher still owns its deliveries."""
        self.harness.certain = certain
        self.harness.shell.tick()

    def check(self) -> None:
        """Check that RabbitMQ has every request, before or behind the dispatcher."""
        harness = self.harness
        waiting = {str(each.id) for each in harness.queue.outstanding.values()}
        taken = {str(each.id) for _, each in harness.reclaim.outstanding.values()}
        sent = {job for jobs in self.stations.values() for job in jobs}
        held = waiting | taken | sent | self.ended | {job for job, _ in self.back}
        assert self.bodies.keys() <= held, "acknowledged before RabbitMQ had it"


OFTEN = [
    *("new", "booked", "leaves", "hour", "second", "review", "not fed", "begin", "is cut off"),
    *["dead", "dead too", "settle", "swap", "read", "dies"] * 2,
]
STEPS = [*Simulation().steps, *OFTEN]


# refused, waited long, requeued: the job is not where the decision on record says
@example(steps=["new"] * 6 + ["hour"] + ["new"] * 5 + ["refuse", "settle"], ahead=0.0)
# the copy of a confirmed job is dropped by the other dispatcher, before its decision is on record
@example(steps=["new", "leaves", "confirm", "swap", "dead", "dead too", "swap"], ahead=0.0)
# it expires while RabbitMQ has not answered for an earlier decision
@example(steps=["leaves", "crash late", "swap", "refuse", "dead", "dead too"], ahead=3_600.0)
# its jobs are reclaimed, and go back while another dispatcher is active
@example(steps=["new"] * 4 + ["settle"] + ["dies", "not fed"] * 3, ahead=0.0)
# the copy of a job that another dispatcher sent is reclaimed while its own one is in flight
@example(steps=["new"] * 3 + ["confirm", "read", "swap", "dead too", "swap"], ahead=0.0)
# a session is left to its substation, whose other jobs are reclaimed
@example(steps=["new"] * 6 + ["settle", "begin"] + ["is cut off"] * 3, ahead=0.0)
@examples(300)
@given(st.lists(st.sampled_from(STEPS), max_size=60), st.sampled_from([0.0, 3_600.0, -500.0]))
def test_core_loses_no_request_in_any_order_of_inputs(steps: list[str], ahead: float) -> None:
    """In any order of steps, each request is sent, parked or expired before it is acknowledged."""
    asyncio.run(_run(steps, ahead))


async def _run(steps: list[str], ahead: float) -> None:
    simulation = Simulation(ahead)
    for step in steps:
        await _step(simulation, step)
    for _ in range(2):
        await _finish(simulation)
        await _step(simulation, "swap")


async def _finish(simulation: Simulation) -> None:
    """Let the active dispatcher finish all its work."""
    await _step(simulation, "renew")
    await _step(simulation, "not fed")  # sessions that were left to their substation go back
    while (
        simulation.harness.publisher.waiting
        or simulation.harness.core.waiting
        or simulation.harness.core.held
        or simulation.back
    ):
        for step in ("confirm", "record", "park", "back", "copy", "read", "second"):
            await _step(simulation, step)
    await _step(simulation, "not fed")  # the copies of jobs that are safe are dropped
    raise_violations()
    harness = simulation.harness
    assert harness.queue.outstanding == {}
    assert harness.reclaim.outstanding == {}
    assert harness.publishing("s1") == harness.publishing("s2") == 0
    assert not any(job.startswith(("bad", "nowhere")) for job in harness.routed())


async def _step(simulation: Simulation, step: str) -> None:
    simulation.steps[step]()
    await turns(3)
    simulation.put_back()
    simulation.check()
