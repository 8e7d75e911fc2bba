"""The life of a request: a state machine without I/O, as in h2.

``Core.handle`` takes an input (what happened) and returns commands (what to do). One request:

1. ``RequestDelivered``: it is recognised (``recognition``), and waits (``WAITING``).
2. ``Route``: the scheduler finds a substation with capacity (``ASSIGNED``); the decision goes to
   the event log (``WriteEvent``), and the job to the substation's queue (``PublishJob``).
3. ``PublishResult``, ``EventWritten``: RabbitMQ has both; the request is acknowledged (``Ack``).

A request stays unacknowledged until then. If anything breaks before, RabbitMQ redelivers it, and
the job's id shows whether it was sent. A job reclaimed from a substation is handled in the same
way, and stays unacknowledged in that substation's queue meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import astuple

from dispatcher.commands import (
    Ack,
    Command,
    ConfirmSilence,
    Fail,
    LogJob,
    ParkMessage,
    PublishJob,
    ReadLog,
    Reject,
    Requeue,
    RequeueRequest,
    RouteSoon,
    Warn,
    WriteEvent,
)
from dispatcher.failure_detector import FailureDetector
from dispatcher.held import HeldRequests
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
from dispatcher.jobs import COPY_HEADER, RECLAIMED_HEADER, Job, JobsInHand, JobState
from dispatcher.log_events import LogEvents
from dispatcher.open_jobs import OpenJobs
from dispatcher.overdue import OverdueJobs
from dispatcher.promises import (
    GRANTED,
    MOST_SHARE,
    MOVED,
    REFUSED,
    RETRY_INTERVAL,
    WITHDRAWN,
    Promises,
    moved_from,
    promised,
    refusal,
    too_many,
)
from dispatcher.queues import Queues, Whereabouts
from dispatcher.reclaim import Reclaiming
from dispatcher.recognition import (
    Action,
    DropReason,
    Judgement,
    Recognition,
    Wait,
    reclaimed_from,
)
from dispatcher.requeue_overflow import RequeueOverflow
from dispatcher.standby import Standby
from dispatcher.unsettled import Unsettled
from grid import kinds, messages, parking
from grid.cancellations import Cancellations
from grid.errors import MalformedMessage
from grid.events import BOOKED, Event, State
from grid.kinds import Booking
from grid.messages import ChargeRequest
from grid.outcome import Outcome
from grid.trace import carried
from scheduling import explain
from scheduling.candidates import CandidateTable
from scheduling.connectors import free_at
from scheduling.explain import Candidate
from scheduling.order import requirements
from scheduling.reasons import reason_never
from scheduling.rules import Rules
from scheduling.scheduler import Scheduler, SchedulingFailed
from scheduling.wait_queue import WaitQueue

if TYPE_CHECKING:
    from random import Random

    from dispatcher.metrics import Metrics
    from grid.amqp import Delivery

FRESH_SECONDS: Final = 60.0  # of a cancellation: after that, no client waits for its answer
MALFORMED: Final = "malformed"
DEPARTED: Final = "its departure time passed while it waited"
SENT_AGAIN: Final = "sent again to the substation that may have the job already"
IN_DOUBT: Final = (
    "sent again to the same substation: the link broke before RabbitMQ confirmed the job"
)
ANSWERS_PER_PASS: Final = 25  # to jobs that ask for a start: each takes 6 ms at 1,000 substations
SILENCE_INTERVAL: Final = 1.0  # seconds between two questions about jobs that have not begun
NOT_BEGUN: Final = "sent again to the same substation: it did not begin there in time"


class Core:
    """The single writer of the jobs in hand, the job index and the load tracker.

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
        self.standby = standby
        self.index = JobIndex()
        self.open_jobs = OpenJobs()
        self.queues = Queues(table.tracker)
        self.reclaiming = Reclaiming(
            detector, table.tracker, self.queues, self.index, self.open_jobs
        )
        self._table = table
        self._tracker = table.tracker
        self._rules = rules
        self._metrics = metrics
        self._chance = random.getrandbits
        self._prefetch = prefetch
        self._recognition = Recognition(self.index, self.open_jobs, table.tracker)
        self._scheduler: Scheduler[Job] = Scheduler(
            table, rules.policy, random, send_ahead=rules.send_ahead, reserve=rules.reserve
        )
        self._wait_queue: WaitQueue[Job] = WaitQueue(rules.order, rules.weights, rules.charge_speed)
        self._jobs: dict[str, Job] = {}  # in hand, by id
        self._placed: list[Job] = []  # assigned, and published by the next Route
        self._publishing: Counter[str] = Counter()  # jobs without a confirm, by substation
        self._in_doubt: list[tuple[Job, str]] = []  # jobs that may be at a substation, and its name
        self._early = HeldRequests()  # delivered before Begin
        self._held = {Wait.NEW_EVENTS: HeldRequests(), Wait.ALL_EVENTS: HeldRequests()}
        self._overdue = OverdueJobs(self.index)
        self._asked_about: set[Job] = set()  # jobs whose silence is being confirmed
        self._ask_at = 0.0  # when the next question may be asked
        self._overflow = RequeueOverflow(self._wait_queue)
        self._cancellations = Cancellations()
        self._cancelling = False  # some that wait are cancelled
        self._promises = Promises(table, self.open_jobs, rules.charge_speed)
        self._untold: list[Event] = []  # promises that RabbitMQ did not take
        self._tell_at = 0.0  # when they may be written again
        self._unsettled = Unsettled()
        self._log_events = LogEvents(
            self._tracker, self.index, self.open_jobs, standby, self._unsettled
        )
        # at how many takeovers the log was, and is being, read up to its end
        self._terms_read = self._terms_reading = standby.terms
        self._begun = self._stopping = self._route_due = self._log_due = False
        self._at = Moment(0.0, 0.0, 0, certain=False)  # of the current input
        self._commands: list[Command] = []  # for the current input
        self._handlers: dict[type[Input], Callable[[Any], None]] = {
            Begin: self._on_begin,
            Stop: self._on_stop,
            RequestDelivered: self._on_request_delivered,
            JobReclaimed: self._on_job_reclaimed,
            ReclaimDue: self._on_reclaim_due,
            RequestsLost: self._on_requests_lost,
            ReclaimedLost: self._on_reclaimed_lost,
            LogRead: self._on_log_read,
            PublishResult: self._on_publish_result,
            EventWritten: self._on_event_written,
            EventsRead: self._on_events_read,
            OlderEventsRead: lambda each: self.open_jobs.absorb(each.earlier),
            ScrapeResult: lambda each: self._tracker.read(*astuple(each)),
            ScrapeFailed: self._on_scrape_failed,
            QueuesDue: self._on_queues_due,
            QueueObserved: self._on_queue_observed,
            TargetsChanged: self._on_targets_changed,
            ControlChanged: self._on_control_changed,
            JobCancelled: self._on_job_cancelled,
            SilenceConfirmed: self._on_silence_confirmed,
            RequestRepublished: lambda each: self._record_requeued(*astuple(each)),
            RecordedJobMissing: self._on_recorded_job_missing,
            RecordLost: lambda each: self.open_jobs.drop(each.job),
            CancelledRequestMissing: lambda each: self.open_jobs.forget_undelivered(each.job),
            Route: self._on_route,
            Tick: self._on_tick,
        }

    def handle(self, input: Input, at: Moment) -> list[Command]:
        """Apply an input, and return the commands to execute, in their order.

        An unforeseen error becomes the last command (``Fail``); the commands before it stay.
        """
        self._at = at
        try:
            self._handlers[type(input)](input)
        except Exception as error:  # noqa: BLE001
            self._do(Fail(error))
        commands, self._commands = self._commands, []
        return commands

    # queries

    @property
    def waiting(self) -> int:
        """Return how many requests are held: those with a turn, and those that begin later."""
        return self._wait_queue.held

    @property
    def waiting_for_capacity(self) -> int:
        """Return how many requests wait for a substation with capacity."""
        return len(self._wait_queue)

    @property
    def deciding(self) -> bool:
        """Return whether requests are routed: after ``Begin`` and before ``Stop``."""
        return self._begun and not self._stopping

    @property
    def held(self) -> list[Delivery]:
        """Return the requests that wait for the event log, and whose link is still up."""
        return [each for held in (self._early, *self._held.values()) for each in held.live]

    def in_hand(self, unsettled: int) -> JobsInHand:
        """Return the jobs in hand: waiting, being sent, or held until the log is read.

        ``unsettled`` is how many requests were delivered and are not acknowledged.
        """
        held = self.held
        tracked = len(held) + sum(job.is_request and job.is_ours for job in self._jobs.values())
        ids = self._jobs.keys() | {each.id for each in held if each.id is not None}
        return JobsInHand(ids, max(0, unsettled - tracked))

    def unsettled_since(self, position: int) -> int:
        """Return the offset from which the next dispatcher has to read the event log."""
        in_hand = (job.decided_after for job in self._jobs.values())
        return self._unsettled.since((each for each in in_hand if each is not None), position)

    def is_active(self, now: float) -> bool:
        """Return whether this dispatcher is active, and has judged all its deliveries."""
        return self._is_current and not self.standby.is_standby(now) and not self.held

    def whereabouts(
        self, substation: str, observed: QueueObserved | None, now: float
    ) -> Whereabouts | None:
        """Return where jobs are that were sent to a substation a while ago, and have not begun.

        None if more of its queue is to be observed for that.
        """
        holding = self.reclaiming.holds(substation)
        return self.queues.whereabouts(substation, observed, now, holding=holding)

    @property
    def _is_current(self) -> bool:
        """Return whether it decides, and the log is read up to its end since it took over."""
        return self.deciding and self._terms_read == self.standby.terms

    def kept_for(self, now: float) -> int | None:
        """Return the priority for which all free connectors are kept; None if none are."""
        reserve = self._rules.reserve
        if reserve is None or reserve.others_may_take(self._table, now) >= 1.0:
            return None
        return reserve.priority

    def candidates(self, now: float) -> list[Candidate]:
        """Return every substation as a decision would see it."""
        return explain.candidates(self._table, now)

    # 1. a request is delivered

    def _on_begin(self, _: Begin) -> None:
        self._begun = True
        self._tracker.settle(self._at.now)
        self._judge_held(self._early.release())

    def _on_stop(self, _: Stop) -> None:
        self._stopping = True
        self.standby.end()

    def _on_request_delivered(self, input: RequestDelivered) -> None:
        delivery = input.delivery
        self._unsettled.delivered(self._at.now)
        if self.standby.on_delivery():
            # another dispatcher may have sent jobs until now
            self._tracker.invalidate_baseline()
            self._tracker.settle(self._at.now)
            self._read_log_soon()
        if delivery.redelivered:
            self._metrics.redelivered.inc()
        if not self._begun:
            self._early.hold(delivery)
            return
        needs = self._recognition.needs(delivery, self._jobs.get(delivery.id or ""))
        if needs is Wait.NOTHING:
            self._judge(delivery)
        else:
            self._held[needs].hold(delivery)
            self._read_log_soon()

    def _on_log_read(self, input: LogRead) -> None:
        held = self._held[Wait.ALL_EVENTS if input.older else Wait.NEW_EVENTS]
        if not input.older:
            self._terms_read = self._terms_reading
        self._judge_held(held.release())
        if held.waits or self._terms_read != self.standby.terms:
            self._read_log_soon()

    def _read_log_soon(self) -> None:
        """Have the log read, once for all that this turn of the loop brings."""
        self._log_due = True
        self._route_soon()

    def _read_log(self) -> None:
        """Have the log read for the requests that are held, or since this dispatcher took over."""
        self._log_due = False
        for needs, held in self._held.items():
            older = needs is Wait.ALL_EVENTS
            has_taken_over = not older and self._terms_read != self.standby.terms
            if (count := held.begin_reading(anyway=has_taken_over)) is not None:
                self._do(ReadLog(older, requests=count))
                if not older:
                    self._terms_reading = self.standby.terms

    def _judge_held(self, deliveries: Iterable[Delivery]) -> None:
        """Judge deliveries that were held; reject those over which the code fails.

        Otherwise RabbitMQ would redeliver them to the next process, which would fail as well.
        """
        for delivery in deliveries:
            try:
                self._judge(delivery)
            except Exception as error:  # noqa: BLE001
                self._do(Reject(delivery))
                self._do(Fail(error))

    def _judge(self, delivery: Delivery) -> None:
        """Recognise a request as new or known, and act on it."""
        if (request := self._read(delivery)) is None:
            return
        in_hand, origin = self._jobs.get(request.id), reclaimed_from(delivery)
        if origin and self.index.was_reclaimed(request.id, origin):
            self.index.forget_sent(request.id)  # another dispatcher reclaimed it since
        judgement = self._recognition.request(request, delivery, in_hand, self._at.now)
        if judgement.action is not Action.DECIDE:
            self._log_judgement(request, delivery, judgement)
        if judgement.action is Action.DROP:
            self._drop(request, delivery)
        elif judgement.action is Action.ATTACH and in_hand is not None:
            in_hand.delivery, in_hand.early = delivery, False
        elif judgement.action is Action.RESEND:
            self._resend(self._new_job(request, delivery), judgement.substation, SENT_AGAIN)
        else:
            self.index.forget_sent(request.id)
            self._wait(self._new_job(request, delivery))

    def _drop(self, request: ChargeRequest, delivery: Delivery) -> None:
        """Acknowledge a request whose job is elsewhere, is in hand, or has ended."""
        if request.id in self.open_jobs.undelivered:
            self.open_jobs.forget_undelivered(request.id)
            self._metrics.cancelled.inc()
        elif not delivery.redelivered:
            self._metrics.duplicates.inc()
        replays = parking.replays(delivery.headers)
        if self.index.ended(request.id, replays, request.requested_at):
            end = self.index.end(request.id)
            if end is not None:  # who sent the request again may not know of it
                self._do(WriteEvent(end))
        self._do(Ack(delivery))

    def _log_judgement(
        self, request: ChargeRequest, delivery: Delivery, judgement: Judgement
    ) -> None:
        """Log what is done with a delivery that is not decided on, and why."""
        trace = carried(delivery.headers, self._chance)
        text = f"the request is {judgement.action.value}: {judgement.why}"
        self._do(LogJob(request.id, trace, text, judgement.substation))
        if judgement.dropped is not None:
            self._metrics.dropped.labels(judgement.dropped).inc()

    def _read(self, delivery: Delivery) -> ChargeRequest | None:
        """Return the request in a delivery; park a malformed one, and return None."""
        try:
            return messages.decode(delivery.body)
        except MalformedMessage as error:
            self._do(ParkMessage(delivery, delivery.id, MALFORMED, str(error)))
            return None

    def _new_job(self, request: ChargeRequest, delivery: Delivery, origin: str = "") -> Job:
        replays = parking.replays(delivery.headers)
        trace = carried(delivery.headers, self._chance)
        needs = requirements(request, self._rules.charge_speed)
        job = Job(request, needs, delivery.body, delivery, self._at.now, trace, replays, origin)
        self._jobs[request.id] = job
        return job

    def _wait(self, job: Job) -> None:
        """Add a job to the wait queue, unless it is impossible; end it soon if it is cancelled."""
        self._cancelling = self._cancelling or self._cancellations.apply_to(job.request)
        if self._at.certain and (why := self._impossible(job)) is not None:
            self._park(job, *why)
        else:
            self._wait_queue.add(job)
            self._route_soon()

    def _wait_again(self, job: Job) -> None:
        """Return a job to the wait queue; end it soon if it was cancelled meanwhile."""
        job.enter(JobState.WAITING)
        self._wait_queue.add(job)
        if self._cancellations.apply_to(job.request):
            self._cancelling = True
            self._route_soon()

    # 2. it is assigned

    def _on_route(self, _: Route) -> None:
        self._route_due = False
        if self._log_due:
            self._read_log()
        if self.deciding and self._at.certain:
            self._route()

    def _route(self) -> None:
        """Assign the waiting jobs for which there is capacity, and publish them."""
        if self._in_doubt:
            self._resend_in_doubt()
        if self._cancelling:
            self._cancel_waiting()
        settling = self._tracker.settling(self._at.now)
        if not settling:
            self._tracker.end_settling()
            if self.open_jobs.booked:
                self._begin_promised()
        for job in self._wait_queue.pop_expired(self._at.clock):
            self._expire(job)
        if not settling:
            if self._wait_queue.later or self.open_jobs.booked or self._table.bookings:
                self._plan_later()
            self._schedule()
        self._publish_placed()
        if self._wait_queue.held and (settling or self._scheduler.capacity_left):
            for job in self._overflow.pop_due(self._prefetch, self._at.now):
                self._requeue(job)
        self._let_others_in()

    def _let_others_in(self) -> None:
        """Requeue jobs of a tenant that floods, if those of others are behind them."""
        flood = self._overflow.pop_flood(self._prefetch, self._at.now, self._undelivered)
        if not flood:
            return
        if self._overflow.flood_began:
            tenants = ", ".join(sorted({job.requirements.tenant or "none" for job in flood}))
            text = f"requests of tenant {tenants} go behind those of others: they fill the prefetch"
            self._do(Warn(text))
        self._metrics.flood_requeued.inc(len(flood))
        for job in flood:
            self._requeue(job)

    def _undelivered(self) -> Counter[str]:
        """Return how many jobs of each tenant wait, and are not delivered, as far as is known."""
        if not self.open_jobs.complete:
            return Counter()
        waiting = self.open_jobs.waiting_by_tenant()
        return waiting - Counter(job.requirements.tenant for job in self._jobs.values())

    # starts that are promised

    @property
    def _may_promise(self) -> bool:
        """Return whether all promises are known, those of the dispatcher before as well."""
        return self._is_current and self.open_jobs.complete

    def _begin_promised(self) -> None:
        """Assign the jobs whose promised start has come: before they expire, if that is soon."""
        for booking in self._promises.due(self._at.clock):
            if (job := self._job_of(booking)) is not None:
                self._isolated(job, self._begin_booked, booking)

    def _plan_later(self) -> None:
        """Admit the jobs that may begin by now, move promises, and make new ones."""
        at, promises = self._at, self._promises
        self._wait_queue.admit(at.clock)
        if self._may_promise and not self.standby.is_standby(at.now):
            for booking, other in promises.pop_broken(self._jobs.values(), at):
                self._withdraw(booking) if other is None else self._move(booking, other)
            for told_at, booking in promises.pop_old(at.now):
                self._do(WriteEvent(kinds.booked(booking, told_at)))
        self._tell_again()
        promises.refresh(self._jobs.values(), at.clock)
        if self._may_promise:
            self._answer_all()

    def _answer_all(self) -> None:
        """Answer the jobs that ask for a start: so many, as nothing else is done meanwhile."""
        answered, is_booked = 0, self.open_jobs.is_booked
        for job in list(self._wait_queue.later):
            if not job.requirements.reserve or not job.is_ours or is_booked(job.id):
                continue
            if answered == ANSWERS_PER_PASS:
                self._route_soon()
                return
            self._isolated(job, self._promise)
            answered += is_booked(job.id) or job.state is not JobState.WAITING

    def _isolated(self, job: Job, act: Callable[..., None], *arguments: object) -> None:
        """Do something for a job; reject it if the code fails over it."""
        try:
            act(job, *arguments)
        except Exception as error:  # noqa: BLE001
            self.open_jobs.unbook(job.id)
            self._wait_queue.remove(job)
            self._reject(job, error)

    def _job_of(self, booking: Booking) -> Job | None:
        """Return the job whose promised start has come; None if it is not to begin now.

        Its request may still be behind others in ``charge.requests``: it is dropped later on. Then
        only the active dispatcher sends the job: all of them know of the promise.
        """
        request = booking.request
        replays = self.open_jobs.replays(request.id)
        if self.index.has_sent(request.id, replays):
            self.open_jobs.unbook(request.id)
            return None
        if (job := self._jobs.get(request.id)) is not None:
            return job if job.state is JobState.WAITING and job.is_ours else None
        if not self._is_current or self.standby.is_standby(self._at.now):
            return None
        needs, trace = self._promises.needs_of(booking), carried({}, self._chance)
        body = request.encode()
        return Job(request, needs, body, None, self._at.now, trace, replays, early=True)

    def _begin_booked(self, job: Job, booking: Booking) -> None:
        """Assign a job whose promised start has come, if there is capacity."""
        assignment = self._scheduler.begin_booked(job, booking.substation, self._at.now)
        if assignment is not None:
            self._wait_queue.remove(job)
            self._jobs[job.id] = job
            try:
                self._assign(job, assignment.substation, assignment.explanation)
            except Exception:
                self._tracker.undo(assignment.substation)
                raise

    def _promise(self, job: Job) -> None:
        """Promise a start to a job that asks for one, or refuse it.

        A job that was sent to a substation which does not have it any more was promised a start
        before: it is promised the earliest there is.
        """
        request, clock = job.request, self._at.clock
        if self.open_jobs.has_ended(job.id, job.replays, request.requested_at):
            # its start was promised, and it was over before its request came
            self._wait_queue.remove(job)
            self._metrics.dropped.labels(DropReason.ENDED).inc()
            self._do(LogJob(job.id, job.trace, "the request is dropped: its job has ended"))
            self._gone(job)
            return
        where = self.open_jobs.substation(job.id)
        if where and where != job.was_at:
            # its start was promised, and it was sent there before its request came
            self._wait_queue.remove(job)
            self._resend(job, where, SENT_AGAIN)
            return
        offer = self._promises.offer(job.requirements, self._jobs.values(), self._at)
        if offer is None:
            return  # no substation may be sent jobs, or is allowed so much power: that may change
        booking = Booking(request, offer.substation, offer.start, offer.end)
        before = where or self.open_jobs.was_promised_at(job.id) or self.index.assigned_to(job.id)
        if before and offer.start < job.requirements.expires_at:
            self._book(booking, moved_from(before))
        elif not offer.fits:
            self._refuse(job, booking, refusal(job.requirements, booking, clock))
        elif len(self.open_jobs.booked) >= (most := int(MOST_SHARE * self._prefetch)):
            self._refuse(job, None, too_many(most))
        else:
            self._book(booking)

    def _refuse(self, job: Job, nearest: Booking | None, reason: str) -> None:
        """End a job that gets no start."""
        clock = self._at.clock
        self._wait_queue.remove(job)
        self._metrics.promises.labels(REFUSED).inc()
        self._do(WriteEvent(kinds.refused(job.id, clock, nearest)))
        self._end(job, Event(State.EXPIRED, clock, job.id, attempt=job.attempt, reason=reason))

    def _withdraw(self, booking: Booking) -> None:
        """Tell a job that its start cannot be kept; it is promised another once there is one."""
        job, reason = booking.request.id, self._promises.broken(booking)
        self.open_jobs.withdraw(job, booking.substation)
        self._metrics.promises.labels(WITHDRAWN).inc()
        self._do(WriteEvent(kinds.withdrawn(booking, self._at.clock, reason)))
        self._do(LogJob(job, carried({}, self._chance), reason, booking.substation))

    def _move(self, booking: Booking, other: Booking) -> None:
        self._book(other, self._promises.broken(booking))

    def _tell_again(self) -> None:
        """Write the promises again that are not in the log, and still hold."""
        if self._at.now < self._tell_at:
            return
        self._tell_at = self._at.now + RETRY_INTERVAL
        untold, self._untold = self._untold, []
        for event in untold:
            if self.open_jobs.booked_at(event.job) == event.at:
                self._do(WriteEvent(event))

    def _book(self, booking: Booking, reason: str = "") -> None:
        self._promises.book(booking, self._at.clock)
        self._metrics.promises.labels(MOVED if reason else GRANTED).inc()
        self._do(WriteEvent(kinds.booked(booking, self._at.clock, reason)))
        job = self._jobs.get(booking.request.id)
        trace = carried({}, self._chance) if job is None else job.trace
        text = f"{promised(booking)}{': ' if reason else ''}{reason}"
        self._do(LogJob(booking.request.id, trace, text, booking.substation))

    def _arrange(self) -> None:
        """Arrange the waiting jobs anew, by when connectors are expected to be free."""
        queue, at = self._wait_queue, self._at
        ends = self.open_jobs.session_ends()
        free = free_at(self._tracker, ends, len(queue), now=at.now, clock=at.clock)
        queue.arrange(free, at.clock)

    def _schedule(self) -> None:
        """Assign jobs; reject the one over which the code fails, and go on with the others."""
        if self._wait_queue.is_due(self._at.clock):
            self._arrange()
        try:
            assignments = self._scheduler.schedule(self._wait_queue, self._at.now)
        except SchedulingFailed as failed:
            self._reject(failed.job, failed)
            assignments = failed.assignments
        for each in assignments:
            try:
                self._assign(each.job, each.substation, each.explanation)
            except Exception as error:  # noqa: BLE001
                self._tracker.undo(each.substation)
                self._reject(each.job, error)

    def _assign(self, job: Job, substation: str, decision: Any) -> None:  # noqa: ANN401
        """Record a decision, and add the job to those that ``Route`` publishes."""
        at = self._at
        event = kinds.assigned(
            job.id,
            at.clock,
            substation,
            job.attempt + 1,
            requested_at=job.request.requested_at,
            replays=job.replays,
            decision=decision,
        )
        job.enter(JobState.ASSIGNED)
        job.substation, job.assigned_at, job.confirmed = substation, at.clock, False
        job.attempt += 1
        job.unrecorded += 1
        # the position starts again at 0 after the event log was deleted and declared again
        before = at.position if job.decided_after is None else job.decided_after
        job.decided_after = min(at.position, before)
        self._publishing[substation] += 1
        self._placed.append(job)
        self._do(WriteEvent(event, job))

    def _resend(self, job: Job, substation: str, reason: str) -> None:
        """Send a job to the substation that may have it, and recognises a second copy."""
        decision = {"policy": self._rules.policy.name, "reason": reason, "candidates": []}
        self._assign(job, substation, decision)
        self._tracker.dispatch(substation, self._at.now, job.requirements.power_kw)
        self._route_soon()

    def _resend_in_doubt(self) -> None:
        """Send jobs in doubt to the same substation again, if their deliveries are live."""
        in_doubt, self._in_doubt = self._in_doubt, []
        for job, substation in in_doubt:
            if job.is_ours:
                self._resend(job, substation, IN_DOUBT)
            else:
                self._forget_job(job)  # RabbitMQ redelivers it

    def _publish_placed(self) -> None:
        placed, self._placed = self._placed, []
        for job in placed:
            command = PublishJob(job, job.substation)
            if job.is_ours:
                self._do(command)
            else:  # its delivery was lost since it was assigned
                self._on_job_answer(command, Outcome.ABANDONED)

    # 3. RabbitMQ has it

    def _on_publish_result(self, input: PublishResult) -> None:
        command = input.command
        if isinstance(command, PublishJob):
            self._on_job_answer(command, input.outcome)
        else:
            self._on_requeued(command.job, input.outcome)

    def _on_job_answer(self, command: PublishJob, outcome: Outcome) -> None:
        job, substation = command.job, command.substation
        self._publishing[substation] -= 1
        if outcome is Outcome.CONFIRMED:
            job.confirmed = True
            self._metrics.sent_to(substation).inc()
            waited = max(0, self._at.clock - job.request.waits_from)
            self._metrics.wait_seconds.observe(waited, job.trace.exemplar)
            self._close(job)
            return
        if outcome is not Outcome.ABANDONED:
            self._metrics.refused.labels(substation).inc()
        self._on_not_confirmed(job, outcome)

    def _on_event_written(self, input: EventWritten) -> None:
        event, job, written = input.command.event, input.command.job, input.written
        if not written:
            self._metrics.events_lost.inc()
            if event.kind == BOOKED:
                self._untold.append(event)
        if job is None:
            return
        if job.state is JobState.ENDING and event.kind != State.ASSIGNED:
            self._on_ended(job, event, written=written)
        else:
            job.unrecorded -= 1
            self._close(job)

    def _close(self, job: Job) -> None:
        """Acknowledge a job once it is confirmed, and its decisions are confirmed or failed."""
        if not job.confirmed or job.unrecorded:
            return
        self.index.note_sent(job.id, job.substation, job.assigned_at, job.replays)
        text = f"sent to {job.substation}"
        self._do(LogJob(job.id, job.trace, text, job.substation, job.since))
        if job.decided_after is not None:
            self._unsettled.acknowledged(job.decided_after, self._at.now)
        self._gone(job)
        self._await_begin(job)

    def _await_begin(self, job: Job) -> None:
        """Watch a job until it begins; its decision may be read later, or never."""
        job.delivery, job.early = None, False
        self._overdue.add(job, self._at.now)
        seconds = job.requirements.seconds
        ends_at = job.assigned_at + seconds if seconds else 0.0
        self.open_jobs.assign(
            job.id,
            job.substation,
            job.replays,
            job.assigned_at,
            ends_at,
            power_kw=job.requirements.power_kw,
        )

    def _on_not_confirmed(self, job: Job, outcome: Outcome) -> None:
        """Handle a job that its queue did not take: it waits again, is in doubt, or is forgotten.

        A job that was sent again, without a delivery, is watched once more.
        """
        where = job.substation
        self._tracker.undo(where)
        if outcome is not Outcome.ABANDONED:
            problem = f"its queue does not take jobs: {outcome.value}"
            self._tracker.refuse(where, problem, self._at.now)
        if outcome is Outcome.UNROUTABLE:
            self.queues.declare(where)
        if job.delivery is None and not (job.early and outcome is not Outcome.ABANDONED):
            self._forget_job(job)
            self._await_begin(job)  # it may be there all the same, so it goes nowhere else
        elif not job.is_ours:
            self._forget_job(job)  # RabbitMQ redelivers it
        elif outcome is Outcome.ABANDONED:
            job.substation = ""
            self._in_doubt.append((job, where))
            self._route_soon()
        else:
            job.substation, job.left = "", where
            self._wait_again(job)
            self._route_soon()

    # what ends otherwise

    def _impossible(self, job: Job) -> tuple[str, str] | None:
        """Return why no substation can ever take a job, in a word and in full; None if one may."""
        allowed, power_kw = job.requirements.allowed, job.requirements.power_kw
        largest_kw = self._table.largest_rating(allowed, self._at.now)
        return reason_never(allowed, power_kw, self._tracker.substations.keys(), largest_kw)

    def _park_impossible(self) -> None:
        """Park the waiting jobs that no substation can ever take.

        A job over which the code fails is rejected.
        """
        found: dict[Job, tuple[str, str] | Exception] = {}
        for job in [*self._wait_queue, *self._wait_queue.later]:
            try:
                why: tuple[str, str] | Exception | None = self._impossible(job)
            except Exception as error:  # noqa: BLE001
                why = error
            if why is not None:
                found[job] = why
        for job in self._wait_queue.pop_where(found.__contains__) if found else ():
            if isinstance(why := found[job], Exception):
                self._reject(job, why)
            else:
                self._park(job, *why)

    def _park(self, job: Job, kind: str, reason: str) -> None:
        self._forget_job(job)
        self.open_jobs.unbook(job.id)
        if job.delivery is not None:  # waiting jobs always have one
            self._do(ParkMessage(job.delivery, job.id, kind, reason, job.headers))

    def _reject(self, job: Job, error: Exception) -> None:
        """Reject a request over which the code failed: the next process would fail as well."""
        if job.state is not JobState.GONE:  # it may be, where that is what failed
            self._forget_job(job)
        if job.delivery is not None:
            self._do(Reject(job.delivery))
        self._do(Fail(error))

    def _expire(self, job: Job) -> None:
        """End a request whose vehicle has left, or that waited for longer than its client wants."""
        at, reason = self._at.clock, kinds.expiry_reason(job.request, DEPARTED)
        self._end(job, Event(State.EXPIRED, at, job.id, attempt=job.attempt, reason=reason))

    def _cancel(self, job: Job) -> None:
        """End a request that its client has cancelled."""
        self.open_jobs.forget_undelivered(job.id)  # if the first record of it was lost
        self._end(job, kinds.cancelled(job.id, self._at.clock, job.attempt))

    def _end(self, job: Job, event: Event) -> None:
        """End a job by an event; its delivery is acknowledged once that is recorded."""
        job.enter(JobState.ENDING)
        self.open_jobs.unbook(job.id)
        self._do(WriteEvent(event, job))

    def _on_ended(self, job: Job, event: Event, *, written: bool) -> None:
        if written:
            expired = event.kind == State.EXPIRED
            (self._metrics.expired if expired else self._metrics.cancelled).inc()
            self._do(LogJob(job.id, job.trace, event.reason, since=job.since))
            self.index.note_sent(job.id, "", self._at.clock, job.replays)
            self._gone(job)
        elif self._jobs.get(job.id) is job and job.is_ours:
            self._wait_again(job)  # if it may wait no longer, Route expires it again
        else:
            self._forget_job(job)  # RabbitMQ redelivers it

    def _requeue(self, job: Job) -> None:
        """Publish a request again, behind all others, before its delivery is acknowledged."""
        job.enter(JobState.REQUEUING)
        job.read_to = self._at.position
        origin = {RECLAIMED_HEADER: job.was_at} if job.was_at else {}
        self._do(RequeueRequest(job, {**job.headers, COPY_HEADER: True, **origin}))

    def _on_requeued(self, job: Job, outcome: Outcome) -> None:
        unique = self._jobs.get(job.id) is job  # no copy of it was delivered yet
        if outcome is not Outcome.CONFIRMED and unique and job.is_ours:
            self._wait_again(job)
            return
        if outcome is Outcome.CONFIRMED and job.is_ours:  # else RabbitMQ has the original as well
            self._record_requeued(job.id, job.was_at, job.read_to)
        self._gone(job)

    def _record_requeued(self, job: str, substation: str, read_to: int) -> None:
        """Record that a job that was sent to a substation is in ``charge.requests`` again.

        A job that waited before needs no record.
        """
        self.open_jobs.requeue(job, substation, read_to)
        if substation and read_to <= self._at.position:  # else the log was declared again since
            self._do(WriteEvent(kinds.requeued(job, self._at.clock, substation, read_to)))

    def _gone(self, job: Job) -> None:
        """Acknowledge a job, and forget it."""
        self._forget_job(job)
        if job.delivery is not None:
            self._do(Ack(job.delivery))

    def _forget_job(self, job: Job) -> None:
        """Forget a job in hand, unless another delivery of it has taken its place."""
        job.enter(JobState.GONE)
        if self._jobs.get(job.id) is job:
            del self._jobs[job.id]

    # links, and jobs reclaimed from substations

    def _on_reclaim_due(self, input: ReclaimDue) -> None:
        """Ask for the next job to reclaim, if this dispatcher is active."""
        for substation in self.reclaiming.pop_settled():
            self._metrics.reclaimed.labels(substation).inc()
        if not input.is_fed or self.standby.is_standby(self._at.now):
            for delivery in [*self.reclaiming.stop(), *self._forget_waiting_reclaimed()]:
                self.reclaiming.forget(delivery)
                self._do(Requeue(delivery))
            return
        ended, commands = self.reclaiming.review(self._at.now)
        for delivery in ended:
            self._drop_ended(delivery)
        self._commands.extend(commands)
        if self._is_current and self.open_jobs.complete:
            take = self.reclaiming.advance(self._at.now)
            if take is not None:
                self._do(take)

    def _on_job_reclaimed(self, input: JobReclaimed) -> None:
        """Acknowledge, hold or handle a job; reject the one over which the code fails."""
        substation, delivery, problem = input.substation, input.delivery, input.problem
        if delivery is None or not delivery.is_live:  # else the link broke just then
            empty = delivery is None and not problem
            self._commands.extend(
                self.reclaiming.on_none_taken(substation, empty=empty, problem=problem)
            )
            return
        try:
            self._reclaim(substation, delivery)
        except Exception:
            self._do(Reject(delivery))
            raise

    def _reclaim(self, substation: str, delivery: Delivery) -> None:
        reclaiming = self.reclaiming
        if reclaiming.has_ended(delivery):
            self._drop_ended(delivery)
        elif reclaiming.is_own(substation, delivery):
            reclaiming.leave_session(substation, delivery)
        elif self._judge_reclaimed(substation, delivery):
            self._commands.extend(reclaiming.hand_over(substation, delivery))
        else:
            self._do(Requeue(delivery))
            reclaiming.end_turn()

    def _drop_ended(self, delivery: Delivery) -> None:
        """Acknowledge a job from a substation's queue whose session has ended there."""
        text = "its message in the queue of its substation is dropped: its session has ended"
        self._do(LogJob(delivery.id or "", carried(delivery.headers, self._chance), text))
        self._metrics.dropped.labels(DropReason.ENDED).inc()
        self._do(Ack(delivery))

    def _judge_reclaimed(self, substation: str, delivery: Delivery) -> bool:
        """Handle a job from a substation's queue; return False if it is to stay there.

        If the job was sent elsewhere since, or is in hand, this copy is acknowledged. If it is
        being sent to that same substation, this copy stays in its queue.
        """
        if not self.deciding:
            return False
        if (request := self._read(delivery)) is None:
            return True
        in_hand = self._jobs.get(request.id)
        judgement = self._recognition.reclaimed(request, substation, in_hand, self._at.now)
        if judgement.action is not Action.DECIDE:
            self._log_judgement(request, delivery, judgement)
        if judgement.action is Action.LEAVE:
            return False
        if judgement.action is Action.DROP:
            self._do(Ack(delivery))
        elif judgement.action is Action.ATTACH and in_hand is not None:
            in_hand.delivery = delivery
        else:
            self.index.forget_sent(request.id)
            self._tracker.invalidate_baseline(substation)
            job = self._new_job(request, delivery, substation)
            job.attempt = 1
            if judgement.action is Action.RESEND:
                self._resend(job, judgement.substation, SENT_AGAIN)
            else:
                self._wait(job)
        return True

    def _forget_waiting_reclaimed(self) -> list[Delivery]:
        """Forget the reclaimed jobs that are not in flight yet, and return their deliveries.

        Another dispatcher that is active cannot know of them, and would find them missing.
        """
        jobs = self._forget_waiting(lambda job: job.is_reclaimed)
        for job in jobs:
            self._note_back(job)
        return [job.delivery for job in jobs if job.delivery is not None]

    def _on_requests_lost(self, _: RequestsLost) -> None:
        self.open_jobs.forget_all_undelivered()
        self._unsettled.inherit(self.unsettled_since(self._at.position), "")
        # one whose request did not come yet may be delivered to another dispatcher as well
        self._forget_waiting(lambda job: job.early or (job.is_request and not job.is_ours))

    def _on_reclaimed_lost(self, _: ReclaimedLost) -> None:
        self.reclaiming.on_link_lost()
        self._unsettled.inherit(self.unsettled_since(self._at.position), "")
        for job in self._forget_waiting(lambda job: job.is_reclaimed and not job.is_ours):
            self._note_back(job)

    def _forget_waiting(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Remove the unwanted jobs from the wait queue, and return them."""
        dropped = self._wait_queue.pop_where(unwanted)
        for job in dropped:
            self._forget_job(job)
        return dropped

    def _note_back(self, job: Job) -> None:
        """Record that a job is in the queue again from which it was reclaimed."""
        self.index.note_sent(job.id, job.origin, job.assigned_at, job.replays)

    # cancellations

    def _on_job_cancelled(self, input: JobCancelled) -> None:
        """End a job that waits; a substation that has one ends it itself.

        A job that is being sent to a substation is not stopped: that substation ends it. While
        nothing is decided, the cancellation is remembered for the next pass.
        """
        cancellation = input.cancellation
        self._cancellations.add(cancellation)
        job = self._jobs.get(cancellation.job)
        if job is not None and job.state is JobState.WAITING:
            self._cancelling = True
            self._route_soon()
        elif job is None and self._at.clock - cancellation.at < FRESH_SECONDS:
            self._cancel_undelivered(cancellation.job)

    def _cancel_waiting(self) -> None:
        """End the waiting jobs that are cancelled."""
        self._cancelling = False
        for job in self._wait_queue.pop_where(
            lambda job: self._cancellations.apply_to(job.request)
        ):
            self._cancel(job)

    def _cancel_undelivered(self, job: str) -> None:
        """Record at once that a job is cancelled which waits behind very many others.

        Its request is dropped when it is delivered. Only a dispatcher that decides and knows all
        decisions can tell that nobody has sent the job.
        """
        knows_all = self._at.certain and self.open_jobs.complete and self._unsettled.is_own
        if not (self.deciding and knows_all and self.open_jobs.is_waiting(job)):
            return
        has_ended_here = self.index.sent_from_here(job) == ""
        if not has_ended_here and not any(each.id == job for each in self.held):
            self.open_jobs.cancel_undelivered(job)
            self._do(WriteEvent(kinds.cancelled(job, self._at.clock)))

    # jobs that have not begun

    def _ask_about_overdue(self) -> None:
        """Ask about the jobs that should have begun, once the last question is answered."""
        if self._asked_about or self._at.now < self._ask_at:
            return
        if overdue := self._overdue.pop(self._at.now):
            self._asked_about = set(overdue)
            self._do(ConfirmSilence(overdue))

    def _on_silence_confirmed(self, input: SilenceConfirmed) -> None:
        self._asked_about.difference_update(input.jobs)
        self._ask_at = self._at.now + SILENCE_INTERVAL
        now, resent = self._at.now, 0
        takes_jobs = self.queues.takes_jobs(input.substation, input.queue, now)
        overdue = takes_jobs and not self.standby.is_standby(now)
        for job in self._overdue.silent(input.jobs):
            if not overdue:
                self._overdue.add(job, now)
            elif (
                self.deciding
                and job.id not in self._jobs
                and self.index.sent_from_here(job.id) == job.substation
            ):
                job.resent += 1
                self._jobs[job.id] = job
                self._resend(job, job.substation, NOT_BEGUN)
                resent += 1
        if resent:
            text = f"{resent} jobs are sent to {input.substation} once more: none of them began"
            self._do(Warn(text))

    def _on_recorded_job_missing(self, input: RecordedJobMissing) -> None:
        request, substation = input.request, input.substation
        if not self.deciding or request.id in self._jobs:
            return
        trace = carried({}, self._chance)
        needs = requirements(request, self._rules.charge_speed)
        job = Job(request, needs, request.encode(), None, self._at.now, trace, input.replays)
        job.attempt = 1
        self._jobs[job.id] = job
        self._resend(job, substation, NOT_BEGUN)

    # what is read and observed

    def _on_events_read(self, input: EventsRead) -> None:
        changed, errors = self._log_events.apply(input, self._at)
        self._commands.extend(errors)
        if changed:
            self._route_soon()

    def _on_scrape_failed(self, input: ScrapeFailed) -> None:
        self._tracker.fail(input.substation, input.problem, self._at.now)

    def _on_queues_due(self, _: QueuesDue) -> None:
        if (look := self.queues.pop_look(self._publishing, self._at.now)) is not None:
            self._do(look)

    def _on_queue_observed(self, input: QueueObserved) -> None:
        holding = self.reclaiming.holds(input.look.substation)
        self._commands.extend(self.queues.observe(input, self._at.now, holding=holding))

    def _on_targets_changed(self, input: TargetsChanged) -> None:
        for name in input.connectors.keys() - self._tracker.substations.keys():
            self.queues.declare(name)
        self._tracker.keep(input.connectors)
        self._table.labels = input.labels

    def _on_control_changed(self, input: ControlChanged) -> None:
        self._note_clock()
        self._tracker.control(input.substation, input.control)

    # time

    def _note_clock(self) -> None:
        """Tell the tracker what time it is: limits of power begin and end by the clock."""
        self._tracker.clock_offset = self._at.clock - self._at.now

    def _on_tick(self, input: Tick) -> None:
        self._note_clock()
        answering = input.connected and self._at.certain
        self._unsettled.prune(self._at.now, answering=answering, clear=not self.held)
        self._ask_about_overdue()
        if self._log_due:
            self._read_log()
        if not self.deciding or not self._at.certain:
            return
        self._park_impossible()
        for job in self._overflow.pop_held_too_long(self._at.now):
            self._requeue(job)
        self._on_route(Route())

    def _route_soon(self) -> None:
        """Request a ``Route`` after the other inputs of this turn of the loop."""
        if not self._route_due:
            self._route_due = True
            self._do(RouteSoon())

    def _do(self, command: Command) -> None:
        self._commands.append(command)
