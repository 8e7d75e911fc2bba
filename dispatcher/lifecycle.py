"""The jobs in hand, and what becomes of each, from delivery to acknowledgement. Pure.

The order of the methods is that of a job's life. ``dispatcher.jobs`` has its states.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from dispatcher.commands import (
    Ack,
    Command,
    Fail,
    LogJob,
    ParkMessage,
    PublishJob,
    Reject,
    RequeueRequest,
    RouteSoon,
    WriteEvent,
)
from dispatcher.inputs import Moment, PublishResult
from dispatcher.job_index import JobIndex
from dispatcher.jobs import COPY_HEADER, RECLAIMED_HEADER, Job, JobState
from dispatcher.metrics import Metrics
from dispatcher.open_jobs import OpenJobs
from dispatcher.overdue import OverdueJobs
from dispatcher.queues import Queues
from dispatcher.unsettled import Unsettled
from grid import kinds, messages, parking
from grid.cancellations import Cancellations
from grid.errors import MalformedMessage
from grid.events import Event, State
from grid.messages import ChargeRequest
from grid.outcome import Outcome
from grid.trace import Trace, carried
from scheduling.candidates import CandidateTable
from scheduling.order import requirements
from scheduling.reasons import reason_never
from scheduling.rules import Rules
from scheduling.wait_queue import WaitQueue

if TYPE_CHECKING:
    from random import Random

    from grid.amqp import Delivery

MALFORMED: Final = "malformed"
SENT_AGAIN: Final = "sent again to the substation that may have the job already"
DEPARTED: Final = "its departure time passed while it waited"
IN_DOUBT: Final = (
    "sent again to the same substation: the link broke before RabbitMQ confirmed the job"
)
NOT_BEGUN: Final = "sent again to the same substation: it did not begin there in time"


class Lifecycle:
    """The jobs in hand. It alone changes them; where one goes is decided elsewhere.

    Each method appends what it wants done to the commands of the current input. Whoever has a job
    that waits leave that state has removed it from the wait queue.

    Args:
        table: The substations as candidates; its load tracker counts the jobs sent.
        rules: The order of the wait queue, and how fast vehicles charge.
        index: What is known of recent jobs.
        open_jobs: The jobs that are open by the event log.
        queues: The substations' queues.
        unsettled: The decisions whose requests RabbitMQ may redeliver.
        metrics: The dispatcher's counters.
        random: Source of chance for the ids of traces.
    """

    def __init__(
        self,
        table: CandidateTable,
        rules: Rules,
        index: JobIndex,
        open_jobs: OpenJobs,
        *,
        queues: Queues,
        unsettled: Unsettled,
        metrics: Metrics,
        random: Random,
    ) -> None:
        self.index = index
        self.open_jobs = open_jobs
        self.jobs: dict[str, Job] = {}  # in hand, by id
        self.wait_queue: WaitQueue[Job] = WaitQueue(rules.order, rules.weights, rules.charge_speed)
        self.overdue = OverdueJobs(index)
        self.cancellations = Cancellations()
        self.publishing: Counter[str] = Counter()  # jobs without a confirm, by substation
        self.in_doubt: list[tuple[Job, str]] = []  # jobs that may be at a substation, and its name
        self.cancelling = False  # some that wait are cancelled
        self.at = Moment(0.0, 0.0, 0, certain=False)  # of the current input
        self._commands: list[Command] = []  # for the current input
        self._table = table
        self._tracker = table.tracker
        self._rules = rules
        self._queues = queues
        self._unsettled = unsettled
        self._metrics = metrics
        self._chance = random.getrandbits
        self._placed: list[Job] = []  # assigned, and not published yet
        self._route_due = False

    def begin_input(self, at: Moment) -> list[Command]:
        """Begin to handle an input, and return the list that gets its commands."""
        self.at, self._commands = at, []
        return self._commands

    def do(self, command: Command) -> None:
        """Have a command executed, after those before it."""
        self._commands.append(command)

    def do_all(self, commands: Iterable[Command]) -> None:
        """Have commands executed, after those before them."""
        self._commands.extend(commands)

    # it comes

    def read_or_park(self, delivery: Delivery) -> ChargeRequest | None:
        """Return the request in a delivery; park a malformed one, and return None."""
        try:
            return messages.decode(delivery.body)
        except MalformedMessage as error:
            self.do(ParkMessage(delivery, delivery.id, MALFORMED, str(error)))
            return None

    def trace(self, headers: Mapping[str, Any]) -> Trace:
        """Return a new span of the trace in some headers."""
        return carried(headers, self._chance)

    def new_job(self, request: ChargeRequest, delivery: Delivery, origin: str = "") -> Job:
        """Return the job of a delivery, which is in hand from now on.

        ``origin`` is the substation that it is reclaimed from.
        """
        headers = delivery.headers
        replays, trace = parking.replays(headers), carried(headers, self._chance)
        needs = requirements(request, self._rules.charge_speed)
        job = Job(request, needs, delivery.body, delivery, self.at.now, trace, replays, origin)
        if origin:
            job.attempt = 1
        self.jobs[request.id] = job
        return job

    def attach(self, job: Job, delivery: Delivery) -> None:
        """Have a job in hand settled by this delivery: the one before was lost, or it had none."""
        job.delivery, job.early = delivery, False

    def job_without_delivery(
        self, request: ChargeRequest, replays: int, *, early: bool = False
    ) -> Job:
        """Return a job of which only the request is known; ``take`` it in hand to send it.

        If it is ``early``, its promised start has come, and its request is not delivered yet.
        """
        needs = requirements(request, self._rules.charge_speed)
        trace, body = self.trace({}), request.encode()
        attempt = 0 if early else 1  # one that is not early was sent before
        return Job(
            request, needs, body, None, self.at.now, trace, replays, attempt=attempt, early=early
        )

    def take(self, job: Job) -> None:
        """Add a job to those in hand."""
        self.jobs[job.id] = job

    # it waits

    def wait(self, job: Job) -> None:
        """Add a job to the wait queue, unless it is impossible; end it soon if it is cancelled."""
        is_cancelled = self.cancellations.apply_to(job.request)
        self.cancelling = self.cancelling or is_cancelled
        if not is_cancelled and self.at.certain and (why := self._impossible(job)) is not None:
            self._park(job, *why)
        else:
            self.wait_queue.add(job)
            self.route_soon()

    def wait_again(self, job: Job) -> None:
        """Return a job to the wait queue; end it soon if it was cancelled meanwhile."""
        job.enter(JobState.WAITING)
        self.wait_queue.add(job)
        if self.cancellations.apply_to(job.request):
            self.cancel_soon()

    def forget_waiting(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Remove the unwanted jobs from the wait queue, forget and return them."""
        dropped = self.wait_queue.pop_where(unwanted)
        for job in dropped:
            self.forget(job)
        return dropped

    def route_soon(self) -> None:
        """Request a ``Route`` after the other inputs of this turn of the loop."""
        if not self._route_due:
            self._route_due = True
            self.do(RouteSoon())

    def on_route(self) -> None:
        """Note that jobs are routed now, as was requested."""
        self._route_due = False

    # it is assigned

    def assign(self, job: Job, substation: str, decision: Any) -> None:  # noqa: ANN401
        """Record a decision, and add the job to those that are published next."""
        at, request = self.at, job.request
        event = kinds.assigned(
            request.id,
            at.clock,
            substation,
            job.attempt + 1,
            requested_at=request.requested_at,
            replays=job.replays,
            decision=decision,
        )
        job.enter(JobState.ASSIGNED)
        job.substation, job.assigned_at = substation, at.clock
        job.confirmed = job.safe = False
        job.attempt += 1
        job.unrecorded += 1
        # the position starts again at 0 after the event log was deleted and declared again
        before = at.position if job.decided_after is None else job.decided_after
        job.decided_after = min(at.position, before)
        self.publishing[substation] += 1
        self._placed.append(job)
        self.do(WriteEvent(event, job))

    def resend(self, job: Job, substation: str, reason: str) -> None:
        """Send a job to the substation that may have it, and recognises a second copy."""
        decision = {"policy": self._rules.policy.name, "reason": reason, "candidates": []}
        self.assign(job, substation, decision)
        self._tracker.dispatch(substation, self.at.now, job.requirements.power_kw)
        self.route_soon()

    def resend_silent(self, job: Job) -> None:
        """Send a job that was not heard to begin to the same substation again."""
        job.resent += 1
        self.take(job)
        self.resend(job, job.substation, NOT_BEGUN)

    def resend_in_doubt(self) -> None:
        """Send jobs in doubt to the same substation again, if their deliveries are live."""
        in_doubt, self.in_doubt = self.in_doubt, []
        for job, substation in in_doubt:
            if job.is_ours:
                self.resend(job, substation, IN_DOUBT)
            else:
                self.forget(job)  # RabbitMQ redelivers it

    def publish_placed(self) -> None:
        """Publish the jobs that were assigned."""
        placed, self._placed = self._placed, []
        for job in placed:
            command = PublishJob(job, job.substation)
            if job.is_ours:
                self.do(command)
            else:  # its delivery was lost since it was assigned
                self._on_job_answer(command, Outcome.ABANDONED)

    # RabbitMQ confirms it, or does not

    def on_publish_result(self, input: PublishResult) -> None:
        """Handle RabbitMQ's answer to a message with a job."""
        command = input.command
        if isinstance(command, PublishJob):
            self._on_job_answer(command, input.outcome)
        else:
            self._on_requeued(command.job, input.outcome)

    def on_event_written(self, job: Job, event: Event, *, written: bool) -> None:
        """Handle RabbitMQ's answer to an event that a job waits for."""
        if job.state is JobState.ENDING and event.kind != State.ASSIGNED:
            self._on_ended(job, event, written=written)
        else:
            job.unrecorded -= 1
            self._close(job)

    def _on_job_answer(self, command: PublishJob, outcome: Outcome) -> None:
        job, substation = command.job, command.substation
        self.publishing[substation] -= 1
        if outcome is Outcome.CONFIRMED:
            job.confirmed = True
            self._metrics.sent_to(substation).inc()
            waited = max(0, self.at.clock - job.request.waits_from)
            self._metrics.wait_seconds.observe(waited, job.trace.exemplar)
            self._close(job)
            return
        self._on_not_confirmed(job, outcome)

    def _close(self, job: Job) -> None:
        """Acknowledge a job once it is confirmed, and its decisions are confirmed or failed."""
        if not job.confirmed or job.unrecorded:
            return
        name, substation = job.request.id, job.substation
        self.index.note_sent(name, substation, job.assigned_at, job.replays)
        how = "left to its session at" if job.charges_there else "sent to"
        self.do(LogJob(name, job.trace, f"{how} {substation}", substation, job.since))
        if job.decided_after is not None:
            self._unsettled.acknowledged(job.decided_after, self.at.now)
        self.acknowledge(job)
        self._await_begin(job)

    def _await_begin(self, job: Job) -> None:
        """Watch a job until it begins; its decision may be read later, or never."""
        job.delivery, job.early, job.safe = None, False, True
        self.overdue.add(job, self.at.now)
        needs, at = job.requirements, job.assigned_at
        self.open_jobs.assign(
            job.request.id,
            job.substation,
            job.replays,
            at,
            at + needs.seconds if needs.seconds else 0.0,
            power_kw=needs.power_kw,
        )

    def _on_not_confirmed(self, job: Job, outcome: Outcome) -> None:
        """Handle a job that its queue did not take: it waits again, is in doubt, or is forgotten.

        A job that was sent again, without a delivery, is watched once more; one whose promised
        start came before its request waits. One that its substation charges already was a second
        copy: the session goes on.
        """
        where, refused = job.substation, outcome is not Outcome.ABANDONED
        is_there = refused and self._charges(where, job)
        self._tracker.undo(where)
        if refused:
            self._metrics.refused.labels(where).inc()
            problem = f"its queue does not take jobs: {outcome.value}"
            self._tracker.refuse(where, problem, self.at.now)
            text = f"not taken by the queue of {where}: {outcome.value}"
            self.do(LogJob(job.id, job.trace, text, where))
        if outcome is Outcome.UNROUTABLE:
            self._queues.declare(where, self.at.now)
        if is_there:
            job.confirmed = job.charges_there = True
            self._close(job)
        elif job.delivery is None and not (job.early and refused):
            self.forget(job)
            self._await_begin(job)  # it may be there all the same, so it goes nowhere else
        elif not job.is_ours:
            self.forget(job)  # RabbitMQ redelivers it
        elif outcome is Outcome.ABANDONED:
            job.substation = ""
            self.in_doubt.append((job, where))
            self.route_soon()
        else:
            job.substation, job.left = "", where
            self.wait_again(job)
            self.route_soon()

    def _charges(self, substation: str, job: Job) -> bool:
        """Return whether a substation charges a job, by all that the log says.

        Not if the job was taken from its queue: it was killed, and the log has no end of the
        session.
        """
        if job.origin == substation:
            return False
        at = self.index.charging_at(job.id)
        return at == substation and at == self.open_jobs.charging_at(job.id)

    # it is acknowledged, or not in hand any more

    def acknowledge(self, job: Job, *, safe: bool = True) -> None:
        """Acknowledge a job, and forget it; no copy of it is needed any more if it is ``safe``."""
        job.safe = safe
        self.forget(job)
        if job.delivery is not None:
            self.do(Ack(job.delivery))

    def forget(self, job: Job) -> None:
        """Forget a job in hand, unless another delivery of it has taken its place."""
        job.enter(JobState.GONE)
        name = job.request.id
        if self.jobs.get(name) is job:
            del self.jobs[name]

    def unsettled_since(self, position: int) -> int:
        """Return the offset from which the next dispatcher has to read the event log."""
        in_hand = (job.decided_after for job in self.jobs.values())
        return self._unsettled.since((each for each in in_hand if each is not None), position)

    def inherit_in_hand(self) -> None:
        """Record that RabbitMQ may redeliver what is in hand, as if another dispatcher had it."""
        self._unsettled.inherit(self.unsettled_since(self.at.position), "")

    def note_back(self, job: Job) -> None:
        """Record that a job is in the queue again from which it was reclaimed."""
        self.index.note_sent(job.id, job.origin, job.assigned_at, job.replays)

    # it ends otherwise: expired, cancelled, or without a start

    def expire(self, job: Job) -> None:
        """End a request whose vehicle has left, or that waited for longer than its client wants."""
        self.expire_for(job, kinds.expiry_reason(job.request, DEPARTED))

    def expire_for(self, job: Job, reason: str) -> None:
        """End a request, for the given reason."""
        at = self.at.clock
        self._end(job, Event(State.EXPIRED, at, job.id, attempt=job.attempt, reason=reason))

    def cancel_soon(self) -> None:
        """End the waiting jobs that are cancelled, when jobs are routed next."""
        self.cancelling = True
        self.route_soon()

    def cancel_waiting(self) -> None:
        """End the waiting jobs that are cancelled."""
        self.cancelling = False
        for job in self.wait_queue.pop_where(lambda job: self.cancellations.apply_to(job.request)):
            self.open_jobs.forget_undelivered(job.id)  # if the first record of it was lost
            self._end(job, kinds.cancelled(job.id, self.at.clock, job.attempt))

    def _end(self, job: Job, event: Event) -> None:
        """End a job by an event; its delivery is acknowledged once that is recorded."""
        job.enter(JobState.ENDING)
        self.open_jobs.unbook(job.id)
        self.do(WriteEvent(event, job))

    def _on_ended(self, job: Job, event: Event, *, written: bool) -> None:
        if written:
            expired = event.kind == State.EXPIRED
            (self._metrics.expired if expired else self._metrics.cancelled).inc()
            self.do(LogJob(job.id, job.trace, event.reason, since=job.since))
            self.index.note_sent(job.id, "", self.at.clock, job.replays)
            self.acknowledge(job)
        elif self.jobs.get(job.id) is job and job.is_ours:
            self.wait_again(job)  # if it may wait no longer, Route expires it again
        else:
            self.forget(job)  # RabbitMQ redelivers it

    # it is parked, or rejected

    def park_impossible(self) -> None:
        """Park the waiting jobs that no substation can ever take, and that are not cancelled.

        A job over which the code fails is rejected.
        """
        if self.cancelling:
            self.cancel_waiting()
        found: dict[Job, tuple[str, str] | Exception] = {}
        for job in [*self.wait_queue, *self.wait_queue.later]:
            try:
                why: tuple[str, str] | Exception | None = self._impossible(job)
            except Exception as error:  # noqa: BLE001
                why = error
            if why is not None:
                found[job] = why
        for job in self.wait_queue.pop_where(found.__contains__) if found else ():
            if isinstance(why := found[job], Exception):
                self.reject(job, why)
            else:
                self._park(job, *why)

    def reject(self, job: Job, error: Exception) -> None:
        """Reject a request over which the code failed: the next process would fail as well."""
        job.aside = True
        if job.state is not JobState.GONE:  # it may be, where that is what failed
            self.forget(job)
        self.reject_delivery(job.delivery, error)

    def reject_delivery(self, delivery: Delivery | None, error: Exception) -> None:
        """Reject a delivery, if there is one, over which the code failed."""
        if delivery is not None:
            self.do(Reject(delivery))
        self.do(Fail(error))

    def _impossible(self, job: Job) -> tuple[str, str] | None:
        """Return why no substation can ever take a job, in a word and in full; None if one may."""
        allowed, power_kw = job.requirements.allowed, job.requirements.power_kw
        largest_kw = self._table.largest_rating(allowed, self.at.now)
        return reason_never(allowed, power_kw, self._tracker.substations.keys(), largest_kw)

    def _park(self, job: Job, kind: str, reason: str) -> None:
        job.aside = True
        self.forget(job)
        self.open_jobs.unbook(job.id)
        if job.delivery is not None:  # else its request is judged when it comes
            self.do(ParkMessage(job.delivery, job.id, kind, reason, job.headers))

    # it goes behind all others

    def requeue(self, job: Job) -> None:
        """Publish a request again, behind all others, before its delivery is acknowledged."""
        job.enter(JobState.REQUEUING)
        job.read_to = self.at.position
        origin = {RECLAIMED_HEADER: job.was_at} if job.was_at else {}
        self.do(RequeueRequest(job, {**job.headers, COPY_HEADER: True, **origin}))

    def record_requeued(self, job: str, substation: str, read_to: int) -> None:
        """Record that a job that was sent to a substation is in ``charge.requests`` again.

        A job that waited before needs no record.
        """
        self.open_jobs.requeue(job, substation, read_to)
        if substation and read_to <= self.at.position:  # else the log was declared again since
            self.do(WriteEvent(kinds.requeued(job, self.at.clock, substation, read_to)))

    def _on_requeued(self, job: Job, outcome: Outcome) -> None:
        unique = self.jobs.get(job.id) is job  # no copy of it was delivered yet
        if outcome is not Outcome.CONFIRMED and unique and job.is_ours:
            self.wait_again(job)
            return
        if outcome is Outcome.CONFIRMED and job.is_ours:  # else RabbitMQ has the original as well
            self.record_requeued(job.id, job.was_at, job.read_to)
        self.acknowledge(job, safe=outcome is Outcome.CONFIRMED)
