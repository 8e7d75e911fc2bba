"""Reconciliation: accepted jobs that are in no queue and in nobody's hands are published again.

Somebody deleted or purged a queue, or RabbitMQ lost one: nobody is told. The event log has every
job that was accepted, and RabbitMQ counts the messages of a queue. Where more jobs wait by the log
than there are messages and jobs in hand, the difference is missing. A job that was only slow is
not charged twice over it: the dispatcher knows a second copy of a request by its id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, Final, Protocol

from dispatcher.doubt import ReadLog
from dispatcher.jobs import TAKEN_BACK_HEADER, Hands
from dispatcher.open_jobs import OpenJobs
from dispatcher.telemetry import Metrics
from grid import event_log, messages, parking, topology
from grid.amqp import Declarer, Outcome, Publisher, StreamScanner
from grid.errors import BrokerUnavailable, MalformedMessage
from grid.events import State
from grid.messages import ChargeRequest
from grid.waiting import within

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
MISSING_SECONDS: Final = 8.0  # messages on their way between RabbitMQ and here are in no count
LOG_SECONDS: Final = 5.0  # to read the event log as far as it is written, before looking again
MAX_SUSPECTS: Final = 50_000
PUBLISHED: Final = "published"
RECORD_LOST: Final = "record lost"
BATCH: Final = 5_000  # jobs published at once

LostAt = Callable[[str], Coroutine[Any, Any, bool]]


class Work(Protocol):
    """The part of the dispatcher that reconciliation looks at."""

    def in_hand(self) -> Hands:
        """Return what it has."""

    def has_sent(self, job: str) -> bool:
        """Return whether it sent a job itself, and so sees to it that the job begins."""


class Reconciler:
    """Looks each second, while ``is_active``, for jobs that are missing.

    ``lost_at`` returns of a substation whether jobs that were sent there and have not begun are
    nowhere. ``read_log`` comes back when all is read that was written before the call. ``now``
    returns steady seconds.
    """

    def __init__(
        self,
        jobs: OpenJobs,
        work: Work,
        *,
        declarer: Declarer,
        scanner: StreamScanner,
        publisher: Publisher,
        metrics: Metrics,
        is_active: Callable[[], bool],
        lost_at: LostAt,
        read_log: ReadLog,
        now: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._work = work
        self._declarer = declarer
        self._scanner = scanner
        self._publisher = publisher
        self._metrics = metrics
        self._is_active = is_active
        self._lost_at = lost_at
        self._read_log = read_log
        self._now = now
        self._missing_since: dict[str, float] = {}
        self._fewest = 0  # missing at any look since some were
        for outcome in (PUBLISHED, RECORD_LOST):
            metrics.reconciled.labels(outcome)  # so that its increase is seen

    async def run(self) -> None:
        """Look again and again, until the task is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except BrokerUnavailable as error:
                log.info("reconciliation waits: %s", error)

    async def look(self) -> None:
        """Publish the jobs that have been missing for long enough. Raise ``BrokerUnavailable``."""
        missing = await self._missing() if self._jobs.complete and self._is_active() else []
        now = self._now()
        self._missing_since = {job: self._missing_since.get(job, now) for job in missing}
        # what is on its way at each look makes some of the oldest look missing, each time others
        self._fewest = min(self._fewest or len(missing), len(missing))
        due = [job for job in missing if now - self._missing_since[job] >= MISSING_SECONDS]
        if due and self._is_active():
            await self._publish(due[: min(self._fewest, BATCH)])
            self._fewest = 0

    async def _missing(self) -> list[str]:
        """Return the jobs that are missing now; none while a queue is missing itself."""
        lost = await self._lost_at_substations()
        if not await self._compare(lost):
            return []
        # The log may not have been read up to what was decided or ended meanwhile.
        if not await within(LOG_SECONDS, self._read_log()):
            return []
        return await self._compare([job for job in lost if self._jobs.silent(job)])

    async def _compare(self, lost: Collection[str]) -> list[str]:
        if not self._jobs.waiting and not lost:
            return []
        before, elsewhere = self._work.in_hand(), 0
        for queue in (topology.REQUESTS, topology.DEAD):
            state = await self._declarer.look(queue)
            if state is None:
                return []
            elsewhere += state.ready
        after = self._work.in_hand()
        elsewhere += max(before.others, after.others)
        # what was delivered or given back meanwhile was in a hand at either time
        return self._jobs.missing(elsewhere, before.jobs | after.jobs, lost, MAX_SUSPECTS)

    async def _lost_at_substations(self) -> list[str]:
        """Return the jobs another dispatcher sent to substations that do not have them."""
        lost = []
        for substation, jobs in self._jobs.assigned().items():
            others = [job for job in jobs if not self._work.has_sent(job)]
            if others and await self._lost_at(substation):
                lost += others
        return lost

    async def _publish(self, jobs: Collection[str]) -> None:
        """Publish jobs again, under their ids, from what the log says of them."""
        requests = await self._requests(jobs)
        outcomes = await asyncio.gather(
            *(self._publish_one(job, request) for job, request in requests.items())
        )
        done = sum(outcomes)
        self._metrics.reconciled.labels(PUBLISHED).inc(done)
        log.warning(
            "%d accepted requests were in no queue and in nobody's hands, %d of them are published "
            "again: somebody deleted or purged a queue, or RabbitMQ lost it",
            len(jobs),
            done,
        )
        for job in set(jobs) - requests.keys():
            self._jobs.drop(job)
            self._metrics.reconciled.labels(RECORD_LOST).inc()
            log.error("job %s is in no queue, and its record is not in %s", job, topology.EVENTS)

    async def _publish_one(self, job: str, request: ChargeRequest) -> bool:
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        substation = self._jobs.substation(job)
        self._publisher.publish(
            topology.REQUESTS_EXCHANGE,
            topology.REQUESTS,
            request.encode(),
            answer.set_result,
            id=job,
            headers={
                **parking.marked(self._jobs.replays(job)),
                **({TAKEN_BACK_HEADER: substation} if substation else {}),
            },
            priority=request.priority,
            wanted=lambda: False,  # in doubt it is looked for again
        )
        published = await answer is Outcome.CONFIRMED
        if published:
            self._jobs.requeue(job)
        self._missing_since.pop(job, None)
        return published

    async def _requests(self, jobs: Collection[str]) -> Mapping[str, ChargeRequest]:
        """Read the requests of jobs from the log; without those whose record is gone."""
        records = _Records(jobs)
        offsets = [at for job in jobs if (at := self._jobs.offset(job)) is not None]
        if offsets:
            await self._scanner.scan(topology.EVENTS, min(offsets), max(offsets) + 1, records.see)
        if len(records.found) < len(jobs):  # what was replayed has its request in an older record
            await self._scanner.scan(topology.EVENTS, "first", max(offsets) + 1, records.see)
        return records.found


class _Records:
    """Collects the requests of some jobs from the event log."""

    def __init__(self, jobs: Collection[str]) -> None:
        self._jobs = frozenset(jobs)
        self.found: dict[str, ChargeRequest] = {}

    def see(self, _offset: int, body: bytes, writer: str) -> None:
        """Look for requests in one message."""
        try:
            events = event_log.read(body, writer)
        except MalformedMessage:
            return
        for each in events:
            if each.kind == State.QUEUED and each.job in self._jobs and "id" in each.detail:
                try:
                    self.found[each.job] = messages.of_fields(each.detail)
                except MalformedMessage as error:
                    log.warning("the record of job %s holds no request: %s", each.job, error)
