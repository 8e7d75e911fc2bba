"""What is done with jobs that were sent, and of whose beginning nothing is heard. Pure.

``dispatcher.overdue`` knows when they should have begun.
"""

from __future__ import annotations

from typing import Final

from dispatcher.commands import ConfirmSilence, Warn
from dispatcher.deliveries import Deliveries
from dispatcher.inputs import RecordedJobMissing, SilenceConfirmed
from dispatcher.jobs import Job
from dispatcher.lifecycle import NOT_BEGUN, Lifecycle
from dispatcher.metrics import Metrics
from dispatcher.queues import Queues
from dispatcher.standby import Standby

ASK_INTERVAL: Final = 1.0  # seconds between two questions


class SilentJobs:
    """Asks whether jobs have begun, and sends those again that are lost.

    Args:
        life: The jobs in hand, and those that are overdue.
        deliveries: Knows whether jobs are decided on.
        queues: Knows whether a substation takes jobs from its queue.
        standby: Knows whether this dispatcher is active.
        metrics: The dispatcher's counters.
    """

    def __init__(
        self,
        life: Lifecycle,
        deliveries: Deliveries,
        queues: Queues,
        standby: Standby,
        metrics: Metrics,
    ) -> None:
        self._life = life
        self._deliveries = deliveries
        self._queues = queues
        self._standby = standby
        self._metrics = metrics
        self._asked_about: set[Job] = set()  # their silence is being confirmed
        self._ask_at = 0.0

    def ask(self) -> None:
        """Ask about the jobs that should have begun, once the last question is answered."""
        now = self._life.at.now
        if self._asked_about or now < self._ask_at:
            return
        if due := self._life.overdue.pop(now):
            self._asked_about = set(due)
            self._life.do(ConfirmSilence(due))

    def on_confirmed(self, input: SilenceConfirmed) -> None:
        """Send jobs again that their substation would have begun; ask about the others later."""
        life, now, resent = self._life, self._life.at.now, 0
        self._asked_about.difference_update(input.jobs)
        self._ask_at = now + ASK_INTERVAL
        takes_jobs = self._queues.takes_jobs(input.substation, input.queue, now)
        are_lost = takes_jobs and not self._standby.is_standby(now)
        for job in life.overdue.silent(input.jobs):
            if not are_lost:
                life.overdue.add(job, now)
            elif (
                self._deliveries.deciding
                and job.id not in life.jobs
                and life.index.sent_from_here(job.id) == job.substation
            ):
                life.resend_silent(job)
                resent += 1
        if resent:
            self._metrics.resent.labels(input.substation).inc(resent)
            text = f"{resent} jobs are sent to {input.substation} once more: none of them began"
            life.do(Warn(text))

    def on_recorded_missing(self, input: RecordedJobMissing) -> None:
        """Send a job again that is missing by the event log."""
        request, life = input.request, self._life
        if not self._deliveries.deciding or request.id in life.jobs:
            return
        job = life.job_without_delivery(request, input.replays)
        life.take(job)
        life.resend(job, input.substation, NOT_BEGUN)
