"""Reconciliation: accepted jobs that are in no queue and not in hand are published again.

RabbitMQ does not report that a queue was deleted, purged or lost. The event log has every accepted
job, and RabbitMQ counts the messages of a queue. If more jobs wait by the log than there are
messages and jobs in hand, the difference is missing. A job that was only slow is not charged twice:
the dispatcher recognises a second copy of a request by its id.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence, Set
from functools import partial
from typing import Any, Final, NamedTuple

from dispatcher.inputs import (
    CancelledRequestMissing,
    RecordedJobMissing,
    RecordLost,
    RequestRepublished,
)
from dispatcher.jobs import COPY_HEADER, RECLAIMED_HEADER, JobsInHand
from dispatcher.links import Links
from dispatcher.metrics import Metrics
from dispatcher.queues import Whereabouts
from dispatcher.shell import Shell
from grid import event_log, kinds, parking, topology
from grid.amqp import Outcome, settle
from grid.errors import BrokerUnavailable, MalformedMessage
from grid.events import State
from grid.messages import ChargeRequest
from grid.waiting import within

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 1.0
MISSING_SECONDS: Final = 8.0  # messages in flight from RabbitMQ to here are not counted
OWN_SECONDS: Final = 60.0  # for a job that this dispatcher sent, and resends itself
LOG_TIMEOUT: Final = 5.0  # to read the event log as far as it is written, before looking again
MAX_SUSPECTS: Final = 50_000
BATCH: Final = 5_000  # jobs published at once

PUBLISHED: Final = "published"
SENT_AGAIN: Final = "sent again"
IN_DOUBT: Final = "in doubt"
REFUSED: Final = "refused"
RECORD_LOST: Final = "record lost"

_OUTCOMES: Final = {
    Outcome.CONFIRMED: PUBLISHED,
    Outcome.ABANDONED: IN_DOUBT,
    Outcome.REFUSED: REFUSED,
    Outcome.UNROUTABLE: REFUSED,
}

ReadLog = Callable[[], Coroutine[Any, Any, None]]
AskWhereabouts = Callable[[str], Coroutine[Any, Any, Whereabouts]]


class _Silent(NamedTuple):
    """The jobs that have not begun: the lost ones, and those to send again, and where."""

    gone: list[str]
    resend: dict[str, str]


class Reconciler:
    """Looks for missing jobs each second, while this dispatcher is active.

    If RabbitMQ counts several consumers of ``charge.requests``, nothing is published unless it is
    undisputed that the others have no requests. RabbitMQ 3.10 does not count waiting consumers: a
    request that another dispatcher has may then be published again, as a second copy with its id. A
    dispatcher on standby returns the jobs that it reclaimed.

    Args:
        shell: The dispatcher.
        links: Those that read queues and the event log, and publish requests again.
        metrics: The dispatcher's counters.
        now: Returns monotonic seconds.
    """

    def __init__(
        self, shell: Shell, links: Links, metrics: Metrics, now: Callable[[], float]
    ) -> None:
        self._shell = shell
        self._core = shell.core
        self._index = shell.core.index
        self._jobs = shell.core.open_jobs
        self._links = links
        self._metrics = metrics
        self._now = now
        self._missing_since: dict[str, float] = {}
        self._fewest = 0  # missing at one look, since the first one that found some
        self._looked_at = now()
        for outcome in (PUBLISHED, SENT_AGAIN, IN_DOUBT, REFUSED, RECORD_LOST):
            metrics.reconciled.labels(outcome)  # so that its rate starts from 0

    async def run(self, read_log: ReadLog, whereabouts: AskWhereabouts) -> None:
        """Look regularly, until the task is cancelled.

        Args:
            read_log: Returns once all is read that was in the event log at the call.
            whereabouts: Returns where jobs are that were sent to a substation and have not begun.
        """
        said = ""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            problem = ""
            try:
                await self.look(read_log, whereabouts)
            except BrokerUnavailable as error:
                problem = str(error)
            if problem and problem != said:
                log.warning("cannot look for missing requests: %s", problem)
            said = problem

    async def look(self, read_log: ReadLog, whereabouts: AskWhereabouts) -> None:
        """Recover the jobs that have been missing for long enough. Raise ``BrokerUnavailable``."""
        passed, self._looked_at = self._now() - self._looked_at, self._now()
        if not (self._jobs.complete and self._is_active):
            # time without looks does not count; a short interruption must not restart the wait
            self._missing_since = {j: since + passed for j, since in self._missing_since.items()}
            return
        silent = await self._silent(whereabouts)
        missing = await self._missing(silent.gone, read_log)
        due = self._note_missing([*missing, *silent.resend])
        lost = [job for job in missing if due.get(job, 0.0) >= MISSING_SECONDS]
        # messages in flight make some of the oldest jobs look missing, other ones at each look
        self._fewest = min(self._fewest or len(missing), len(missing))
        if lost:
            await self._recover(lost[: self._fewest])
            self._fewest = 0
        resend = {
            job: substation
            for job, substation in silent.resend.items()
            if due[job] >= self._wait_for(job, substation)
        }
        if resend:
            await self._resend(resend, read_log)

    @property
    def _is_active(self) -> bool:
        requests = self._links.requests
        return requests.connected and not requests.lapsed and self._core.is_active(self._now())

    @property
    def _is_undisputed(self) -> bool:
        return self._core.standby.is_undisputed(self._now())

    def _in_hand(self) -> JobsInHand:
        return self._core.in_hand(self._links.requests.unsettled)

    def _wait_for(self, job: str, substation: str) -> float:
        return OWN_SECONDS if self._index.sent_from_here(job) == substation else MISSING_SECONDS

    def _note_missing(self, jobs: Collection[str]) -> Mapping[str, float]:
        """Record the jobs that are missing; return for how many seconds each has been so."""
        now = self._now()
        self._missing_since = {job: self._missing_since.get(job, now) for job in jobs}
        return {job: now - since for job, since in self._missing_since.items()}

    async def _missing(self, gone: Collection[str], read_log: ReadLog) -> list[str]:
        """Return the jobs that are missing now; none while a queue is missing itself."""
        if not await self._compare(gone):
            return []
        # The log may not have been read up to what was decided or ended meanwhile.
        if not await within(LOG_TIMEOUT, read_log()):
            return []
        return await self._compare([job for job in gone if self._jobs.silent(job)])

    async def _compare(self, gone: Collection[str]) -> list[str]:
        if not (self._jobs.waiting or self._jobs.undelivered or gone):
            return []
        before, elsewhere = self._in_hand(), self._links.dead.unsettled
        for queue in (topology.REQUESTS, topology.DEAD):
            state = await self._links.queues.look(queue)
            # RabbitMQ reports a queue without a leader as empty and without consumers
            if state is None or not state.consumers:
                return []
            if queue == topology.REQUESTS and state.consumers > 1 and not self._is_undisputed:
                return []
            elsewhere += state.ready
        after = self._in_hand()
        elsewhere += max(before.others, after.others)
        # what was delivered or requeued meanwhile was in hand before or after
        return self._jobs.missing(elsewhere, before.jobs | after.jobs, gone, MAX_SUSPECTS)

    async def _silent(self, ask: AskWhereabouts) -> _Silent:
        """Return the jobs that have not begun, and are not where they were sent."""
        found = _Silent([], {})
        for substation, jobs in self._jobs.assigned().items():
            whereabouts = await ask(substation)
            if whereabouts is Whereabouts.GONE:
                found.gone.extend(jobs)
            elif whereabouts is Whereabouts.QUEUE_EMPTY:
                found.resend.update(dict.fromkeys(jobs, substation))
            elif whereabouts is Whereabouts.SERVED:
                overtaken = filter(self._jobs.is_overtaken, jobs)
                found.resend.update(dict.fromkeys(overtaken, substation))
        return found

    async def _recover(self, jobs: Sequence[str]) -> None:
        """Publish missing jobs again; forget those that are cancelled."""
        wanted = [job for job in jobs if job not in self._jobs.undelivered]
        cancelled = [job for job in jobs if job in self._jobs.undelivered]
        for job in cancelled:
            self._shell.feed(CancelledRequestMissing(job))
        if cancelled:
            log.warning(
                "%d cancelled requests were in no queue: it was deleted, purged or lost. "
                "Nothing is published for them",
                len(cancelled),
            )
        if wanted:
            await self._publish(wanted)

    async def _publish(self, jobs: Sequence[str]) -> None:
        """Publish jobs again, under their ids, from their records in the log."""
        read_to = self._links.log.position
        where = {job: self._jobs.substation(job) for job in jobs}
        requests = await self._requests(jobs)
        outcomes: Counter[str] = Counter()
        known = [job for job in jobs if job in requests]
        for first in range(0, len(known), BATCH):
            # reading, and each batch, takes time: a job may have been delivered meanwhile
            if not self._is_active:
                break
            hands = self._in_hand().jobs
            missing = [
                job
                for job in known[first : first + BATCH]
                if job not in hands and self._is_nowhere(job, where[job])
            ]
            answers = {job: self._send(job, requests[job], where[job]) for job in missing}
            for job, answer in answers.items():
                outcome = await answer
                self._missing_since.pop(job, None)
                if outcome is Outcome.CONFIRMED:
                    self._shell.feed(RequestRepublished(job, where[job], read_to))
                outcomes[_OUTCOMES[outcome]] += 1
        for what, count in outcomes.items():
            self._metrics.reconciled.labels(what).inc(count)
        if outcomes:
            log.warning(
                "%d accepted requests were in no queue, and held by no dispatcher: a queue was "
                "deleted, purged or lost. %s",
                outcomes.total(),
                ", ".join(f"{what}: {count}" for what, count in sorted(outcomes.items())),
            )

    async def _resend(self, jobs: Mapping[str, str], read_log: ReadLog) -> None:
        """Send jobs to the same substations again; each recognises those that it has."""
        # while the log is read anew, it shows the jobs as they were long ago
        if not await within(LOG_TIMEOUT, read_log()):
            return
        silent = [job for job in jobs if self._is_silent_at(job, jobs[job])]
        requests = await self._requests(silent[:BATCH]) if silent else {}
        if not requests or not self._is_active:
            return
        requests = {j: each for j, each in requests.items() if self._is_silent_at(j, jobs[j])}
        log.warning("sending %d jobs to their substations again: none has begun", len(requests))
        for job, request in requests.items():
            self._missing_since.pop(job, None)
            self._metrics.reconciled.labels(SENT_AGAIN).inc()
            self._shell.feed(RecordedJobMissing(request, jobs[job], self._jobs.replays(job)))

    def _is_nowhere(self, job: str, substation: str) -> bool:
        """Return whether a job still waits, or has not begun at that substation, by the log."""
        if not substation:
            return self._jobs.is_waiting(job)
        return self._is_silent_at(job, substation)

    def _is_silent_at(self, job: str, substation: str) -> bool:
        """Return whether a job is at a substation, and has not begun.

        A decision may be written late: then another one is the newest by the clocks.
        """
        newest = self._index.charging_at(job) or self._index.assigned_to(job)
        if newest not in (None, substation) or not self._jobs.silent(job):
            return False
        return self._jobs.substation(job) == substation

    def _send(self, job: str, request: ChargeRequest, substation: str) -> asyncio.Future[Outcome]:
        """Publish a job again; return the answer to come."""
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._links.again.publish(
            topology.REQUESTS_EXCHANGE,
            topology.REQUESTS,
            request.encode(),
            partial(settle, answer),
            id=job,
            headers={
                COPY_HEADER: True,
                **parking.marked(self._jobs.replays(job)),
                **({RECLAIMED_HEADER: substation} if substation else {}),
            },
            priority=request.priority,
            wanted=lambda: False,  # in doubt, a later look finds it
        )
        return answer

    async def _requests(self, jobs: Collection[str]) -> Mapping[str, ChargeRequest]:
        """Read the requests of jobs from the log; drop those whose record is gone."""
        found: dict[str, ChargeRequest] = {}
        see, end = partial(_collect, frozenset(jobs), found), self._links.log.position
        offsets = [at for job in jobs if (at := self._jobs.offset(job)) is not None]
        first, last = min(offsets, default=0), min(max(offsets, default=0) + 1, end)
        if 0 <= first < last:
            await self._links.scanner.scan(topology.EVENTS, first, last, see)
        if len(found) < len(jobs) and end:
            # a replayed job has its request in an older record; or the log was declared again
            await self._links.scanner.scan(topology.EVENTS, "first", end, see)
        for job in set(jobs) - found.keys():
            self._shell.feed(RecordLost(job))
            self._metrics.reconciled.labels(RECORD_LOST).inc()
            log.error("job %s is in no queue, and its record is not in %s", job, topology.EVENTS)
        return found


def _collect(
    jobs: Set[str], found: dict[str, ChargeRequest], _offset: int, body: bytes, writer: str
) -> None:
    """Add the requests of some jobs that are in one message of the log to those found."""
    try:
        events = event_log.read(body, writer)
    except MalformedMessage:
        return
    for each in events:
        if each.kind != State.QUEUED or each.job not in jobs:
            continue
        try:
            if (request := kinds.request_in(each.detail)) is not None:
                found[each.job] = request
        except MalformedMessage as error:
            log.warning("the record of job %s holds no request: %s", each.job, error)
