"""What is done with jobs that ask for a start, or were promised one. Pure.

``dispatcher.promises`` finds the starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dispatcher.commands import LogJob, WriteEvent
from dispatcher.deliveries import Deliveries
from dispatcher.jobs import Job, JobState
from dispatcher.lifecycle import SENT_AGAIN, Lifecycle
from dispatcher.metrics import Metrics
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
from dispatcher.recognition import DropReason
from dispatcher.standby import Standby
from grid import kinds
from grid.events import BOOKED, Event
from grid.kinds import Booking
from scheduling.load_tracker import LoadTracker
from scheduling.scheduler import Scheduler

ANSWERS_PER_PASS: Final = 25  # to jobs that ask for a start: each takes 6 ms at 1,000 substations


class BookedJobs:
    """Promises starts, moves and withdraws them, and has the jobs begin then.

    Args:
        life: The jobs in hand.
        deliveries: Knows whether the event log is read up to its end.
        promises: The starts that are promised, and the next one there is.
        scheduler: Assigns a job whose start has come.
        tracker: The load tracker.
        standby: Knows whether this dispatcher is active.
        metrics: The dispatcher's counters.
        prefetch: How many unacknowledged requests RabbitMQ delivers.
    """

    def __init__(
        self,
        life: Lifecycle,
        deliveries: Deliveries,
        promises: Promises,
        *,
        scheduler: Scheduler[Job],
        tracker: LoadTracker,
        standby: Standby,
        metrics: Metrics,
        prefetch: int,
    ) -> None:
        self._life = life
        self._open_jobs = life.open_jobs
        self._deliveries = deliveries
        self._promises = promises
        self._scheduler = scheduler
        self._tracker = tracker
        self._standby = standby
        self._metrics = metrics
        self._most = int(MOST_SHARE * prefetch)
        self._untold: list[Event] = []  # what RabbitMQ did not take
        self._tell_at = 0.0  # when they may be written again

    def begin_due(self) -> None:
        """Assign the jobs whose promised start has come: before they expire, if that is soon."""
        for booking in self._promises.due(self._life.at.clock):
            if (job := self._job_of(booking)) is not None:
                self._isolated(job, self._begin, booking)

    def plan(self) -> None:
        """Move or withdraw the promises that cannot be kept, and make new ones."""
        at, promises, jobs = self._life.at, self._promises, self._life.jobs
        # all promises are known, those of the dispatcher before as well
        may_promise = self._deliveries.is_current and self._open_jobs.complete
        if may_promise and not self._standby.is_standby(at.now):
            for booking, other in promises.find_broken(jobs.values(), at):
                if other is None:
                    self._withdraw(booking)
                else:
                    self._book(other, promises.why_broken(booking))
            for told_at, booking in promises.due_to_rewrite(at.now):
                self._life.do(WriteEvent(kinds.booked(booking, told_at)))
        self._tell_again()
        promises.refresh(jobs.values(), at.clock)
        if may_promise:
            self._answer_all()

    def on_not_written(self, event: Event) -> None:
        """Write a promise, or a withdrawal, again soon that RabbitMQ did not take."""
        if event.kind == BOOKED:
            self._untold.append(event)

    # its start has come

    def _job_of(self, booking: Booking) -> Job | None:
        """Return the job whose promised start has come; None if it is not to begin now.

        Its request may still be behind others in ``charge.requests``: it is dropped later on. Then
        only the active dispatcher sends the job: all of them know of the promise.
        """
        request, life = booking.request, self._life
        replays = self._open_jobs.replays(request.id)
        if life.index.has_sent(request.id, replays):
            self._open_jobs.unbook(request.id)
            return None
        if (job := life.jobs.get(request.id)) is not None:
            return job if job.state is JobState.WAITING and job.is_ours else None
        if not self._deliveries.is_current or self._standby.is_standby(life.at.now):
            return None
        return life.job_without_delivery(request, replays, early=True)

    def _begin(self, job: Job, booking: Booking) -> None:
        """Assign a job whose promised start has come, if there is capacity."""
        life = self._life
        assignment = self._scheduler.begin_booked(job, booking.substation, life.at.now)
        if assignment is not None:
            life.wait_queue.remove(job)
            life.take(job)
            try:
                life.assign(job, assignment.substation, assignment.explanation)
            except Exception:
                self._tracker.undo(assignment.substation)
                raise

    # it asks for a start

    def _answer_all(self) -> None:
        """Answer the jobs that ask for a start: so many, as nothing else is done meanwhile."""
        answered, is_booked = 0, self._open_jobs.is_booked
        for job in list(self._life.wait_queue.later):
            if not job.requirements.reserve or not job.is_ours or is_booked(job.id):
                continue
            if answered == ANSWERS_PER_PASS:
                self._life.route_soon()
                return
            self._isolated(job, self._answer)
            answered += is_booked(job.id) or job.state is not JobState.WAITING

    def _answer(self, job: Job) -> None:
        """Promise a start to a job that asks for one, or refuse it.

        A job that was sent to a substation which does not have it any more was promised a start
        before: it is promised the earliest there is.
        """
        life, open_jobs = self._life, self._open_jobs
        request, needs = job.request, job.requirements
        if open_jobs.has_ended(job.id, job.replays, request.requested_at):
            # its start was promised, and it was over before its request came
            life.wait_queue.remove(job)
            self._metrics.dropped.labels(DropReason.ENDED).inc()
            life.do(LogJob(job.id, job.trace, "the request is dropped: its job has ended"))
            life.acknowledge(job)
            return
        where = open_jobs.substation(job.id)
        if where and where != job.was_at:
            # its start was promised, and it was sent there before its request came
            life.wait_queue.remove(job)
            life.resend(job, where, SENT_AGAIN)
            return
        offer = self._promises.offer(needs, life.jobs.values(), life.at)
        if offer is None:
            return  # no substation may be sent jobs, or is allowed so much power: that may change
        booking = Booking(request, offer.substation, offer.start, offer.end)
        before = where or open_jobs.was_promised_at(job.id) or life.index.assigned_to(job.id)
        if before and offer.start < needs.expires_at:
            self._book(booking, moved_from(before))
        elif not offer.fits:
            self._refuse(job, booking, refusal(needs, booking, life.at.clock))
        elif len(open_jobs.booked) >= self._most:
            self._refuse(job, None, too_many(self._most))
        else:
            self._book(booking)

    def _book(self, booking: Booking, reason: str = "") -> None:
        """Promise a start; ``reason`` says why it differs from the one before."""
        at = self._open_jobs.tells_at(booking.request.id, self._life.at.clock)
        self._promises.book(booking, at)
        self._metrics.promises.labels(MOVED if reason else GRANTED).inc()
        self._life.do(WriteEvent(kinds.booked(booking, at, reason)))
        self._log(booking, f"{promised(booking)}{': ' if reason else ''}{reason}")

    def _refuse(self, job: Job, nearest: Booking | None, reason: str) -> None:
        """End a job that gets no start."""
        life = self._life
        life.wait_queue.remove(job)
        self._metrics.promises.labels(REFUSED).inc()
        life.do(WriteEvent(kinds.refused(job.id, life.at.clock, nearest)))
        life.expire_for(job, reason)

    # it was promised one

    def _withdraw(self, booking: Booking) -> None:
        """Withdraw a start that cannot be kept; the job is promised another once there is one."""
        job, reason = booking.request.id, self._promises.why_broken(booking)
        at = self._open_jobs.tells_at(job, self._life.at.clock)
        self._open_jobs.withdraw(job, booking.substation, at)
        self._metrics.promises.labels(WITHDRAWN).inc()
        self._life.do(WriteEvent(kinds.withdrawn(booking, at, reason)))
        self._log(booking, reason)

    def _tell_again(self) -> None:
        """Write again what jobs were told that is not in the log, and still holds."""
        now = self._life.at.now
        if now < self._tell_at:
            return
        self._tell_at = now + RETRY_INTERVAL
        untold, self._untold = self._untold, []
        for event in untold:
            if self._open_jobs.told_at(event.job) == event.at:
                self._life.do(WriteEvent(event))

    def _log(self, booking: Booking, text: str) -> None:
        life, name = self._life, booking.request.id
        job = life.jobs.get(name)
        trace = life.trace({}) if job is None else job.trace
        life.do(LogJob(name, trace, text, booking.substation))

    def _isolated(self, job: Job, act: Callable[..., None], *arguments: object) -> None:
        """Do something for a job; reject it if the code fails over it."""
        try:
            act(job, *arguments)
        except Exception as error:  # noqa: BLE001
            self._open_jobs.unbook(job.id)
            self._life.wait_queue.remove(job)
            self._life.reject(job, error)
