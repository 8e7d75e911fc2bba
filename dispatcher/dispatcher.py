"""The way of a request: delivered, decided, sent, confirmed, acknowledged.

A request stays unacknowledged in ``charge.requests`` until RabbitMQ has confirmed its job on the
substation's queue and the decision in the event log. Whatever breaks before, RabbitMQ delivers it
again, and the job's id tells whether it had been sent.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from time import perf_counter
from typing import Final

from dispatcher import policy as policies
from dispatcher.acknowledger import Acknowledger
from dispatcher.ledger import Ledger
from dispatcher.parking import Parking
from dispatcher.policy import Candidate, Policy
from dispatcher.telemetry import Metrics
from grid import messages, topology
from grid.amqp import Consumer, Delivery, Outcome, Publisher
from grid.errors import MalformedMessage
from grid.event_log import EventWriter
from grid.events import Event, State
from grid.messages import ChargeRequest

REMEMBERED: Final = 200_000  # ids of jobs sent, to know a redelivered request by
HELD_FULL: Final = 0.9  # of the prefetch: beyond, what fits nowhere keeps out what would fit
SET_BACK: Final = 0.25  # of the prefetch, at once
SET_BACK_SECONDS: Final = 1.0  # between two times: what comes around again may still fit nowhere
SHOWN: Final = 5  # names that a reason repeats
NO_SUCH_SUBSTATION: Final = "no such substation"
MALFORMED: Final = "malformed"


@dataclass(slots=True, eq=False)
class Job:
    """A request in hand; ``tag`` is its delivery, or None since the link broke."""

    request: ChargeRequest
    body: bytes
    tag: int | None
    substation: str = ""  # where it is being sent
    attempt: int = 0
    sent: bool = False
    unrecorded: int = 0  # decisions on their way to the event log
    returning: bool = False  # on its way back to the queue


class Dispatcher:
    """Sends requests to substations. ``clock`` gives Unix seconds, ``now`` the ledger's seconds."""

    def __init__(
        self,
        ledger: Ledger,
        policy: Policy,
        publisher: Publisher,
        events: EventWriter,
        metrics: Metrics,
        *,
        random: Random,
        clock: Callable[[], float],
        now: Callable[[], float],
        on_missing_queue: Callable[[str], None],
        on_delivery: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._policy = policy
        self._publisher = publisher
        self._events = events
        self._metrics = metrics
        self._random = random
        self._clock = clock
        self._now = now
        self._on_missing_queue = on_missing_queue
        self._on_delivery = on_delivery
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._placed: list[Job] = []  # decided in this turn, about to be published
        self._route_due = False
        self._stopping = False
        self._set_back_at = 0.0
        self._consumer: Consumer
        self._prefetch: int
        self._sending: Counter[str] = Counter()  # by substation
        self._sent: OrderedDict[str, None] = OrderedDict()
        self._acks = Acknowledger()
        self._parking = Parking(publisher, events, metrics, clock=clock, parked=self._acks.done)

    def connect(self, consumer: Consumer, prefetch: int) -> None:
        """Give it the link that delivers, which holds at most ``prefetch`` requests here."""
        self._consumer = self._acks.consumer = consumer
        self._prefetch = prefetch

    @property
    def waiting(self) -> int:
        """How many requests wait for room."""
        return len(self._waiting)

    def sending(self, substation: str) -> int:
        """How many jobs are on their way to a substation's queue, not confirmed yet."""
        return self._sending[substation]

    def candidates(self) -> list[Candidate]:
        """Give every substation as a decision would see it now."""
        now, ledger = self._now(), self._ledger
        return [policies.candidate(each, ledger, now) for each in ledger.accounts.values()]

    def deliver(self, delivery: Delivery) -> None:
        """Take a request from ``charge.requests``."""
        self._acks.delivered(delivery.tag)
        self._on_delivery()
        if delivery.redelivered:
            self._metrics.redelivered.inc()
        try:
            request = messages.decode(delivery.body)
        except MalformedMessage as error:
            self._parking.park(delivery.tag, delivery.body, delivery.id, MALFORMED, str(error))
            return
        if not self._known(request.id, delivery):
            self._jobs[request.id] = job = Job(request, delivery.body, delivery.tag)
            self._waiting.append(job)
            self._route_soon()

    def forget(self) -> None:
        """Let go of all deliveries: the link broke, and RabbitMQ will deliver them again."""
        self._acks.forget()
        self._parking.forget()
        for job in self._waiting:
            del self._jobs[job.request.id]
        self._waiting.clear()
        for job in self._jobs.values():
            job.tag = None

    async def stop(self) -> None:
        """Decide nothing more, and acknowledge all that RabbitMQ has confirmed by now."""
        self._stopping = True
        self._consumer.stop()
        await self._events.finish()
        self._acks.finish()

    def route(self) -> None:
        """Send every waiting request that some substation has room for, the oldest first.

        The decisions go out before the jobs, all in one message, so that the event log has a job's
        decision before its substation's first word of it.
        """
        self._route_due = False
        if self._stopping:
            return
        candidates = {each.substation: each for each in self.candidates()}
        passed: list[Job] = []
        no_room: set[tuple[str, ...]] = set()  # for requests that name these
        while self._waiting and () not in no_room:
            job = self._waiting.popleft()
            named = job.request.eligible_substations
            if named in no_room or not self._place(job, candidates):
                no_room.add(named)
                passed.append(job)
        self._waiting.extendleft(reversed(passed))
        self._events.flush()
        placed, self._placed = self._placed, []
        for job in placed:
            self._publish(job)
        if () not in no_room and len(self._waiting) > HELD_FULL * self._prefetch:
            self._set_back()

    def _route_soon(self) -> None:
        """Route what one turn of the loop has brought all at once."""
        if not self._route_due:
            self._route_due = True
            asyncio.get_running_loop().call_soon(self.route)

    def _set_back(self) -> None:
        """Put the oldest of those that fit nowhere now behind all that are in the queue.

        There is room for others, and no more can be held here to look for them. A request is
        published again before its delivery is acknowledged; its id tells one copy from two.
        """
        if self._now() < self._set_back_at:
            return
        self._set_back_at = self._now() + SET_BACK_SECONDS
        for _ in range(max(1, int(SET_BACK * self._prefetch))):
            job = self._waiting.popleft()
            job.returning = True
            done, requests = partial(self._on_set_back, job), topology.REQUESTS
            self._publisher.publish(requests, requests, job.body, done, id=job.request.id)

    def _on_set_back(self, job: Job, outcome: Outcome) -> None:
        job.returning = False
        unique = self._jobs.get(job.request.id) is job  # no copy of it has come yet
        if outcome is not Outcome.CONFIRMED and unique and job.tag is not None:
            self._waiting.appendleft(job)
            return
        if unique:
            del self._jobs[job.request.id]
        if job.tag is not None:
            self._acks.done(job.tag)

    def _known(self, id: str, delivery: Delivery) -> bool:
        """See to a request whose job is in hand, or was sent before."""
        job = self._jobs.get(id)
        if job is not None and job.returning:
            return False  # the copy that was set back is here before the confirm
        if job is None and id not in self._sent:
            return False
        if job is not None and job.tag is None:
            job.tag = delivery.tag
            return True
        if not delivery.redelivered:
            self._metrics.duplicates.inc()
        self._acks.done(delivery.tag)
        return True

    def _hopeless(self, job: Job) -> bool:
        """Tell whether a request names substations, and none of them exists."""
        known, named = self._ledger.accounts.keys(), job.request.eligible_substations
        return bool(known and named) and known.isdisjoint(named)

    def _place(self, job: Job, candidates: dict[str, Candidate]) -> bool:
        """Send a request, or park it where no substation it names exists; else leave it waiting."""
        named = job.request.eligible_substations
        if self._hopeless(job):
            del self._jobs[job.request.id]
            more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
            reason = f"{NO_SUCH_SUBSTATION}: {', '.join(named[:SHOWN])}{more}"
            self._parking.park(job.tag, job.body, job.request.id, NO_SUCH_SUBSTATION, reason)
            return True
        began = perf_counter()
        seen = list(candidates.values())
        open_to = policies.usable(seen, named)
        if not open_to:
            return False
        chosen, reason = self._policy.choose(open_to, self._random)
        self._metrics.decision_seconds.observe(perf_counter() - began)
        detail = policies.record(self._policy.name, reason, seen, chosen, named)
        self._assign(job, chosen.substation, {"requested_at": job.request.requested_at, **detail})
        account = self._ledger.accounts[chosen.substation]
        candidates[chosen.substation] = policies.candidate(account, self._ledger, self._now())
        return True

    def _assign(self, job: Job, substation: str, decision: dict[str, object]) -> None:
        job.substation, job.attempt = substation, job.attempt + 1
        self._ledger.dispatch(substation, self._now())
        self._sending[substation] += 1
        job.unrecorded += 1
        self._events.write(
            Event(
                State.ASSIGNED,
                self._clock(),
                job=job.request.id,
                substation=substation,
                attempt=job.attempt,
                detail=decision,
            ),
            partial(self._on_recorded, job),
        )
        self._placed.append(job)

    def _publish(self, job: Job) -> None:
        self._publisher.publish(
            topology.SUBSTATIONS_EXCHANGE,
            job.substation,
            job.body,
            partial(self._on_answer, job),
            id=job.request.id,
        )

    def _on_answer(self, job: Job, outcome: Outcome) -> None:
        self._sending[job.substation] -= 1
        if outcome is Outcome.CONFIRMED:
            job.sent = True
            self._metrics.decisions.labels(job.substation).inc()
            self._metrics.wait_seconds.observe(max(0, self._clock() - job.request.requested_at))
            self._close(job)
        else:
            self._take_back(job, outcome)

    def _take_back(self, job: Job, outcome: Outcome) -> None:
        """Let a job that a substation's queue did not take go elsewhere."""
        self._ledger.undo(job.substation)
        self._ledger.fail(job.substation, f"its queue does not take jobs: {outcome.value}")
        self._metrics.refused.labels(job.substation).inc()
        if outcome is Outcome.UNROUTABLE:
            self._on_missing_queue(job.substation)
        if job.tag is None:
            del self._jobs[job.request.id]  # RabbitMQ delivers it again
        else:
            self._waiting.appendleft(job)
            self._route_soon()

    def _on_recorded(self, job: Job, written: bool) -> None:  # noqa: FBT001
        job.unrecorded -= 1
        if not written:
            self._metrics.events_lost.inc()
        self._close(job)

    def _close(self, job: Job) -> None:
        if not job.sent or job.unrecorded:
            return
        del self._jobs[job.request.id]
        self._sent[job.request.id] = None
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)
        if job.tag is not None:
            self._acks.done(job.tag)
