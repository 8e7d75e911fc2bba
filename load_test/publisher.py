"""Sending one request until it gets a final answer: to the api, or straight to RabbitMQ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol, cast

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_before_delay,
    wait_random_exponential,
)

from grid import amqp, topology
from grid.errors import BrokerUnavailable
from grid.messages import ChargeRequest
from load_test import records
from load_test.client import Accepted, Api, Refused, TryAgain
from load_test.records import Answer, UnexpectedAnswer

DEFAULT_RETRY_TIMEOUT: Final = 60.0
CONFIRM_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 10.0
_DECISION_SECONDS: Final = 1.0  # as long as the api itself waits for a decision
_LOOK_AGAIN_SECONDS: Final = 0.05
_LIST: Final = "eligible_substations"
_TIMES: Final = ("departure_time", "earliest_start")
_AGAIN: Final = (TryAgain, BrokerUnavailable)
_backoff: Final = wait_random_exponential(multiplier=0.1, max=5)

Sleep = Callable[[float], Awaitable[None]]


class Publisher(Protocol):
    """A way to send requests to where they are accepted; times in them are Unix seconds."""

    async def once(self, job: str, body: Mapping[str, Any]) -> Accepted:
        """Send one request, once; ``job`` is the id to use if the sender chooses it.

        Raise ``TryAgain`` or ``BrokerUnavailable`` if it may be sent again, ``Refused`` or
        ``UnexpectedAnswer`` if that is of no use.
        """


class Clock(NamedTuple):
    """A steady clock, the wall clock (Unix seconds), and a way to sleep."""

    steady: Callable[[], float]
    wall: Callable[[], float]
    sleep: Sleep


@dataclass(frozen=True)
class Sender:
    """A sender that retries each request through a publisher, for ``retry_timeout`` seconds.

    The pause before a retry is what ``Retry-After`` asks for plus a random one, which grows, so
    that many senders do not come back at once.
    """

    publisher: Publisher
    new_id: Callable[[], str]
    clock: Clock
    retry_timeout: float = DEFAULT_RETRY_TIMEOUT

    async def send(self, body: Mapping[str, Any], due: float) -> Answer:
        """Send one request, due at ``due`` on the steady clock; errors are part of the answer."""
        late = max(0.0, self.clock.steady() - due)
        due_at = self.clock.wall() - late
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_AGAIN),
            wait=_pause,
            stop=stop_before_delay(self.retry_timeout),
            sleep=self.clock.sleep,
            reraise=True,
        )
        answer = await self._tried(retrying, self.new_id(), body)
        retries = int(retrying.statistics.get("attempt_number", 1)) - 1
        seconds = self.clock.steady() - due
        return replace(answer, seconds=seconds, retries=retries, due=due_at, late_seconds=late)

    async def _tried(self, retrying: AsyncRetrying, job: str, body: Mapping[str, Any]) -> Answer:
        try:
            attempt: object = retrying(self.publisher.once, job, body)
            accepted = await cast(Awaitable[Accepted], attempt)
        except (*_AGAIN, Refused, UnexpectedAnswer) as error:
            return Answer(None, 0.0, reason=str(error))
        return Answer(
            accepted.job,
            0.0,
            routed_to=accepted.routed_to,
            loads=accepted.loads,
            reason=accepted.reason,
        )


@dataclass(frozen=True)
class ApiPublisher:
    """A publisher by ``POST /charge``."""

    api: Api
    wait: bool = True

    async def once(self, job: str, body: Mapping[str, Any]) -> Accepted:  # noqa: ARG002  # the api chooses the id
        """Send one request, once; see ``Publisher``."""
        known = {name: body[name] for name in _TIMES if body.get(name) is not None}
        times = {name: datetime.fromtimestamp(at, UTC).isoformat() for name, at in known.items()}
        return await self.api.charge({**body, **times}, wait=self.wait)


@dataclass(frozen=True)
class AmqpPublisher:
    """A publisher to ``charge.requests`` with confirms.

    With ``api``, it then asks there for the decision, for as long as the api would have waited.
    """

    link: amqp.Publisher
    clock: Clock
    api: Api | None = field(default=None)

    async def once(self, job: str, body: Mapping[str, Any]) -> Accepted:
        """Send one request, once; see ``Publisher``. When sent again, it keeps its id."""
        fields = {**body}
        if _LIST in fields:
            fields[_LIST] = tuple(fields[_LIST])
        request = ChargeRequest(id=job, requested_at=self.clock.wall(), **fields)
        await self.link.confirmed(
            topology.REQUESTS_EXCHANGE,
            topology.REQUESTS,
            request.encode(),
            id=job,
            timeout=CONFIRM_SECONDS,
            priority=request.priority,
        )
        routed_to, loads = await self._decision(job)
        return Accepted(job, routed_to, loads, "")

    async def _decision(self, job: str) -> tuple[str | None, dict[str, float]]:
        until = self.clock.steady() + _DECISION_SECONDS
        while self.api is not None and self.clock.steady() < until:
            try:
                value = await self.api.job(job)
            except TryAgain:
                value = None  # the request is accepted: only its log line is shorter
            if value is not None and value.get("substation") is not None:
                return records.decision(value)
            await self.clock.sleep(_LOOK_AGAIN_SECONDS)
        return None, {}


@asynccontextmanager
async def connected(urls: tuple[str, ...]) -> AsyncIterator[amqp.Publisher]:
    """Keep a link to RabbitMQ up for as long as the context lasts.

    Raise ``BrokerUnavailable`` if none of the addresses answers at the start.
    """
    said: list[str] = []
    link = amqp.Publisher("load_test", urls, lambda _name, _up, why: said.append(why))
    task = asyncio.create_task(link.run())
    try:
        await _until_up(link, said)
        yield link
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _until_up(link: amqp.Publisher, said: list[str]) -> None:
    try:
        await asyncio.wait_for(link.up.wait(), _CONNECT_SECONDS)
    except TimeoutError:
        why = said[-1] if said else "no answer"
        raise BrokerUnavailable(
            f"RabbitMQ: {why}; check AMQP_URL, AMQP_USER, AMQP_PASSWORD_FILE"
        ) from None


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    return (error.after if isinstance(error, TryAgain) else 0.0) + _backoff(state)
