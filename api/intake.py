"""The intake of charge requests: a request is accepted once RabbitMQ has confirmed it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Final, NamedTuple

from api.auth import AuthResult
from api.errors import ImpossibleRequest, PartlyAccepted
from api.idempotency import check_same
from api.jobs.event_log import EventLog
from api.jobs.job import Job
from api.schemas import ChargeIn
from grid import kinds, topology
from grid.amqp import Outcome, Publisher
from grid.errors import BrokerUnavailable, InvalidField
from grid.logs import tell
from grid.messages import DEFAULT_POWER_KW, ChargeRequest, shown
from grid.trace import Trace
from scheduling.reasons import NO_SUCH_SUBSTATION

log = logging.getLogger(__name__)

MAX_BACKLOG: Final = 10_000  # requests that wait for RabbitMQ's confirm at once
DAY: Final = 86_400  # seconds
MAX_AHEAD: Final = 366 * DAY  # for an earliest start: a later one is a mistake


class AcceptedJob(NamedTuple):
    """The job of a request; ``is_replay`` says that the same request was accepted before."""

    job: Job
    is_replay: bool


class _NewRequest(NamedTuple):
    """A request to publish, and its message."""

    request: ChargeRequest
    body: bytes


class _ConfirmWait:
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
class _Pending:
    """A published request; ``outcome`` is None until RabbitMQ has answered.

    ``due`` is the time of the loop at which it times out. ``waits`` are counted down once it has an
    outcome: several callers may wait for the same request.
    """

    message: ChargeRequest
    trace: Trace
    due: float
    waits: list[_ConfirmWait] = field(default_factory=list)
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

    Args:
        clock: Returns Unix seconds.
        new_id: Returns a new job id.
        reason_never: Returns why no substation can ever take a request for these substations (all
            if none is named) and this power in kW: in a word and in full; None if one can.
    """

    def __init__(
        self,
        publisher: Publisher,
        log: EventLog,
        confirm_timeout: float,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        reason_never: Callable[[Sequence[str], float], tuple[str, str] | None],
    ) -> None:
        self._publisher = publisher
        self._log = log
        self._confirm_timeout = confirm_timeout
        self._clock = clock
        self._new_id = new_id
        self._reason_never = reason_never
        self._pending: dict[str, _Pending] = {}  # in the order in which they time out
        self._timer: asyncio.TimerHandle | None = None
        self.accepted = 0  # requests, since the start

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()  # each call is a system call in Python 3.11

    async def accept(
        self, charge_in: ChargeIn, caller: AuthResult, trace: Trace, id: str | None = None
    ) -> AcceptedJob:
        """Publish one request, and return its job; with an ``id`` made of a key, only once.

        Raises:
            BrokerUnavailable: RabbitMQ refuses it, or has not confirmed it in time.
            InvalidField: the request cannot be met.
            NotCaughtUp: with an id, it is not known yet whether the request was accepted before.
        """
        prepared = self._prepare(charge_in, caller, id, "")
        entry = self._publish_if_new(prepared, trace, trace.headers())
        await self._wait_for_confirms([entry])
        return AcceptedJob(_job_of(entry), is_replay=not isinstance(prepared, _NewRequest))

    async def accept_all(
        self,
        charges_in: Sequence[ChargeIn],
        caller: AuthResult,
        trace: Trace,
        ids: Sequence[str] | None = None,
    ) -> list[AcceptedJob]:
        """Publish several requests, in their order; with ``ids`` only those not accepted before.

        Raises:
            InvalidField: one of them cannot be met; none is published.
            PartlyAccepted: RabbitMQ confirmed some; the others failed, for whatever reason.
            BrokerUnavailable: RabbitMQ confirmed none.
        """
        prepared = [
            self._prepare(each, caller, ids[number] if ids else None, f"{number}.")
            for number, each in enumerate(charges_in)
        ]
        headers = trace.headers()
        entries = [self._publish_if_new(each, trace, headers) for each in prepared]
        await self._wait_for_confirms(entries)
        outcomes = [each if isinstance(each, Job) else each.outcome for each in entries]
        jobs = [
            AcceptedJob(outcome, is_replay=not isinstance(request, _NewRequest))
            for request, outcome in zip(prepared, outcomes, strict=True)
            if isinstance(outcome, Job)
        ]
        if failures := [each for each in outcomes if isinstance(each, Exception)]:
            # an unexpected error comes first: so it is logged in any case
            first = min(failures, key=lambda each: isinstance(each, BrokerUnavailable))
            if not jobs:
                raise first
            raise PartlyAccepted([each.job.id for each in jobs], _as_unavailable(first, trace))
        return jobs

    def _prepare(
        self, charge_in: ChargeIn, caller: AuthResult, id: str | None, where: str
    ) -> Job | _Pending | _NewRequest:
        """Return the job or the published request of the same id, else the request to publish."""
        if id is not None:
            if (known := self._log.job(id) or self._pending.get(id)) is not None:
                check_same(self._request(charge_in, caller, id, where), known.request, where)
                return known
            self._log.check_caught_up()
        self._check_broker()
        self._check_requirements(charge_in, where)
        request = self._request(charge_in, caller, id or self._new_id(), where)
        return _NewRequest(request, request.encode())

    def _publish_if_new(
        self, prepared: Job | _Pending | _NewRequest, trace: Trace, headers: Mapping[str, str]
    ) -> Job | _Pending:
        """Publish a new request at once: a repetition with the same key must find it published."""
        return (
            self._publish(prepared, trace, headers)
            if isinstance(prepared, _NewRequest)
            else prepared
        )

    def _publish(self, new: _NewRequest, trace: Trace, headers: Mapping[str, str]) -> _Pending:
        """Publish a request; if that fails, end it with the error for its client."""
        request, body = new
        due = self._loop.time() + self._confirm_timeout
        pending = _Pending(request, trace, due)
        self._pending[request.id] = pending
        if self._timer is None:
            self._watch(pending)
        try:
            self._publisher.publish(
                topology.REQUESTS_EXCHANGE,
                topology.REQUESTS,
                body,
                partial(self._on_outcome, pending),
                id=request.id,
                headers=headers,
                priority=request.priority,
                wanted=pending.is_open,
            )
        except Exception as error:  # noqa: BLE001  # raised to whoever waits for it
            if pending.is_open():
                self._end(pending, error)
        return pending

    async def _wait_for_confirms(self, entries: Sequence[Job | _Pending]) -> None:
        """Wait until every published request has an outcome; others may wait for the same."""
        waited_for = [each for each in entries if isinstance(each, _Pending) and each.is_open()]
        if waited_for:
            wait = _ConfirmWait(len(waited_for), self._loop)
            for each in waited_for:
                each.waits.append(wait)
            await wait.over

    def _request(
        self, charge_in: ChargeIn, caller: AuthResult, id: str, where: str
    ) -> ChargeRequest:
        try:
            return charge_in.request(id, self._clock(), caller.tenant(charge_in.tenant))
        except InvalidField as error:
            raise InvalidField(where + error.field, error.problem) from None

    def _check_requirements(self, charge_in: ChargeIn, where: str) -> None:
        now, leaves = self._clock(), charge_in.departure_time
        if leaves is not None and leaves.timestamp() <= now:
            problem = f"must be in the future, got {leaves.isoformat()}"
            raise InvalidField(f"{where}departure_time", problem)
        earliest = charge_in.earliest_start
        if leaves is not None and earliest is not None and earliest >= leaves:
            before = f"must be before the departure_time, {leaves.isoformat()}"
            raise InvalidField(f"{where}earliest_start", f"{before}, got {earliest.isoformat()}")
        if earliest is not None and earliest.timestamp() > now + MAX_AHEAD:
            at_most = f"must be at most {MAX_AHEAD // DAY} days ahead"
            raise InvalidField(f"{where}earliest_start", f"{at_most}, got {earliest.isoformat()}")
        allowed = charge_in.eligible_substations or ()
        power_kw = charge_in.requested_power_kw or DEFAULT_POWER_KW
        never = self._reason_never(allowed, power_kw)
        if never is None:
            return
        if never[0] == NO_SUCH_SUBSTATION:
            problem = f"there is no such substation, got {shown(allowed)}"
            raise ImpossibleRequest(f"{where}eligible_substations", problem)
        raise ImpossibleRequest(f"{where}requested_power_kw", never[1])

    def _check_broker(self) -> None:
        if not self._publisher.connected:
            raise BrokerUnavailable("RabbitMQ is away")
        if self._publisher.blocked:
            raise BrokerUnavailable(
                "RabbitMQ accepts no messages now: it is short of memory or disk"
            )
        if self._log.full:
            raise BrokerUnavailable(
                "too many accepted requests wait to be put on record in the event log "
                f"({topology.EVENTS})"
            )
        if self._publisher.backlog >= MAX_BACKLOG:
            raise BrokerUnavailable(f"{MAX_BACKLOG} requests wait for RabbitMQ already")

    def _on_outcome(self, pending: _Pending, outcome: Outcome) -> None:
        """Record a confirmed request as a job, and end the wait for it, whatever the outcome."""
        if not pending.is_open():  # too late: its client was answered that it timed out
            return
        if outcome is Outcome.CONFIRMED:
            try:
                self._end(pending, self._record_job(pending))
            except Exception as error:  # noqa: BLE001  # raised to whoever waits for it
                self._end(pending, error)
            return
        nowhere = f", there is no queue for {topology.REQUESTS}"
        why = outcome.value + (nowhere if outcome is Outcome.UNROUTABLE else "")
        self._end(pending, BrokerUnavailable(f"RabbitMQ answered {_named(pending)}: {why}"))

    def _record_job(self, pending: _Pending) -> Job:
        tell(log, pending.id, pending.trace, "accepted")
        self.accepted += 1
        job = self._log.record(kinds.queued(pending.message), pending.trace.exemplar)
        assert job is not None, "a queued event always names a job"  # noqa: S101
        return job

    def _end(self, pending: _Pending, outcome: Job | Exception) -> None:
        pending.outcome = outcome
        del self._pending[pending.id]
        for each in pending.waits:
            each.count_down()

    def _watch(self, oldest: _Pending) -> None:
        """Look again when the oldest request is due; one timer serves all of them."""
        self._timer = self._loop.call_at(oldest.due, self._give_up_overdue)

    def _give_up_overdue(self) -> None:
        """End requests that were not confirmed in time: they may arrive, but are not sent again."""
        self._timer = None
        now = self._loop.time()
        while (oldest := next(iter(self._pending.values()), None)) is not None:
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


def _job_of(entry: Job | _Pending) -> Job:
    outcome = entry.outcome if isinstance(entry, _Pending) else entry
    assert outcome is not None, "the request has an outcome"  # noqa: S101
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _named(pending: _Pending) -> str:
    return f"{pending.id} on {topology.REQUESTS_EXCHANGE}"
