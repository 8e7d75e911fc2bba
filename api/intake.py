"""Taking charge requests: accepted means that RabbitMQ has confirmed them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from api.idempotency import check_same
from api.job import Job
from api.log import EventLog
from api.problems import NotCaughtUp, PartlyAccepted
from api.schemas import ChargeIn
from grid import kinds, topology
from grid.amqp import Publisher
from grid.errors import STILL_READING, BrokerUnavailable, InvalidField
from grid.logs import tell
from grid.messages import ChargeRequest, shown
from grid.trace import Trace

log = logging.getLogger(__name__)

BACKLOG_MOST = 10_000  # requests that wait for RabbitMQ's confirm at once


class Taken(NamedTuple):
    """A request that is a job now; ``again`` says that it was one before."""

    job: Job
    again: bool


class _UnderWay(NamedTuple):
    """A request that RabbitMQ has not confirmed yet, and the job it is to be."""

    request: Mapping[str, Any]
    job: asyncio.Future[Job]


class Intake:
    """Publishes requests, and notes each in the event log once RabbitMQ has it.

    ``clock`` gives Unix seconds, ``new_id`` a job's id that was never given before, ``known`` the
    substations there are, or none while that is not known.
    """

    def __init__(
        self,
        publisher: Publisher,
        log: EventLog,
        confirm_timeout: float,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        known: Callable[[], Set[str]],
    ) -> None:
        self._publisher = publisher
        self._log = log
        self._confirm_timeout = confirm_timeout
        self._clock = clock
        self._new_id = new_id
        self._known = known
        self._under_way: dict[str, _UnderWay] = {}

    async def accept(self, wanted: ChargeIn, trace: Trace, id: str | None = None) -> Taken:
        """Take one request; one whose ``id`` follows from its key is taken once.

        Raises ``BrokerUnavailable``, ``InvalidField``; with an id also ``NotCaughtUp``.
        """
        ready = self._prepared(wanted, id, "")
        job = await self._taken(ready, trace)
        return Taken(job, again=not isinstance(ready, ChargeRequest))

    async def accept_all(
        self, wanted: Sequence[ChargeIn], trace: Trace, ids: Sequence[str] | None = None
    ) -> list[Job]:
        """Take several requests, in their order; with ``ids`` only those not taken before.

        Raises ``InvalidField`` before any is published, ``PartlyAccepted`` where RabbitMQ confirmed
        some and not the others, ``BrokerUnavailable`` where it confirmed none.
        """
        ready = [
            self._prepared(each, ids[number] if ids else None, f"{number}.")
            for number, each in enumerate(wanted)
        ]
        taking = [self._taken(each, trace) for each in ready]
        results = await asyncio.gather(*taking, return_exceptions=True)
        jobs = [each for each in results if isinstance(each, Job)]
        for each in results:
            if isinstance(each, BrokerUnavailable) and jobs:
                raise PartlyAccepted([job.id for job in jobs], each)
            if isinstance(each, BaseException):
                raise each
        return jobs

    def _prepared(
        self, wanted: ChargeIn, id: str | None, where: str
    ) -> Job | _UnderWay | ChargeRequest:
        """Give what a request was taken as before, or else the request to publish."""
        if id is not None:
            if (known := self._log.job(id) or self._under_way.get(id)) is not None:
                check_same(self._request(wanted, id, where), known.request, where)
                return known
            if not self._log.caught_up.is_set():
                raise NotCaughtUp(STILL_READING)
        self._check_broker()
        self._check_wishes(wanted, where)
        return self._request(wanted, id or self._new_id(), where)

    def _taken(self, ready: Job | _UnderWay | ChargeRequest, trace: Trace) -> Awaitable[Job]:
        """Publish what is new, at once: who asks next with the same key must see it under way."""
        if isinstance(ready, ChargeRequest):
            ready = self._begin(ready, trace)
        return _job_of(ready)

    def _begin(self, request: ChargeRequest, trace: Trace) -> _UnderWay:
        task = asyncio.ensure_future(self._publish(request, trace))
        task.add_done_callback(lambda _: self._under_way.pop(request.id))
        begun = self._under_way[request.id] = _UnderWay(request.fields(), task)
        return begun

    def _request(self, wanted: ChargeIn, id: str, where: str) -> ChargeRequest:
        try:
            return wanted.request(id, self._clock())
        except InvalidField as error:
            raise InvalidField(where + error.field, error.problem) from None

    def _check_wishes(self, wanted: ChargeIn, where: str) -> None:
        now, leaves = self._clock(), wanted.departure_time
        if leaves is not None and leaves.timestamp() <= now:
            problem = f"must be in the future, got {leaves.isoformat()}"
            raise InvalidField(f"{where}departure_time", problem)
        named, known = wanted.eligible_substations, self._known()
        if named and known and known.isdisjoint(named):
            problem = f"there is no such substation, got {shown(named)}"
            raise InvalidField(f"{where}eligible_substations", problem)

    def _check_broker(self) -> None:
        if not self._publisher.connected:
            raise BrokerUnavailable("RabbitMQ is away")
        if self._publisher.blocked:
            raise BrokerUnavailable("RabbitMQ takes no messages now: it is short of memory or disk")
        if self._log.full:
            raise BrokerUnavailable(
                "too many accepted requests wait to be put on record in the event log "
                f"({topology.EVENTS})"
            )
        if self._publisher.backlog >= BACKLOG_MOST:
            raise BrokerUnavailable(f"{BACKLOG_MOST} requests wait for RabbitMQ already")

    async def _publish(self, request: ChargeRequest, trace: Trace) -> Job:
        await self._publisher.confirmed(
            topology.REQUESTS_EXCHANGE,
            topology.REQUESTS,
            request.encode(),
            id=request.id,
            timeout=self._confirm_timeout,
            headers=trace.headers(),
            priority=request.priority,
        )
        tell(log, request.id, trace, "accepted")
        job = self._log.note(kinds.queued(request))
        assert job is not None, "a queued event always names a job"  # noqa: S101
        return job


async def _job_of(taken: Job | _UnderWay) -> Job:
    """Wait until it is a job; others may wait for the same one."""
    return taken if isinstance(taken, Job) else await asyncio.shield(taken.job)
