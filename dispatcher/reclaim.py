"""Which jobs are reclaimed from the queues of substations that do not consume them. Pure.

A reclaimed job stays unacknowledged in the substation's queue until it is safe elsewhere. If
anything breaks before, RabbitMQ requeues it, and it is reclaimed again. The sessions of a living
substation are left to it: such a delivery is kept here unacknowledged, and requeued as soon as the
queue is no longer due. A second copy of a job in hand is kept as well, until that job is safe,
parked, rejected or forgotten. Requeuing them each time would end in ``charge.parked``, since
RabbitMQ counts how often a message is delivered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from dispatcher.commands import Command, Requeue, TakeFromQueue, Warn
from dispatcher.failure_detector import Evacuation, FailureDetector, Look
from dispatcher.job_index import JobIndex
from dispatcher.jobs import Job, JobState
from dispatcher.open_jobs import OpenJobs
from dispatcher.queues import Queues
from grid import messages, parking
from grid.errors import MalformedMessage
from scheduling.load_tracker import LoadTracker

if TYPE_CHECKING:
    from grid.amqp import Delivery

MAX_IN_HAND: Final = 100  # jobs in hand at once, and of one substation's own sessions
INTERVAL_SECONDS: Final = 1.0  # between two reviews of all substations


class Review(NamedTuple):
    """What follows from a look at all substations.

    ``ended`` are deliveries that were held for sessions which have ended since.
    """

    ended: list[Delivery]
    commands: list[Command]


class Copy(NamedTuple):
    """A second copy of a job that is in hand, or was, and the substation in whose queue it was."""

    job: Job
    substation: str
    delivery: Delivery

    @property
    def is_needless(self) -> bool:
        """Return whether its job is safe without it, or is parked or rejected."""
        job = self.job
        return job.safe or (job.aside and job.delivery is not None and job.delivery.is_settled)

    @property
    def has_lost_its_job(self) -> bool:
        """Return whether its job is not in hand any more, and may not be safe.

        Its delivery was lost with a link or given back, or RabbitMQ did not confirm its requeue.
        """
        job = self.job
        is_being_parked = job.aside and job.delivery is not None and job.is_ours
        return job.state is JobState.GONE and not (self.is_needless or is_being_parked)


class Reclaiming:
    """The queues that are to be emptied, and the deliveries from them that are in hand.

    Args:
        detector: Judges which queues are to be emptied.
        tracker: Knows which pages can be read, and which substations can take a job.
        queues: Knows the consumers and depths of the queues.
        index: What is known of recent jobs.
        open_jobs: The jobs that are open by the event log.
    """

    def __init__(
        self,
        detector: FailureDetector,
        tracker: LoadTracker,
        queues: Queues,
        index: JobIndex,
        open_jobs: OpenJobs,
    ) -> None:
        self._detector = detector
        self._tracker = tracker
        self._queues = queues
        self._index = index
        self._open_jobs = open_jobs
        self._handed: dict[Delivery, str] = {}  # handed over, and the substation where it waited
        self._own_sessions: dict[str, list[Delivery]] = {}  # of substations that are alive
        self._copies: list[Copy] = []
        self._due: dict[str, Evacuation] = {}
        self._turns: deque[str] = deque()  # the queues from which jobs are taken, in turn
        self._in_turn = 0  # jobs of the first of them that were taken in this turn
        self._last = ""  # the substation whose turn was last
        self._taken: dict[str, int] = {}  # by substation: how many jobs were reclaimed so far
        self._reviewed_at = -inf
        self._interrupted = True  # RabbitMQ may have been away
        self._problem = ""

    @property
    def is_full(self) -> bool:
        """Return whether no more jobs are taken until one in hand is safe elsewhere."""
        return len(self._handed) >= MAX_IN_HAND

    def holds(self, substation: str) -> bool:
        """Return whether jobs taken from a substation's queue are in hand, or left to it."""
        return substation in self._own_sessions or any(
            where == substation and each.is_live for each, where in self._handed.items()
        )

    def keeps_copy(self, substation: str) -> bool:
        """Return whether a copy from a substation's queue is kept."""
        return any(each.substation == substation for each in self._copies)

    def on_link_lost(self) -> None:
        """Forget all deliveries: RabbitMQ has requeued them, and may have been away."""
        self._handed.clear()
        self._own_sessions.clear()
        self._copies.clear()
        self._turns.clear()
        self._interrupted = True

    def pop_settled(self) -> list[str]:
        """Remove the jobs that were acknowledged since; return where each had waited."""
        settled = [each for each in self._handed if not each.is_live]
        return [self._handed.pop(each) for each in settled]

    def stop(self) -> list[Delivery]:
        """Stop reclaiming; remove and return the sessions that were left to their substations."""
        self._turns.clear()
        sessions = [each for deliveries in self._own_sessions.values() for each in deliveries]
        self._own_sessions.clear()
        return sessions

    def review(self, now: float) -> Review:
        """Look at all substations, once in each interval, and begin with the queues that are due.

        A long queue whose jobs are slow to find capacity must not be first in each interval.
        """
        if now - self._reviewed_at < INTERVAL_SECONDS:
            return Review([], [])
        self._reviewed_at = now
        if self._interrupted:
            self._interrupted = False
            self._detector.begin_grace(now)
        reachable = self._tracker.readable(now)
        states = {name: self._queues.state(name) for name in reachable}
        looks = {
            name: Look(reachable[name], None if state is None else state.consumers)
            for name, state in states.items()
        }
        due = self._due = self._detector.observe(looks, now)
        empty = {name for name, state in states.items() if state is not None and not state.ready}
        found = self._review_sessions(due)
        for name in [each for each in self._taken if each not in due or each in empty]:
            found.commands.extend(self._finish(name))
        waiting = due.keys() - empty
        self._turns = deque(sorted(waiting, key=lambda name: (name <= self._last, name)))
        self._in_turn = 0
        if not waiting:
            self._problem = ""
        return found

    def advance(self, now: float) -> TakeFromQueue | None:
        """Choose from which queue the next job is taken, in turn; return None if none is, now."""
        if self._in_turn >= MAX_IN_HAND:
            self._turns.rotate(-1)
            self._in_turn = 0
        while self._turns and not self.is_full:
            name = self._turns[0]
            own_sessions = len(self._own_sessions.get(name, ()))
            if own_sessions < MAX_IN_HAND and self._tracker.another(name, now):
                self._last = name
                self._in_turn += 1
                return TakeFromQueue(name)
            self.end_turn()
        return None

    def end_turn(self) -> None:
        """Leave the first queue alone until the next review."""
        if self._turns:
            self._turns.popleft()
        self._in_turn = 0

    def on_none_taken(self, substation: str, *, empty: bool, problem: str) -> list[Command]:
        """Handle that no job was taken: the queue is empty, or RabbitMQ is away."""
        self.end_turn()
        commands = self._finish(substation) if empty else []
        if problem:
            self._turns.clear()
            if problem != self._problem:
                commands.append(Warn(f"no jobs are reclaimed: {problem}"))
        self._problem = problem
        return commands

    def has_ended(self, delivery: Delivery) -> bool:
        """Return whether a job has ended since its last replay, and since it was requested."""
        job, replays = delivery.id or "", parking.replays(delivery.headers)
        # the body is decoded only for the few jobs that may have ended
        return any(
            ended(job, replays, -inf) and ended(job, replays, _asked_at(delivery.body))
            for ended in (self._index.ended, self._open_jobs.has_ended)
        )

    def is_own(self, substation: str, delivery: Delivery) -> bool:
        """Return whether a job is in progress at a substation, which may be alive.

        A session may last longer than its newest events are remembered.
        """
        evacuation, job = self._due.get(substation), delivery.id or ""
        return (
            evacuation is not None
            and evacuation.alive
            and substation in (self._index.charging_at(job), self._open_jobs.charging_at(job))
        )

    def leave_session(self, substation: str, delivery: Delivery) -> None:
        """Keep the delivery of a session that is left to its substation."""
        self._own_sessions.setdefault(substation, []).append(delivery)

    def keep_copy(self, copy: Copy) -> None:
        """Keep a second copy of a job in hand."""
        self._copies.append(copy)

    def pop_copies(self, wanted: Callable[[Copy], bool]) -> list[Copy]:
        """Remove and return the copies that are wanted."""
        found = [each for each in self._copies if wanted(each)]
        self._copies = [each for each in self._copies if not wanted(each)]
        return found

    def hand_over(self, substation: str, delivery: Delivery) -> list[Command]:
        """Record that a job is in hand, until it is acknowledged."""
        self._handed[delivery] = substation
        evacuation, taken = self._due.get(substation), self._taken.get(substation, 0)
        self._taken[substation] = taken + 1
        if evacuation is None or taken:
            return []
        return [Warn(f"reclaiming the jobs that wait for {substation}: {evacuation.why}")]

    def forget(self, delivery: Delivery) -> None:
        """Forget a job that was handed over, and goes back to its queue."""
        self._handed.pop(delivery, None)

    def _review_sessions(self, due: Mapping[str, Evacuation]) -> Review:
        """Return held sessions that have ended; requeue those that need not be held now."""
        found = Review([], [])
        held, self._own_sessions = self._own_sessions, {}
        for name, deliveries in held.items():
            for each in deliveries:
                if self.has_ended(each):
                    found.ended.append(each)
                elif name in due and self.is_own(name, each):
                    self._own_sessions.setdefault(name, []).append(each)
                else:
                    found.commands.append(Requeue(each))
        return found

    def _finish(self, name: str) -> list[Command]:
        taken = self._taken.pop(name, None)
        return [] if taken is None else [Warn(f"reclaimed {taken} jobs that waited for {name}")]


def _asked_at(body: bytes) -> float:
    """Return when a job was requested, in Unix seconds; minus infinity if malformed."""
    try:
        return messages.decode(body).requested_at
    except MalformedMessage:
        return -inf
