"""The way of a request: delivered, decided, sent, confirmed, acknowledged.

A request stays unacknowledged in ``charge.requests`` until RabbitMQ has confirmed its job on the
substation's queue, and the decision in the event log, or refused that for seconds. Whatever breaks
before, RabbitMQ delivers it again, and the job's id tells whether it had been sent. A job taken
back from a substation that does not take it goes the same way, and stays unacknowledged in that
substation's queue meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from time import perf_counter
from typing import Final

from dispatcher.doubt import ReadLog
from dispatcher.history import History
from dispatcher.intake import Intake
from dispatcher.jobs import Hands, Job
from dispatcher.open_jobs import OpenJobs
from dispatcher.parking import Parking
from dispatcher.progress import Progress
from dispatcher.requeue_overflow import RequeueOverflow
from dispatcher.sender import Sender
from dispatcher.telemetry import Metrics
from dispatcher.unsettled import Unsettled
from grid import kinds
from grid.amqp import Consumer, Delivery, Outcome, Publisher
from grid.event_log import EventWriter
from grid.events import Event, State
from grid.logs import tell
from grid.messages import ChargeRequest
from grid.trace import Chance, carried
from scheduling import explain
from scheduling.candidates import CandidateTable
from scheduling.explain import Candidate
from scheduling.impossible import impossible
from scheduling.policies import Policy
from scheduling.scheduler import Assignment, Scheduler, SchedulingFailed
from scheduling.wait_queue import WaitQueue

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.25  # between two looks at what time alone has changed
DEPARTED: Final = "its departure time passed while it waited"
SENT_AGAIN: Final = "sent again where it was sent before a dispatcher ended"
IN_DOUBT: Final = "sent again where it was sent when a link to RabbitMQ broke"
NOT_BEGUN: Final = "sent again where it was sent before and did not begin"


class Dispatcher:
    """Sends requests to substations. ``clock`` gives Unix seconds, ``now`` the tracker's seconds.

    ``requests`` is the link that delivers them, at most ``prefetch`` at once.
    ``read_log`` reads the event log as far as it is written: what comes again waits for that.
    ``read_all`` reads what is older as well: what a dispatcher published once more waits for that.
    ``position`` returns the offset up to which the event log was read,
    ``certain`` whether RabbitMQ has confirmed a moment ago that what it delivered is still
    this dispatcher's: else nothing is decided, since another may have it.
    ``progress`` is what the event log tells of single jobs. Nothing is decided before ``begin``.
    """

    def __init__(
        self,
        table: CandidateTable,
        policy: Policy,
        publisher: Publisher,
        events: EventWriter,
        progress: Progress,
        *,
        requests: Consumer,
        prefetch: int,
        metrics: Metrics,
        random: Random,
        chance: Chance,
        clock: Callable[[], float],
        now: Callable[[], float],
        on_missing_queue: Callable[[str], None],
        on_delivery: Callable[[], None] = lambda: None,
        on_sent: Callable[[Job], None] = lambda _: None,
        read_log: ReadLog | None = None,
        read_all: ReadLog | None = None,
        certain: Callable[[], bool] = lambda: True,
        position: Callable[[], int] = lambda: 0,
        open_jobs: OpenJobs,
        send_ahead: bool = True,
    ) -> None:
        self._requests = requests
        self._prefetch = prefetch
        self._tracker = table.tracker
        self._table = table
        self._policy = policy
        self._scheduler: Scheduler[Job] = Scheduler(table, policy, random, send_ahead=send_ahead)
        self._publisher = publisher
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._on_missing_queue = on_missing_queue
        self._tell_sent = on_sent
        self._certain = certain
        self._position = position
        self._open_jobs = open_jobs
        self._chance = chance
        self._tell_delivered = on_delivery
        self._unsettled = Unsettled()
        self._unsure: list[tuple[Job, str]] = []  # jobs that may be at a substation, and at which
        self._jobs: dict[str, Job] = {}
        self._wait_queue: WaitQueue[Job] = WaitQueue()
        self._route_due = False
        self._stopping = False
        self._history = History(table.tracker, progress, now)
        self._sent = self._history.sent
        self._parking = Parking(publisher, events, metrics, clock)
        self._sender = Sender(
            publisher,
            events,
            metrics,
            clock=clock,
            sent=self._on_sent,
            refused=self._on_refused,
            certain=certain,
            position=position,
        )
        self.intake = Intake(
            self._jobs,
            self._history,
            self._parking,
            events,
            metrics,
            chance=chance,
            now=now,
            join=self._join,
            send_again=partial(self._send_again, reason=SENT_AGAIN),
            on_delivery=self._on_delivery,
            read_log=read_log,
            read_all=read_all,
            open_jobs=open_jobs,
        )
        self._overflow = RequeueOverflow(
            self._wait_queue, publisher, self._on_requeued, position, now
        )

    @property
    def waiting(self) -> int:
        """Return how many requests wait for capacity."""
        return len(self._wait_queue)

    @property
    def deciding(self) -> bool:
        """Return whether requests are routed: once it has begun, until it is to stop."""
        return self.intake.begun and not self._stopping

    def unsettled_since(self) -> int:
        """Return the offset of the event log from which on a successor has to read it."""
        in_hand = (job.decided_after for job in self._jobs.values())
        return self._unsettled.since(
            (each for each in in_hand if each is not None),
            self._position(),
            self._now(),
            answering=self._requests.connected and self._certain(),
            clear=not self.intake.held,
        )

    def inherit(self, offset: int, dispatcher: str = "") -> None:
        """Record from which offset on the decisions of a dispatcher may be unsettled."""
        self._unsettled.inherit(offset, dispatcher)

    def in_hand(self) -> Hands:
        """Return the jobs that are here: waiting, on their way, or held until the log is read."""
        held = self.intake.held
        tracked = len(held) + sum(job.is_request and job.is_ours for job in self._jobs.values())
        ids = self._jobs.keys() | {each.id for each in held if each.id is not None}
        return Hands(ids, max(0, self._requests.unsettled - tracked))

    def has_sent(self, job: str, substation: str) -> bool:
        """Return whether a job was last sent to a substation from here, as far as is remembered."""
        return self._sent.where(job) == substation

    def send_recorded(self, request: ChargeRequest, substation: str, replays: int) -> None:
        """Send a job once more where the event log has it, unless it is in hand."""
        if not self.deciding or request.id in self._jobs:
            return
        trace = carried({}, self._chance)
        job = Job(request, request.encode(), None, self._now(), trace, replays)
        job.attempt = 1
        self._jobs[job.id] = job
        self._send_again(job, substation, NOT_BEGUN)

    def record_requeued(self, job: str, substation: str, read_to: int) -> None:
        """Put on record that a job is in ``charge.requests`` again that had been sent elsewhere.

        The log was read up to the offset ``read_to`` when it was published. One that waited before
        needs no record.
        """
        self._open_jobs.requeue(job, substation, read_to)
        if substation and read_to <= self._position():  # else the log was made anew since
            event = kinds.requeued(job, self._clock(), substation, read_to)
            self._events.write(event, self._count_lost)

    def _count_lost(self, written: bool) -> None:  # noqa: FBT001
        self._metrics.events_lost.inc(not written)

    def sending(self, substation: str) -> int:
        """Return how many jobs published to a substation's queue are not confirmed yet."""
        return self._sender.under_way(substation)

    def candidates(self) -> list[Candidate]:
        """Return every substation as a decision would see it now."""
        return explain.candidates(self._table, self._now())

    def begin(self) -> None:
        """Decide from now on: what operators have set, and what was sent before, is known."""
        self.intake.begin()

    async def run(self) -> None:
        """Apply what time alone has changed, again and again, until the task is cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Apply what time alone has changed: departures, ramps, what was held for long."""
        if not self.deciding or not self._certain():
            return
        for job in self._wait_queue.pop_where(self._is_impossible):
            self._park(job)
        self._overflow.renew()
        self.route()

    def reclaim(self, substation: str, delivery: Delivery) -> bool:
        """Accept a job that waits at a substation in vain; return whether it is handled here."""
        return self.deciding and self.intake.reclaim(substation, delivery)

    def return_reclaimed(self) -> list[Delivery]:
        """Return what was taken back and waits, which is not this dispatcher's any more."""
        given = self._drop_waiting(lambda job: job.is_reclaimed)
        self._note_back(given)
        return [job.delivery for job in given if job.delivery is not None]

    def send_once_more(self, job: Job) -> None:
        """Send a job that was sent from here, and of which nothing was heard, to the same place."""
        if not self.deciding or job.id in self._jobs or self._sent.where(job.id) != job.substation:
            return
        job.delivery, job.sent = None, False
        job.once_more += 1
        self._jobs[job.id] = job
        self._send_again(job, job.substation, NOT_BEGUN)

    def on_requests_lost(self) -> None:
        """Drop the requests that wait: the link broke, and RabbitMQ delivers them again."""
        self.inherit(self.unsettled_since())
        self._drop_waiting(lambda job: job.is_request and not job.is_ours)

    def on_reclaim_link_lost(self) -> None:
        """Drop the jobs taken back that wait: the link broke, and they are in their queues."""
        self.inherit(self.unsettled_since())
        dropped = self._drop_waiting(lambda job: job.is_reclaimed and not job.is_ours)
        self._note_back(dropped)

    async def stop(self) -> None:
        """Decide nothing more, and wait a moment for RabbitMQ to confirm what was sent.

        All that it has confirmed by then is acknowledged as the link ends.
        """
        self._stopping = True
        self._requests.stop()
        await self._events.finish()

    def route(self) -> None:
        """Send every waiting request that some substation has room for."""
        self._route_due = False
        if not self.deciding or not self._certain():
            return
        self._settle_unsure()
        for job in self._wait_queue.pop_departed(self._clock()):
            self._expire(job)
        settling = self._tracker.settling(self._now())
        if not settling:
            self._tracker.end_settling()
            self._schedule()
        self._sender.flush()
        if settling or self._scheduler.capacity_left:
            self._overflow.requeue(self._prefetch)

    def _schedule(self) -> None:
        began = perf_counter()
        try:
            assignments = self._scheduler.schedule(self._wait_queue, self._now())
        except SchedulingFailed as failed:
            self._put_aside(failed.job)
            self._assign(failed.assignments)
            raise
        took = perf_counter() - began
        self._assign(assignments)
        for _ in assignments:
            self._metrics.decision_seconds.observe(took / len(assignments))

    def _assign(self, assignments: Iterable[Assignment[Job]]) -> None:
        """Put decisions on record, and their jobs among those to publish.

        One over which that fails is rejected, and the others go on before the error does.
        """
        failed: Exception | None = None
        for job, substation, explanation in assignments:
            try:
                self._sender.assign(job, substation, explanation)
            except Exception as error:  # noqa: BLE001
                self._tracker.undo(substation)
                self._put_aside(job)
                failed = error
        if failed is not None:
            raise failed

    def _on_delivery(self) -> None:
        self._unsettled.delivered(self._now())
        self._tell_delivered()

    def _route_soon(self) -> None:
        """Route what one turn of the loop has brought all at once."""
        if not self._route_due:
            self._route_due = True
            self._publisher.before_flush(self.route)

    def _join(self, job: Job) -> None:
        if self._certain() and self._impossible(job) is not None:
            self._park(job)
        else:
            self._wait_queue.add(job)
            self._route_soon()

    def _settle_unsure(self) -> None:
        """Send jobs that may be at a substation already to that one, where they are still ours."""
        unsure, self._unsure = self._unsure, []
        for job, substation in unsure:
            if job.is_ours:
                self._send_again(job, substation, IN_DOUBT)
            else:
                self._leave(job)  # RabbitMQ delivers it again

    def _drop_waiting(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Remove the waiting jobs that are unwanted, and return them."""
        dropped = self._wait_queue.pop_where(unwanted)
        for job in dropped:
            self._leave(job)
        return dropped

    def _note_back(self, jobs: list[Job]) -> None:
        """Record that jobs are where they were taken back from."""
        for job in jobs:
            self._sent.note(job.id, job.origin, job.assigned_at, job.replays)

    # what ends here

    def _put_aside(self, one: object) -> None:
        """Reject a request over which the code failed: it would end the next process as well."""
        if isinstance(one, Job) and one.delivery is not None:
            one.delivery.reject()

    def _is_impossible(self, job: Job) -> bool:
        try:
            return self._impossible(job) is not None
        except Exception:
            self._put_aside(job)
            raise

    def _impossible(self, job: Job) -> tuple[str, str] | None:
        return impossible(job.requirements, self._table, self._now())

    def _park(self, job: Job) -> None:
        kind, reason = self._impossible(job) or ("", "")
        self._leave(job)
        if job.delivery is not None:  # as that of every job that waits
            self._parking.park(job.delivery, job.id, kind, reason, headers=job.headers)

    def _expire(self, job: Job) -> None:
        """End a request whose vehicle has left; it is acknowledged once that is on record."""
        event = Event(
            State.EXPIRED, self._clock(), job=job.id, attempt=job.attempt, reason=DEPARTED
        )
        self._events.write(event, partial(self._on_expired, job))

    def _on_expired(self, job: Job, written: bool) -> None:  # noqa: FBT001
        if not written:
            self._metrics.events_lost.inc()
            if self._jobs.get(job.id) is job and job.is_ours:
                self._wait_queue.add(job)  # and its departure is past: it is tried again
            else:
                self._leave(job)  # RabbitMQ delivers it again
            return
        self._metrics.expired.inc()
        tell(log, job.id, job.trace, DEPARTED)
        self._leave(job)
        self._sent.note(job.id, "", self._clock(), job.replays)
        job.done()

    def _on_requeued(self, job: Job, outcome: Outcome) -> None:
        job.returning = False
        unique = self._jobs.get(job.id) is job  # no copy of it has come yet
        if outcome is not Outcome.CONFIRMED and unique and job.is_ours:
            self._wait_queue.add(job)
            return
        self._leave(job)
        if outcome is Outcome.CONFIRMED and job.is_ours:  # else it is where it was, too
            self.record_requeued(job.id, job.was_at, job.read_to)
        job.done()

    # what is sent

    def _send_again(self, job: Job, substation: str, reason: str) -> None:
        """Send a job where it may be already: a second copy there is known as one."""
        self._sender.assign(
            job, substation, {"policy": self._policy.name, "reason": reason, "candidates": []}
        )
        self._tracker.dispatch(substation, self._now(), job.requirements.power_kw)
        self._route_soon()

    def _leave(self, job: Job) -> None:
        """Forget a job in hand, unless another delivery of it has taken its place."""
        if self._jobs.get(job.id) is job:
            del self._jobs[job.id]

    def _on_sent(self, job: Job) -> None:
        self._leave(job)
        self._sent.note(job.id, job.substation, job.assigned_at, job.replays)
        tell(log, job.id, job.trace, f"sent to {job.substation}", substation=job.substation)
        if job.decided_after is not None:
            self._unsettled.acknowledged(job.decided_after, self._now())
        job.done()
        self._tell_sent(job)
        job.delivery = None  # it is remembered until it begins, and thousands of them are

    def _on_refused(self, job: Job, outcome: Outcome) -> None:
        """Let a job that a substation's queue did not take go elsewhere."""
        where, job.substation = job.substation, ""
        self._tracker.undo(where)
        if outcome is not Outcome.ABANDONED:
            problem = f"its queue does not take jobs: {outcome.value}"
            self._tracker.refuse(where, problem, self._now())
        if outcome is Outcome.UNROUTABLE:
            self._on_missing_queue(where)
        if job.delivery is None:
            self._leave(job)
            job.substation = where
            self._tell_sent(job)  # and it may be there all the same: nowhere else
        elif not job.is_ours:
            self._leave(job)  # RabbitMQ delivers it again
        elif outcome is Outcome.ABANDONED:
            self._unsure.append((job, where))
            self._route_soon()
        else:
            job.left = where
            self._wait_queue.add(job)
            self._route_soon()
