"""Sending jobs: the decision and the job go out together, and both are answered for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from dispatcher.jobs import Job
from dispatcher.telemetry import Metrics
from grid import kinds, topology
from grid.amqp import Outcome, Publisher
from grid.event_log import EventWriter


class Sender:
    """Sends each job to the queue of a substation, and its decision to the event log.

    ``sent`` is told of a job once RabbitMQ has both, ``refused`` of one that the queue did not
    take. ``clock`` gives Unix seconds,
    ``position`` the offset up to which the event log was read.
    """

    def __init__(
        self,
        publisher: Publisher,
        events: EventWriter,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        sent: Callable[[Job], None],
        refused: Callable[[Job, Outcome], None],
        certain: Callable[[], bool],
        position: Callable[[], int],
    ) -> None:
        self._publisher = publisher
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._on_sent = sent
        self._on_refused = refused
        self._certain = certain
        self._position = position
        self._placed: list[Job] = []  # decided in this turn, about to be published
        self._under_way: Counter[str] = Counter()

    def under_way(self, substation: str) -> int:
        """Return how many jobs published to a substation's queue are not confirmed yet."""
        return self._under_way[substation]

    def assign(self, job: Job, substation: str, detail: Mapping[str, object]) -> None:
        """Put a decision on record, and the job among those that ``flush`` publishes."""
        job.substation, job.attempt = substation, job.attempt + 1
        job.assigned_at = self._clock()
        position = self._position()  # which begins anew where the event log was made anew
        before = position if job.decided_after is None else job.decided_after
        job.decided_after = min(position, before)
        job.unrecorded += 1
        self._under_way[substation] += 1
        self._events.write(
            kinds.assigned(
                job.id,
                job.assigned_at,
                substation,
                job.attempt,
                requested_at=job.request.requested_at,
                replays=job.replays,
                decision=detail,
            ),
            partial(self._on_recorded, job),
        )
        self._placed.append(job)

    def flush(self) -> None:
        """Send what was assigned.

        The decisions go out before the jobs, all in one message, so that the event log has a job's
        decision before its substation's first word of it.
        """
        self._events.flush()
        placed, self._placed = self._placed, []
        for job in placed:
            if not self._is_ours(job):  # its delivery was lost, or may be, since it was decided
                asyncio.get_running_loop().call_soon(self._on_answer, job, Outcome.ABANDONED)
                continue
            self._publisher.publish(
                topology.SUBSTATIONS_EXCHANGE,
                job.substation,
                job.body,
                partial(self._on_answer, job),
                id=job.id,
                headers=job.headers,
                wanted=partial(self._is_ours, job),
            )

    def _is_ours(self, job: Job) -> bool:
        """Return whether a job whose sending is in doubt is to be sent again from here.

        Where its delivery went with a link, RabbitMQ delivers the request again, perhaps to another
        dispatcher, which may send it elsewhere. The link that delivered it may break last.
        """
        return job.is_ours and self._certain()

    def _on_answer(self, job: Job, outcome: Outcome) -> None:
        self._under_way[job.substation] -= 1
        if outcome is not Outcome.CONFIRMED:
            if outcome is not Outcome.ABANDONED:
                self._metrics.refused.labels(job.substation).inc()
            self._on_refused(job, outcome)
            return
        job.sent = True
        self._metrics.decisions.labels(job.substation).inc()
        self._metrics.wait_seconds.observe(max(0, self._clock() - job.request.requested_at))
        self._close(job)

    def _on_recorded(self, job: Job, written: bool) -> None:  # noqa: FBT001
        job.unrecorded -= 1
        if not written:
            self._metrics.events_lost.inc()
        self._close(job)

    def _close(self, job: Job) -> None:
        if job.sent and not job.unrecorded:
            self._on_sent(job)
