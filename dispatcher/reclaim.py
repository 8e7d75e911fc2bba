"""Reclaims jobs from the queues of substations that do not consume them, each once.

A reclaimed job stays unacknowledged in the substation's queue until it is safe elsewhere. If
anything breaks before, RabbitMQ requeues it, and it is reclaimed again. The sessions of a living
substation are left to it: such a delivery is kept here unacknowledged, and requeued as soon as the
queue is no longer due. Requeuing it each time would end in ``charge.parked``, since RabbitMQ counts
how often a message is delivered.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from math import inf
from typing import Final, Protocol

from dispatcher.failure_detector import Evacuation, FailureDetector, Look
from grid import messages, parking
from grid.amqp import Delivery, QueueState, Taker
from grid.errors import BrokerUnavailable, MalformedMessage
from grid.topology import substation_queue

log = logging.getLogger(__name__)

MAX_IN_HAND: Final = 100  # jobs in hand at once, and of one substation's own sessions
INTERVAL_SECONDS: Final = 1.0
CAPACITY_SECONDS: Final = 0.01  # between two checks whether a job in hand is safe elsewhere


class Work(Protocol):
    """The part of the dispatcher that the reclaimer uses."""

    @property
    def is_fed(self) -> bool:
        """Return whether RabbitMQ may feed this dispatcher."""

    def readable(self) -> Mapping[str, bool]:
        """Return whether each substation's page can be read."""

    def has_alternative(self, substation: str) -> bool:
        """Return whether a job of a substation could go to another one now."""

    def has_ended(self, job: str, replays: int, asked_at: float) -> bool:
        """Return whether a job has ended since its last replay, and since it was requested."""

    def charging_at(self, job: str) -> Collection[str | None]:
        """Return the substations where a job may be charging."""

    def reclaim(self, substation: str, delivery: Delivery) -> bool:
        """Handle a job from a substation's queue; return False if it is requeued there.

        Otherwise its delivery is acknowledged, perhaps at once.
        """

    def return_reclaimed(self) -> list[Delivery]:
        """Requeue the reclaimed jobs that wait, and return their deliveries."""

    def count_reclaimed(self, substation: str) -> None:
        """Count a job of that substation that is safe elsewhere."""


class ReclaimedJobs:
    """The deliveries from substations' queues that are in hand; only ``Reclaimer`` changes it."""

    def __init__(self) -> None:
        self.handed: dict[Delivery, str] = {}  # handed over, and the substation where it waited
        self.own_sessions: dict[str, list[Delivery]] = {}  # of substations that are alive

    def holds(self, substation: str) -> bool:
        """Return whether jobs taken from a substation's queue are in hand, or left to it."""
        return substation in self.own_sessions or any(
            where == substation and each.is_live for each, where in self.handed.items()
        )


class Reclaimer:
    """Looks at every substation each second, and empties the queues that are due.

    While this dispatcher is not active, the jobs that wait here go back to their queues.

    Args:
        taker: Gets single jobs from queues.
        detector: Judges which queues are to be emptied.
        jobs: The deliveries in hand.
        work: Handles them.
        look: Returns the state of a substation's queue, or None where that is unknown.
        now: Returns seconds.
    """

    def __init__(
        self,
        taker: Taker,
        detector: FailureDetector,
        jobs: ReclaimedJobs,
        work: Work,
        *,
        look: Callable[[str], QueueState | None],
        now: Callable[[], float],
    ) -> None:
        self._taker = taker
        self._detector = detector
        self._jobs = jobs
        self._work = work
        self._look = look
        self._now = now
        self._taken: dict[str, int] = {}  # by substation: how many jobs were reclaimed so far
        self._last = ""  # the substation whose turn was last
        self._interrupted = True  # RabbitMQ may have been away
        self._problem = ""

    def on_link_lost(self) -> None:
        """Forget all deliveries: RabbitMQ has requeued them, and may have been away."""
        self._jobs.handed.clear()
        self._jobs.own_sessions.clear()
        self._interrupted = True

    async def run(self) -> None:
        """Reclaim jobs wherever that is due, until the task is cancelled."""
        time = asyncio.get_running_loop().time
        while True:
            await self._taker.up.wait()
            until = time() + INTERVAL_SECONDS
            if self._work.is_fed:
                await self._empty(self._judge(), until)
            else:
                self._return_all()
            self.count_reclaimed()
            await asyncio.sleep(until - time())

    def _return_all(self) -> None:
        """Requeue the jobs that are not in flight yet, since another dispatcher is active.

        It cannot know of them, and would find them missing.
        """
        for returned in self._work.return_reclaimed():
            self._jobs.handed.pop(returned, None)
        for deliveries in self._jobs.own_sessions.values():
            for each in deliveries:
                each.requeue()
        self._jobs.own_sessions.clear()

    def _judge(self) -> dict[str, Evacuation]:
        """Look at all substations; return those that are due, without empty queues."""
        if self._interrupted:
            self._interrupted = False
            self._detector.begin_grace(self._now())
        reachable = self._work.readable()
        states = {name: self._look(name) for name in reachable}
        looks = {
            name: Look(reachable[name], None if state is None else state.consumers)
            for name, state in states.items()
        }
        due = self._detector.due(looks, self._now())
        empty = {name for name, state in states.items() if state is not None and not state.ready}
        self._review(due)
        for name in [each for each in self._taken if each not in due or each in empty]:
            self._finish(name)
        return {name: evacuation for name, evacuation in due.items() if name not in empty}

    def _review(self, due: Mapping[str, Evacuation]) -> None:
        """Acknowledge held sessions that have ended; requeue those that need not be held now."""
        for name, deliveries in list(self._jobs.own_sessions.items()):
            evacuation = due.get(name)
            self._jobs.own_sessions[name] = []
            for each in deliveries:
                if self._ended(each):
                    each.ack()
                elif evacuation is not None and self._is_own(name, each, evacuation):
                    self._jobs.own_sessions[name].append(each)
                else:
                    each.requeue()
            if not self._jobs.own_sessions[name]:
                del self._jobs.own_sessions[name]

    async def _empty(self, due: Mapping[str, Evacuation], until: float) -> None:
        """Reclaim some jobs of each queue in turn, while there are more and there is time."""
        time = asyncio.get_running_loop().time
        names = deque(self._in_turn(due))
        try:
            while names and time() < until:
                name = names.popleft()
                if await self._take_some(name, due[name], until):
                    names.append(name)
        except BrokerUnavailable as error:
            self._log_problem(str(error))
        else:
            self._log_problem("")

    def _in_turn(self, names: Iterable[str]) -> list[str]:
        """Return the names in order, beginning behind the one whose turn was last.

        Otherwise a long queue whose jobs are slow to find capacity would be first in each interval.
        """
        return sorted(names, key=lambda name: (name <= self._last, name))

    async def _take_some(self, name: str, evacuation: Evacuation, until: float) -> bool:
        """Reclaim up to ``MAX_IN_HAND`` jobs of a queue; return whether there may be more now."""
        queue = substation_queue(name).name
        for _ in range(MAX_IN_HAND):
            if not await self._may_take(name, until):
                return False
            self._last = name
            delivery = await self._taker.take(queue)
            if delivery is None:
                self._finish(name)
                return False
            if not delivery.is_live:  # the link broke just then
                return False
            try:
                go_on = self._handle(name, delivery, evacuation)
            except Exception:
                delivery.reject()  # a poison message is dead-lettered, not requeued
                raise
            if not go_on:
                return False
        return True

    async def _may_take(self, name: str, until: float) -> bool:
        """Return whether one more job of a queue may be taken."""
        if len(self._jobs.own_sessions.get(name, ())) >= MAX_IN_HAND:
            return False
        return await self._has_capacity(until) and self._work.has_alternative(name)

    async def _has_capacity(self, until: float) -> bool:
        time = asyncio.get_running_loop().time
        self.count_reclaimed()
        while len(self._jobs.handed) >= MAX_IN_HAND and time() < until:
            await asyncio.sleep(min(CAPACITY_SECONDS, until - time()))
            self.count_reclaimed()
        return len(self._jobs.handed) < MAX_IN_HAND

    def _handle(self, name: str, delivery: Delivery, evacuation: Evacuation) -> bool:
        """Acknowledge, hold or hand over a job; return whether to go on."""
        if self._ended(delivery):
            delivery.ack()
            return True
        if self._is_own(name, delivery, evacuation):
            self._jobs.own_sessions.setdefault(name, []).append(delivery)
            return True
        return self._hand_over(name, delivery, evacuation)

    def _ended(self, delivery: Delivery) -> bool:
        job, replays = delivery.id or "", parking.replays(delivery.headers)
        # the body is decoded only for the few jobs that may have ended
        return self._work.has_ended(job, replays, -inf) and self._work.has_ended(
            job, replays, _asked_at(delivery.body)
        )

    def _is_own(self, name: str, delivery: Delivery, evacuation: Evacuation) -> bool:
        """Return whether a job is in progress at that substation, which may be alive.

        A session may last longer than its newest events are remembered.
        """
        return evacuation.alive and name in self._work.charging_at(delivery.id or "")

    def _hand_over(self, name: str, delivery: Delivery, evacuation: Evacuation) -> bool:
        if name not in self._taken:
            self._taken[name] = 0
            log.warning("reclaiming the jobs that wait for %s: %s", name, evacuation.why)
        taken = self._work.reclaim(name, delivery)
        if taken:
            self._jobs.handed[delivery] = name
            self._taken[name] += 1
        return taken

    def count_reclaimed(self) -> None:
        """Count the jobs that were acknowledged since; those of a lost link are forgotten."""
        for each in [each for each in self._jobs.handed if not each.is_live]:
            self._work.count_reclaimed(self._jobs.handed.pop(each))

    def _finish(self, name: str) -> None:
        if (taken := self._taken.pop(name, None)) is not None:
            log.warning("reclaimed %d jobs that waited for %s", taken, name)

    def _log_problem(self, problem: str) -> None:
        if problem and problem != self._problem:
            log.warning("no jobs are reclaimed: %s", problem)
        self._problem = problem


def _asked_at(body: bytes) -> float:
    """Return when a job was requested, in Unix seconds; minus infinity if malformed."""
    try:
        return messages.decode(body).requested_at
    except MalformedMessage:
        return -inf
