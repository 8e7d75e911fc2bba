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
from dispatcher.acknowledgements import AckWindow
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
GAP_SECONDS: Final = 0.05  # how long an acknowledgement waits for those before it
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
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._placed: list[Job] = []  # decided in this turn, about to be published
        self._route_due = False
        self._sending: Counter[str] = Counter()  # by substation
        self._sent: OrderedDict[str, None] = OrderedDict()
        self._window = AckWindow()
        self._ack_due = False
        self._parking = Parking(publisher, events, metrics, clock=clock, parked=self._done)
        self.consumer: Consumer

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
        self._window.delivered(delivery.tag)
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
        self._window.forget()
        self._parking.forget()
        for job in self._waiting:
            del self._jobs[job.request.id]
        self._waiting.clear()
        for job in self._jobs.values():
            job.tag = None

    def route(self) -> None:
        """Send every waiting request that some substation has room for, the oldest first.

        The decisions go out before the jobs, all in one message, so that the event log has a job's
        decision before its substation's first word of it.
        """
        self._route_due = False
        passed: list[Job] = []
        while self._waiting:
            candidates = self.candidates()
            if not policies.usable(candidates, ()) and not self._hopeless(self._waiting[0]):
                break
            job = self._waiting.popleft()
            if not self._place(job, candidates):
                passed.append(job)
        self._waiting.extendleft(reversed(passed))
        self._events.flush()
        placed, self._placed = self._placed, []
        for job in placed:
            self._publish(job)

    def _route_soon(self) -> None:
        """Route what one turn of the loop has brought all at once."""
        if not self._route_due:
            self._route_due = True
            asyncio.get_running_loop().call_soon(self.route)

    def _known(self, id: str, delivery: Delivery) -> bool:
        """See to a request whose job is in hand, or was sent before."""
        job = self._jobs.get(id)
        if job is None and id not in self._sent:
            return False
        if job is not None and job.tag is None:
            job.tag = delivery.tag
            return True
        if not delivery.redelivered:
            self._metrics.duplicates.inc()
        self._done(delivery.tag)
        return True

    def _hopeless(self, job: Job) -> bool:
        """Tell whether a request names substations, and none of them exists."""
        known, named = self._ledger.accounts.keys(), job.request.eligible_substations
        return bool(known and named) and known.isdisjoint(named)

    def _place(self, job: Job, candidates: list[Candidate]) -> bool:
        """Send a request, or park it where no substation it names exists; else leave it waiting."""
        named = job.request.eligible_substations
        if self._hopeless(job):
            del self._jobs[job.request.id]
            more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
            reason = f"{NO_SUCH_SUBSTATION}: {', '.join(named[:SHOWN])}{more}"
            self._parking.park(job.tag, job.body, job.request.id, NO_SUCH_SUBSTATION, reason)
            return True
        began = perf_counter()
        open_to = policies.usable(candidates, named)
        if not open_to:
            return False
        chosen, reason = self._policy.choose(open_to, self._random)
        self._metrics.decision_seconds.observe(perf_counter() - began)
        detail = policies.record(self._policy.name, reason, candidates, chosen, named)
        self._assign(job, chosen.substation, {"requested_at": job.request.requested_at, **detail})
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
            self._done(job.tag)

    def _done(self, tag: int) -> None:
        self._window.done(tag)
        if not self._ack_due:
            self._ack_due = True
            asyncio.get_running_loop().call_soon(self._acknowledge)

    def _acknowledge(self) -> None:
        self._ack_due = False
        for tag, multiple in self._window.take():
            self.consumer.ack(tag, multiple=multiple)
        if self._window.passed_over and not self._ack_due:
            self._ack_due = True
            asyncio.get_running_loop().call_later(GAP_SECONDS, self._acknowledge)
