"""Taking back the jobs that wait for a substation which does not take them, each once.

A job taken stays unacknowledged in the substation's queue until it is safe elsewhere; whatever
breaks before, RabbitMQ has it back, and it is taken again. What a living substation
charges is left to it: such a job is kept here, out of nobody's way, and given back as soon as the
queue is no longer due. Giving it back each time it is met would end in ``charge.parked``: RabbitMQ
counts how often a message comes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Final

from dispatcher.failure_detector import Evacuation, FailureDetector, Look
from dispatcher.job_index import JobIndex
from dispatcher.open_jobs import OpenJobs
from grid import messages, parking
from grid.amqp import Delivery, QueueState, Taker
from grid.errors import BrokerUnavailable, MalformedMessage
from grid.topology import substation_queue

log = logging.getLogger(__name__)

MOST: Final = 100  # jobs in hand at once, and of one substation's own sessions
PERIOD_SECONDS: Final = 1.0
ROOM_SECONDS: Final = 0.01  # between two looks whether one in hand is safe elsewhere

Reclaim = Callable[[str, Delivery], bool]


class Reclaimer:
    """Looks at every substation each second, and empties the queues that are due.

    ``reachable`` returns all substations, and whether their pages can be read; ``look`` the state
    of one's queue, or None where that is unknown. ``reclaim`` is given each job and the substation
    it waited for, and returns whether it handles it: then it acknowledges the delivery, maybe at
    once; else it has requeued it. While this dispatcher is not ``at_work``, the jobs that wait here
    go back to their queues: ``return_reclaimed`` requeues and returns them. ``anywhere_else``
    returns whether a job of that substation could go to another now. ``reclaimed`` is called with
    the substation of each job that is safe elsewhere. ``now`` returns seconds.
    """

    def __init__(
        self,
        taker: Taker,
        index: JobIndex,
        failure_detector: FailureDetector,
        open_jobs: OpenJobs,
        *,
        reachable: Callable[[], Mapping[str, bool]],
        look: Callable[[str], QueueState | None],
        reclaim: Reclaim,
        return_reclaimed: Callable[[], list[Delivery]],
        at_work: Callable[[], bool],
        anywhere_else: Callable[[str], bool],
        reclaimed: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._taker = taker
        self._index = index
        self._detector = failure_detector
        self._open_jobs = open_jobs
        self._reachable = reachable
        self._look = look
        self._reclaim = reclaim
        self._return_reclaimed = return_reclaimed
        self._at_work = at_work
        self._anywhere_else = anywhere_else
        self._count_reclaimed_at = reclaimed
        self._now = now
        self._hand: dict[Delivery, str] = {}  # handed over, and for which substation it waited
        self._own_sessions: dict[str, list[Delivery]] = {}  # sessions of substations that are alive
        self._taken: dict[str, int] = {}  # where it has begun, and how many so far
        self._last = ""  # whose turn it was last
        self._interrupted = True  # RabbitMQ was away, as far as we know
        self._problem = ""

    def holds(self, substation: str) -> bool:
        """Return whether jobs taken from a substation's queue are in hand, or spared."""
        return substation in self._own_sessions or any(
            where == substation and each.is_live for each, where in self._hand.items()
        )

    def on_link_lost(self) -> None:
        """Forget all deliveries: RabbitMQ has them back, and nothing was heard of it meanwhile."""
        self._hand.clear()
        self._own_sessions.clear()
        self._interrupted = True

    async def run(self) -> None:
        """Reclaim jobs wherever that is due, until the task is cancelled."""
        time = asyncio.get_running_loop().time
        while True:
            await self._taker.up.wait()
            until = time() + PERIOD_SECONDS
            if self._at_work():
                await self._empty(self._judge(), until)
            else:
                self._return_all()
            self.count_reclaimed()
            await asyncio.sleep(until - time())

    def _return_all(self) -> None:
        """Return the jobs that are not on their way yet: another dispatcher is at work.

        It cannot know of them, and would take them for lost.
        """
        for returned in self._return_reclaimed():
            self._hand.pop(returned, None)
        for deliveries in self._own_sessions.values():
            for each in deliveries:
                each.requeue()
        self._own_sessions.clear()

    def _judge(self) -> dict[str, Evacuation]:
        """Look at all substations; return those to be emptied that are not known to be empty."""
        if self._interrupted:
            self._interrupted = False
            self._detector.begin_grace(self._now())
        reachable = self._reachable()
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
        """Acknowledge the spared jobs that have ended, and give back those not to be spared now."""
        for name, deliveries in list(self._own_sessions.items()):
            evacuation = due.get(name)
            self._own_sessions[name] = []
            for each in deliveries:
                if self._ended(each):
                    each.ack()
                elif evacuation is not None and self._is_own(name, each, evacuation):
                    self._own_sessions[name].append(each)
                else:
                    each.requeue()
            if not self._own_sessions[name]:
                del self._own_sessions[name]

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
            self._say(str(error))
        else:
            self._say("")

    def _in_turn(self, names: Iterable[str]) -> list[str]:
        """Return the names in order, beginning behind the one whose turn was last.

        Else a long queue whose jobs find room slowly would be the first again in every period.
        """
        return sorted(names, key=lambda name: (name <= self._last, name))

    async def _take_some(self, name: str, evacuation: Evacuation, until: float) -> bool:
        """Reclaim up to ``MOST`` jobs of a queue; return whether there may be more now."""
        queue = substation_queue(name).name
        for _ in range(MOST):
            if len(self._own_sessions.get(name, ())) >= MOST or not await self._has_room(until):
                return False
            if not self._anywhere_else(name):
                return False
            self._last = name
            delivery = await self._taker.take(queue)
            if delivery is None:
                self._finish(name)
                return False
            if not delivery.is_live:  # the link broke just then
                return False
            try:
                go_on = self._see_to(name, delivery, evacuation)
            except Exception:
                delivery.reject()  # it goes where poison goes, not round and round
                raise
            if not go_on:
                return False
        return True

    async def _has_room(self, until: float) -> bool:
        time = asyncio.get_running_loop().time
        self.count_reclaimed()
        while len(self._hand) >= MOST and time() < until:
            await asyncio.sleep(min(ROOM_SECONDS, until - time()))
            self.count_reclaimed()
        return len(self._hand) < MOST

    def _see_to(self, name: str, delivery: Delivery, evacuation: Evacuation) -> bool:
        """Acknowledge, keep or hand over a job; return whether to go on."""
        if self._ended(delivery):
            delivery.ack()
            return True
        if self._is_own(name, delivery, evacuation):
            self._own_sessions.setdefault(name, []).append(delivery)
            return True
        return self._hand_over(name, delivery, evacuation)

    def _ended(self, delivery: Delivery) -> bool:
        name, replays = delivery.id or "", parking.replays(delivery.headers)
        return any(
            # reading the body is for the few of which anything is known
            ended(name, replays, -inf) and ended(name, replays, _asked_at(delivery.body))
            for ended in (self._index.ended, self._open_jobs.has_ended)
        )

    def _is_own(self, name: str, delivery: Delivery, evacuation: Evacuation) -> bool:
        """Return whether a job is in progress at the very substation, which may be alive.

        A session may last longer than the newest events are remembered for.
        """
        job = delivery.id or ""
        begun = self._index.charging_at(job), self._open_jobs.charging_at(job)
        return evacuation.alive and name in begun

    def _hand_over(self, name: str, delivery: Delivery, evacuation: Evacuation) -> bool:
        if name not in self._taken:
            self._taken[name] = 0
            log.warning("taking back the jobs that wait for %s: %s", name, evacuation.why)
        taken = self._reclaim(name, delivery)
        if taken:
            self._hand[delivery] = name
            self._taken[name] += 1
        return taken

    def count_reclaimed(self) -> None:
        """Count those that were acknowledged since: of a link that is lost none is in hand."""
        for each in [each for each in self._hand if not each.is_live]:
            self._count_reclaimed_at(self._hand.pop(each))

    def _finish(self, name: str) -> None:
        if (taken := self._taken.pop(name, None)) is not None:
            log.warning("took back %d jobs that waited for %s", taken, name)

    def _say(self, problem: str) -> None:
        if problem and problem != self._problem:
            log.warning("no jobs are taken back: %s", problem)
        self._problem = problem


def _asked_at(body: bytes) -> float:
    """Return when a job was asked for, in Unix seconds; before all time if it is no request."""
    try:
        return messages.decode(body).requested_at
    except MalformedMessage:
        return -inf
