"""Taking charge requests: accepted means that RabbitMQ has confirmed them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence, Set

from api.log import EventLog
from api.problems import PartlyAccepted
from api.projection import Job
from api.schemas import ChargeIn
from grid import topology
from grid.amqp import Publisher
from grid.errors import BrokerUnavailable, InvalidField
from grid.events import Event, State
from grid.messages import ChargeRequest, shown

BACKLOG_MOST = 10_000  # requests that wait for RabbitMQ's confirm at once


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

    async def accept(self, wanted: ChargeIn) -> Job:
        """Take one request. Raises ``BrokerUnavailable``, ``InvalidField``."""
        self._check_broker()
        return await self._publish(self._request(wanted, ""))

    async def accept_all(self, wanted: Sequence[ChargeIn]) -> list[Job]:
        """Take several requests, in their order.

        Raises ``InvalidField`` before any is published, ``PartlyAccepted`` where RabbitMQ confirmed
        some and not the others, ``BrokerUnavailable`` where it confirmed none.
        """
        self._check_broker()
        requests = [self._request(each, f"{number}.") for number, each in enumerate(wanted)]
        results = await asyncio.gather(*map(self._publish, requests), return_exceptions=True)
        jobs = [each for each in results if isinstance(each, Job)]
        for each in results:
            if isinstance(each, BrokerUnavailable) and jobs:
                raise PartlyAccepted([job.id for job in jobs], each)
            if isinstance(each, BaseException):
                raise each
        return jobs

    def _request(self, wanted: ChargeIn, where: str) -> ChargeRequest:
        now, leaves = self._clock(), wanted.departure_time
        if leaves is not None and leaves.timestamp() <= now:
            problem = f"must be in the future, got {leaves.isoformat()}"
            raise InvalidField(f"{where}departure_time", problem)
        named, known = wanted.eligible_substations, self._known()
        if named and known and known.isdisjoint(named):
            problem = f"there is no such substation, got {shown(named)}"
            raise InvalidField(f"{where}eligible_substations", problem)
        try:
            return wanted.request(self._new_id(), now)
        except InvalidField as error:
            raise InvalidField(where + error.field, error.problem) from None

    def _check_broker(self) -> None:
        if not self._publisher.connected:
            raise BrokerUnavailable("RabbitMQ is away")
        if self._publisher.blocked:
            raise BrokerUnavailable("RabbitMQ takes no messages now: it is short of memory or disk")
        if self._publisher.backlog >= BACKLOG_MOST:
            raise BrokerUnavailable(f"{BACKLOG_MOST} requests wait for RabbitMQ already")

    async def _publish(self, request: ChargeRequest) -> Job:
        requests = topology.REQUESTS
        await self._publisher.confirmed(
            requests,
            requests,
            request.encode(),
            id=request.id,
            timeout=self._confirm_timeout,
            priority=request.priority,
        )
        queued = Event(State.QUEUED, request.requested_at, job=request.id, detail=request.fields())
        job = self._log.note(queued)
        assert job is not None, "a queued event always names a job"  # noqa: S101
        return job
