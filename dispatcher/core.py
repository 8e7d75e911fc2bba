"""The dispatcher's decisions: a state machine without I/O, as in h2.

``Core.handle`` takes an input (what happened) and returns commands (what to do). One request:

1. ``RequestDelivered``: it is recognised (``deliveries``), and waits (``Lifecycle.wait``).
2. ``Route``: the scheduler finds a substation with capacity. The decision goes to the event log
   (``WriteEvent``), and the job to the substation's queue (``PublishJob``): ``Lifecycle.assign``.
3. ``PublishResult``, ``EventWritten``: RabbitMQ has the job, and has answered for the decision; the
   request is acknowledged (``Ack``).

A request stays unacknowledged until then. If anything breaks before, RabbitMQ redelivers it, and
the job's id shows whether it was sent. A job reclaimed from a substation is handled in the same
way, and stays unacknowledged in that substation's queue meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import astuple

from dispatcher.booked_jobs import BookedJobs
from dispatcher.commands import Command, Fail, ReportError, Warn, WriteEvent
from dispatcher.deliveries import Deliveries
from dispatcher.failure_detector import FailureDetector
from dispatcher.inputs import (
    Begin,
    CancelledRequestMissing,
    ControlChanged,
    EventsRead,
    EventWritten,
    Input,
    JobCancelled,
    JobReclaimed,
    LogRead,
    Moment,
    OlderEventsRead,
    PublishResult,
    QueueObserved,
    QueuesDue,
    ReclaimDue,
    ReclaimedLost,
    RecordedJobMissing,
    RecordLost,
    RequestDelivered,
    RequestRepublished,
    RequestsLost,
    Route,
    ScrapeFailed,
    ScrapeResult,
    SilenceConfirmed,
    Stop,
    TargetsChanged,
    Tick,
)
from dispatcher.job_index import JobIndex
from dispatcher.jobs import Job, JobsInHand, JobState
from dispatcher.late_events import LateEvents
from dispatcher.lifecycle import Lifecycle
from dispatcher.log_events import LogEvents
from dispatcher.metrics import Metrics
from dispatcher.open_jobs import OpenJobs
from dispatcher.promises import Promises
from dispatcher.queues import Queues, Whereabouts
from dispatcher.reclaim import Reclaiming
from dispatcher.reclaimed_jobs import ReclaimedJobs
from dispatcher.requeue_overflow import RequeueOverflow
from dispatcher.silent_jobs import SilentJobs
from dispatcher.standby import Standby
from dispatcher.unsettled import Unsettled
from grid import kinds
from grid.messages import DEFAULT_POWER_KW
from scheduling import explain
from scheduling.candidates import CandidateTable
from scheduling.connectors import free_at
from scheduling.explain import Candidate
from scheduling.rules import Rules
from scheduling.scheduler import Scheduler, SchedulingFailed

if TYPE_CHECKING:
    from random import Random

    from grid.amqp import Delivery

FRESH_SECONDS: Final = 60.0  # of a cancellation: after that, no client waits for its answer


class Core:
    """Dispatches each input to the part that handles it, and routes the jobs that wait.

    Args:
        table: The substations as candidates.
        rules: Which waiting job is next, and which of the candidates gets it.
        standby: Knows whether this dispatcher is active.
        metrics: The dispatcher's counters.
        detector: Judges which substations' jobs are to be reclaimed.
        random: Source of chance for the policy and the ids of traces.
        prefetch: How many unacknowledged requests RabbitMQ delivers.
    """

    def __init__(
        self,
        table: CandidateTable,
        rules: Rules,
        standby: Standby,
        metrics: Metrics,
        detector: FailureDetector,
        *,
        random: Random,
        prefetch: int,
    ) -> None:
        tracker = self._tracker = table.tracker
        self.standby = standby
        index = self.index = JobIndex()
        open_jobs = self.open_jobs = OpenJobs()
        queues = self.queues = Queues(tracker)
        unsettled = self._unsettled = Unsettled()
        self.reclaiming = Reclaiming(detector, tracker, queues, index, open_jobs)
        self._table = table
        self._rules = rules
        self._metrics = metrics
        self._prefetch = prefetch
        life = self.life = Lifecycle(
            table,
            rules,
            index,
            open_jobs,
            queues=queues,
            unsettled=unsettled,
            metrics=metrics,
            random=random,
        )
        self._wait_queue = life.wait_queue
        self._scheduler: Scheduler[Job] = Scheduler(
            table, rules.policy, random, send_ahead=rules.send_ahead, reserve=rules.reserve
        )
        self._overflow = RequeueOverflow(life.wait_queue)
        self._log_events = LogEvents(tracker, index, open_jobs, standby, unsettled)
        deliveries = self._deliveries = Deliveries(
            life,
            tracker,
            LateEvents(tracker, queues),
            standby=standby,
            unsettled=unsettled,
            metrics=metrics,
        )
        reclaimed = self._reclaimed = ReclaimedJobs(
            life, deliveries, self.reclaiming, standby, metrics
        )
        promises = Promises(table, open_jobs, rules.charge_speed)
        self._booked = BookedJobs(
            life,
            deliveries,
            promises,
            scheduler=self._scheduler,
            tracker=tracker,
            standby=standby,
            metrics=metrics,
            prefetch=prefetch,
        )
        silent = self._silent = SilentJobs(life, deliveries, queues, standby, metrics)
        self._handlers: dict[type[Input], Callable[[Any], None]] = {
            # deliveries, and what becomes of them
            Begin: deliveries.on_begin,
            Stop: deliveries.on_stop,
            RequestDelivered: deliveries.on_delivered,
            LogRead: deliveries.on_log_read,
            Route: self._on_route,
            PublishResult: life.on_publish_result,
            EventWritten: self._on_event_written,
            RequestsLost: deliveries.on_lost,
            # jobs in the queues of substations
            ReclaimDue: reclaimed.on_due,
            JobReclaimed: reclaimed.on_taken,
            ReclaimedLost: reclaimed.on_lost,
            SilenceConfirmed: silent.on_confirmed,
            # clients and operators
            JobCancelled: self._on_job_cancelled,
            ControlChanged: self._on_control_changed,
            TargetsChanged: self._on_targets_changed,
            # what is read and observed
            EventsRead: self._on_events_read,
            OlderEventsRead: lambda each: open_jobs.absorb(each.earlier),
            ScrapeResult: lambda each: tracker.read(*astuple(each)),
            ScrapeFailed: self._on_scrape_failed,
            QueuesDue: self._on_queues_due,
            QueueObserved: self._on_queue_observed,
            # jobs that are in no queue
            RequestRepublished: lambda each: life.record_requeued(*astuple(each)),
            RecordedJobMissing: silent.on_recorded_missing,
            RecordLost: lambda each: open_jobs.drop(each.job),
            CancelledRequestMissing: lambda each: open_jobs.forget_undelivered(each.job),
            # time
            Tick: self._on_tick,
        }

    def handle(self, input: Input, at: Moment) -> list[Command]:
        """Apply an input, and return the commands to execute, in their order.

        An unforeseen error becomes a command (``Fail``), which ends the process once all others are
        executed. One that ends the handling of the input is the last; the others before it stay.
        """
        commands = self.life.begin_input(at)
        try:
            self._handlers[type(input)](input)
        except Exception as error:  # noqa: BLE001
            commands.append(Fail(error))
        return commands

    # queries

    @property
    def waiting(self) -> int:
        """Return how many jobs wait: those that have a turn, and those that begin later."""
        return self._wait_queue.held

    @property
    def waiting_for_capacity(self) -> int:
        """Return how many requests wait for a substation with capacity."""
        return len(self._wait_queue)

    @property
    def deciding(self) -> bool:
        """Return whether requests are routed: after ``Begin`` and before ``Stop``."""
        return self._deliveries.deciding

    @property
    def held(self) -> list[Delivery]:
        """Return the requests that wait for the event log, and whose link is still up."""
        return self._deliveries.held

    def in_hand(self, unsettled: int) -> JobsInHand:
        """Return the jobs in hand: waiting, being sent, or held until the log is read.

        ``unsettled`` is how many requests were delivered and are not acknowledged.
        """
        held, jobs = self.held, self.life.jobs
        tracked = len(held) + sum(job.is_request and job.is_ours for job in jobs.values())
        ids = jobs.keys() | {each.id for each in held if each.id is not None}
        return JobsInHand(ids, max(0, unsettled - tracked))

    def unsettled_since(self, position: int) -> int:
        """Return the offset from which the next dispatcher has to read the event log."""
        return self.life.unsettled_since(position)

    def is_active(self, now: float) -> bool:
        """Return whether this dispatcher is active, and has judged all its deliveries."""
        return self._deliveries.is_current and not self.standby.is_standby(now) and not self.held

    def whereabouts(
        self, substation: str, observed: QueueObserved | None, now: float
    ) -> Whereabouts | None:
        """Return where jobs are that were sent to a substation a while ago, and have not begun.

        None if more of its queue is to be observed for that.
        """
        holding = self.reclaiming.holds(substation)
        return self.queues.whereabouts(substation, observed, now, holding=holding)

    def kept_for(self, now: float) -> int | None:
        """Return the priority for which all free connectors are kept; None if none are."""
        reserve = self._rules.reserve
        if reserve is None or reserve.others_may_take(self._table, now) >= 1.0:
            return None
        return reserve.priority

    def candidates(self, now: float) -> list[Candidate]:
        """Return every substation as a decision would see it."""
        return explain.candidates(self._table, now)

    # jobs are routed

    def _on_route(self, _: Route) -> None:
        self.life.on_route()
        if self._deliveries.log_due:
            self._deliveries.read_log()
        if self._deliveries.deciding and self.life.at.certain:
            self._route()

    def _route(self) -> None:
        """Assign the waiting jobs for which there is capacity, and publish them."""
        life, at, queue = self.life, self.life.at, self._wait_queue
        if life.in_doubt:
            life.resend_in_doubt()
        if life.cancelling:
            life.cancel_waiting()
        settling = self._tracker.settling(at.now)
        if not settling:
            self._tracker.end_settling()
            if self.open_jobs.booked:
                self._booked.begin_due()
        for job in queue.pop_expired(at.clock):
            life.expire(job)
        if not settling:
            if queue.later or self.open_jobs.booked or self._table.bookings:
                queue.admit(at.clock)
                self._booked.plan()
            self._schedule()
        life.publish_placed()
        if queue.held:
            self._let_others_in(settling=settling)

    def _schedule(self) -> None:
        """Assign jobs; reject the one over which the code fails, and go on with the others."""
        life, at, queue = self.life, self.life.at, self._wait_queue
        if queue.is_due(at.clock) or (not self._scheduler.capacity_left and self._opened_early()):
            self._arrange()
        try:
            assignments = self._scheduler.schedule(queue, at.now)
        except SchedulingFailed as failed:
            life.reject(failed.job, failed)
            assignments = failed.assignments
        for each in assignments:
            try:
                life.assign(each.job, each.substation, each.explanation)
            except Exception as error:  # noqa: BLE001
                self._tracker.undo(each.substation)
                life.reject(each.job, error)

    def _opened_early(self) -> bool:
        """Return whether a connector is free that the turns suppose in use for a while yet.

        A vehicle has left before its time, or a substation has come back.
        """
        at = self.life.at
        return self._wait_queue.supposes_none_free(at.clock) and self._table.has_capacity(
            at.now, power_kw=DEFAULT_POWER_KW, seconds=0.0
        )

    def _arrange(self) -> None:
        """Arrange the waiting jobs anew, by when connectors are expected to be free.

        If an order of one's own fails over them, they keep their turns.
        """
        queue, at = self._wait_queue, self.life.at
        ends = self.open_jobs.session_ends()
        free = free_at(self._tracker, ends, len(queue), now=at.now, clock=at.clock)
        try:
            queue.arrange(free, at.clock)
        except Exception as error:  # noqa: BLE001
            self.life.do(ReportError("the order of the waiting jobs", error))

    def _let_others_in(self, *, settling: bool) -> None:
        """Requeue jobs that keep out others, which would fit or are of other tenants."""
        life = self.life
        if settling or self._scheduler.capacity_left:
            for job in self._overflow.pop_due(self._prefetch, life.at.now):
                life.requeue(job)
        flood = self._overflow.pop_flood(self._prefetch, life.at.now, self._undelivered)
        if not flood:
            return
        if self._overflow.flood_began:
            tenants = ", ".join(sorted({job.requirements.tenant or "none" for job in flood}))
            text = f"requests of tenant {tenants} go behind those of others: they fill the prefetch"
            life.do(Warn(text))
        self._metrics.flood_requeued.inc(len(flood))
        for job in flood:
            life.requeue(job)

    def _undelivered(self) -> Counter[str]:
        """Return how many jobs of each tenant wait, and are not delivered, as far as is known."""
        if not self.open_jobs.complete:
            return Counter()
        waiting = self.open_jobs.waiting_by_tenant()
        return waiting - Counter(job.requirements.tenant for job in self.life.jobs.values())

    def _on_event_written(self, input: EventWritten) -> None:
        event, job = input.command.event, input.command.job
        if not input.written:
            self._metrics.events_lost.inc()
            self._booked.on_not_written(event)
        if job is not None:
            self.life.on_event_written(job, event, written=input.written)

    # cancellations

    def _on_job_cancelled(self, input: JobCancelled) -> None:
        """End a job that waits; a substation that has one ends it itself.

        A job that is being sent to a substation is not stopped: that substation ends it. While
        nothing is decided, the cancellation is remembered for the next pass.
        """
        cancellation, life = input.cancellation, self.life
        life.cancellations.add(cancellation)
        job = life.jobs.get(cancellation.job)
        if job is not None and job.state is JobState.WAITING:
            life.cancel_soon()
        elif job is None and life.at.clock - cancellation.at < FRESH_SECONDS:
            self._cancel_undelivered(cancellation.job)

    def _cancel_undelivered(self, job: str) -> None:
        """Record at once that a job is cancelled which waits behind very many others.

        Its request is dropped when it is delivered. Only a dispatcher that decides and knows all
        decisions can tell that nobody has sent the job.
        """
        at, open_jobs = self.life.at, self.open_jobs
        knows_all = at.certain and open_jobs.complete and self._unsettled.is_own
        if not (self.deciding and knows_all and open_jobs.is_waiting(job)):
            return
        has_ended_here = self.index.sent_from_here(job) == ""
        if not has_ended_here and not any(each.id == job for each in self.held):
            open_jobs.cancel_undelivered(job)
            self.life.do(WriteEvent(kinds.cancelled(job, at.clock)))

    # what is read and observed

    def _on_events_read(self, input: EventsRead) -> None:
        changed, errors = self._log_events.apply(input, self.life.at)
        self.life.do_all(errors)
        if changed:
            self.life.route_soon()

    def _on_scrape_failed(self, input: ScrapeFailed) -> None:
        self._tracker.fail(input.substation, input.problem, self.life.at.now)

    def _on_queues_due(self, _: QueuesDue) -> None:
        if (look := self.queues.pop_look(self.life.publishing, self.life.at.now)) is not None:
            self.life.do(look)

    def _on_queue_observed(self, input: QueueObserved) -> None:
        name, reclaiming = input.look.substation, self.reclaiming
        holding = reclaiming.holds(name) or reclaiming.keeps_copy(name)
        self.life.do_all(self.queues.observe(input, self.life.at.now, holding=holding))

    def _on_targets_changed(self, input: TargetsChanged) -> None:
        for name in input.connectors.keys() - self._tracker.substations.keys():
            self.queues.declare(name, self.life.at.now)
        self._tracker.keep(input.connectors)
        self._table.labels = input.labels

    def _on_control_changed(self, input: ControlChanged) -> None:
        self._note_clock()
        self._tracker.control(input.substation, input.control)

    # time

    def _note_clock(self) -> None:
        """Tell the tracker what time it is: limits of power begin and end by the clock."""
        self._tracker.clock_offset = self.life.at.clock - self.life.at.now

    def _on_tick(self, input: Tick) -> None:
        at = self.life.at
        self._note_clock()
        answering = input.connected and at.certain
        self._unsettled.prune(at.now, answering=answering, clear=not self.held)
        self._silent.ask()
        self._deliveries.read_log()
        if not self.deciding or not at.certain:
            return
        self.life.park_impossible()
        for job in self._overflow.pop_held_too_long(at.now):
            self.life.requeue(job)
        self._on_route(Route())
