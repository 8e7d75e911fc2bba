"""The intake of charge requests: accepted means that RabbitMQ has confirmed them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

from api.idempotency import check_same
from api.job import Job
from api.log import EventLog
from api.problems import NotCaughtUp, PartlyAccepted
from api.schemas import ChargeIn
from grid import kinds, topology
from grid.amqp import Outcome, Publisher
from grid.errors import STILL_READING, BrokerUnavailable, InvalidField
from grid.logs import tell
from grid.messages import ChargeRequest, shown
from grid.trace import Trace

log = logging.getLogger(__name__)

BACKLOG_MOST = 10_000  # requests that wait for RabbitMQ's confirm at once


class Taken(NamedTuple):
    """The job that a request has become; ``again`` says that it was one before."""

    job: Job
    again: bool


class _New(NamedTuple):
    """A request to publish, and its message."""

    request: ChargeRequest
    body: bytes


class _Wait:
    """A wait until a number of requests have an outcome, with one future for all of them."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._left = number
        self.over: asyncio.Future[None] = loop.create_future()

    def count_down(self) -> None:
        """Count one request that has its outcome."""
        self._left -= 1
        if not self._left and not self.over.done():
            self.over.set_result(None)


@dataclass(slots=True, eq=False)
class _UnderWay:
    """A published request; ``outcome`` is None until RabbitMQ has answered.

    ``due`` is the time of the loop at which it times out. ``waits`` are counted down once it has an
    outcome: several callers may wait for the same request.
    """

    message: ChargeRequest
    trace: Trace
    due: float
    waits: list[_Wait] = field(default_factory=list)
    outcome: Job | Exception | None = None

    @property
    def id(self) -> str:
        """Return the id that the job will have."""
        return self.message.id

    @property
    def request(self) -> Mapping[str, Any]:
        """Return what the client asked for, as a job has it."""
        return self.message.fields()

    def is_open(self) -> bool:
        """Return whether the request has no outcome yet."""
        return self.outcome is None


class Intake:
    """A publisher of requests, which records each in the event log once RabbitMQ has it.

    ``clock`` returns Unix seconds, ``new_id`` a new job id, ``known`` the ids of the substations,
    empty while they are not known.
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
        self._under_way: dict[str, _UnderWay] = {}  # in the order in which they are due
        self._timer: asyncio.TimerHandle | None = None

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()  # each call is a system call in Python 3.11

    async def accept(self, wanted: ChargeIn, trace: Trace, id: str | None = None) -> Taken:
        """Publish one request, and return its job; with an ``id`` made of a key, only once.

        Raises:
            BrokerUnavailable: RabbitMQ refuses it, or has not confirmed it in time.
            InvalidField: the request cannot be met.
            NotCaughtUp: with an id, it is not known yet whether the request was accepted before.
        """
        ready = self._prepared(wanted, id, "")
        taken = self._publish_if_new(ready, trace, trace.headers())
        await self._wait_for_confirms([taken])
        return Taken(_job_of(taken), again=not isinstance(ready, _New))

    async def accept_all(
        self, wanted: Sequence[ChargeIn], trace: Trace, ids: Sequence[str] | None = None
    ) -> list[Job]:
        """Publish several requests, in their order; with ``ids`` only those not accepted before.

        Raises:
            InvalidField: one of them cannot be met; none is published.
            PartlyAccepted: RabbitMQ confirmed some; the others failed, for whatever reason.
            BrokerUnavailable: RabbitMQ confirmed none.
        """
        ready = [
            self._prepared(each, ids[number] if ids else None, f"{number}.")
            for number, each in enumerate(wanted)
        ]
        headers = trace.headers()
        taken = [self._publish_if_new(each, trace, headers) for each in ready]
        await self._wait_for_confirms(taken)
        outcomes = [each if isinstance(each, Job) else each.outcome for each in taken]
        jobs = [each for each in outcomes if isinstance(each, Job)]
        if failures := [each for each in outcomes if isinstance(each, Exception)]:
            # an unexpected error comes first: so it is logged in any case
            first = min(failures, key=lambda each: isinstance(each, BrokerUnavailable))
            if not jobs:
                raise first
            raise PartlyAccepted([job.id for job in jobs], _as_unavailable(first, trace))
        return jobs

    def _prepared(self, wanted: ChargeIn, id: str | None, where: str) -> Job | _UnderWay | _New:
        """Return the job or the published request of the same id, else the request to publish."""
        if id is not None:
            if (known := self._log.job(id) or self._under_way.get(id)) is not None:
                check_same(self._request(wanted, id, where), known.request, where)
                return known
            if not self._log.caught_up.is_set():
                raise NotCaughtUp(STILL_READING)
        self._check_broker()
        self._check_requirements(wanted, where)
        request = self._request(wanted, id or self._new_id(), where)
        return _New(request, request.encode())

    def _publish_if_new(
        self, ready: Job | _UnderWay | _New, trace: Trace, headers: Mapping[str, str]
    ) -> Job | _UnderWay:
        """Publish a new request at once: a repetition with the same key must find it published."""
        return self._publish(ready, trace, headers) if isinstance(ready, _New) else ready

    def _publish(self, new: _New, trace: Trace, headers: Mapping[str, str]) -> _UnderWay:
        """Publish a request; if that fails, end it with the error for its client."""
        request, body = new
        due = self._loop.time() + self._confirm_timeout
        begun = _UnderWay(request, trace, due)
        self._under_way[request.id] = begun
        if self._timer is None:
            self._watch(begun)
        try:
            self._publisher.publish(
                topology.REQUESTS_EXCHANGE,
                topology.REQUESTS,
                body,
                partial(self._on_outcome, begun),
                id=request.id,
                headers=headers,
                priority=request.priority,
                wanted=begun.is_open,
            )
        except Exception as error:  # noqa: BLE001  # raised to whoever waits for it
            if begun.is_open():
                self._end(begun, error)
        return begun

    async def _wait_for_confirms(self, taken: Sequence[Job | _UnderWay]) -> None:
        """Wait until every published request has an outcome; others may wait for the same."""
        waited_for = [each for each in taken if isinstance(each, _UnderWay) and each.is_open()]
        if waited_for:
            wait = _Wait(len(waited_for), self._loop)
            for each in waited_for:
                each.waits.append(wait)
            await wait.over

    def _request(self, wanted: ChargeIn, id: str, where: str) -> ChargeRequest:
        try:
            return wanted.request(id, self._clock())
        except InvalidField as error:
            raise InvalidField(where + error.field, error.problem) from None

    def _check_requirements(self, wanted: ChargeIn, where: str) -> None:
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

    def _on_outcome(self, begun: _UnderWay, outcome: Outcome) -> None:
        """Record a confirmed request as a job, and end the wait for it, whatever the outcome."""
        if not begun.is_open():  # too late: its client was told that it timed out
            return
        if outcome is Outcome.CONFIRMED:
            try:
                self._end(begun, self._record_job(begun))
            except Exception as error:  # noqa: BLE001  # whoever asked is told
                self._end(begun, error)
            return
        nowhere = f", there is no queue for {topology.REQUESTS}"
        why = outcome.value + (nowhere if outcome is Outcome.UNROUTABLE else "")
        self._end(begun, BrokerUnavailable(f"RabbitMQ answered {_named(begun)}: {why}"))

    def _record_job(self, begun: _UnderWay) -> Job:
        tell(log, begun.id, begun.trace, "accepted")
        job = self._log.note(kinds.queued(begun.message))
        assert job is not None, "a queued event always names a job"  # noqa: S101
        return job

    def _end(self, begun: _UnderWay, outcome: Job | Exception) -> None:
        begun.outcome = outcome
        del self._under_way[begun.id]
        for each in begun.waits:
            each.count_down()

    def _watch(self, oldest: _UnderWay) -> None:
        """Look again when the oldest request is due; one timer serves all of them."""
        self._timer = self._loop.call_at(oldest.due, self._give_up_overdue)

    def _give_up_overdue(self) -> None:
        """End requests that were not confirmed in time: they may arrive, but are not sent again."""
        self._timer = None
        now = self._loop.time()
        while (oldest := next(iter(self._under_way.values()), None)) is not None:
            if oldest.due > now:
                self._watch(oldest)
                return
            within = f"within {self._confirm_timeout:g} s"
            why = f"RabbitMQ has not confirmed {_named(oldest)} {within}"
            self._end(oldest, BrokerUnavailable(why))


def _as_unavailable(error: Exception, trace: Trace) -> BrokerUnavailable:
    """Return the error that the client of a list gets; log an unexpected one."""
    if isinstance(error, BrokerUnavailable):
        return error
    log.error("a request of a list failed, trace %s", trace.trace_id, exc_info=error)
    return BrokerUnavailable(f"the server failed; its log says how, under {trace.trace_id}")


def _job_of(taken: Job | _UnderWay) -> Job:
    outcome = taken.outcome if isinstance(taken, _UnderWay) else taken
    assert outcome is not None, "it is answered for"  # noqa: S101
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _named(begun: _UnderWay) -> str:
    return f"{begun.id} on {topology.REQUESTS_EXCHANGE}"
