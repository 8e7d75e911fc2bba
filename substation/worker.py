"""The substation at work: takes jobs from its queue, charges, reports, acknowledges.

A session ends when its vehicle is charged or leaves, and continues when the link to RabbitMQ
breaks: when the job is delivered again, its running session uses the new delivery, and no vehicle
is charged twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Final

from msgspec.structs import replace

from grid import kinds, messages, topology
from grid.amqp import Consumer, Delivery
from grid.cancellations import Cancellation, Cancellations
from grid.errors import MalformedMessage
from grid.event_log import EventWriter
from grid.events import Event, State
from grid.logs import tell
from grid.messages import ChargeRequest
from grid.trace import Chance, Exemplar, Record, Span, Trace, carried
from grid.waiting import within
from substation.charging import Charge, planned
from substation.station import Station

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0  # after RabbitMQ has refused an event
# ``charging`` waits so long for other events: alone, each costs RabbitMQ a message of the stream.
# A job whose event is not read yet counts as in flight, so no load is wrong meanwhile.
CHARGING_WAIT_SECONDS: Final = 0.02
ENERGY_DIGITS: Final = 6  # of kWh: a milliwatt-hour
DEPARTED = "its departure time passed before its turn came"
DELIVERY_COUNT = "x-delivery-count"  # how often a quorum queue has delivered a message before


@dataclass(slots=True)
class Session:
    """A job in hand, and the delivery that is acknowledged when it has ended."""

    request: ChargeRequest
    attempt: int
    delivery: Delivery
    trace: Trace
    charge: Charge | None = None  # None where it is not charged
    began: float = 0.0  # in seconds of the steady clock
    timer: asyncio.TimerHandle | None = None


class Worker:
    """A worker that charges the jobs of a queue.

    ``clock`` returns Unix seconds, for the times of events; ``now`` those of a steady clock, by
    which the delivered energy is calculated: the first may be set while a vehicle charges.
    """

    def __init__(
        self,
        name: str,
        station: Station,
        log_events: EventWriter,
        *,
        consumer: Consumer,
        charge_seconds: tuple[float, float],
        charge_speed: float | None = None,
        random: Random,
        chance: Chance,
        clock: Callable[[], float],
        now: Callable[[], float],
        observe: Callable[[float, Exemplar | None], None],
        record: Record | None = None,
    ) -> None:
        self._name = name
        self._station = station
        self._events = log_events
        self._consumer = consumer
        self._charge_seconds = charge_seconds
        self._charge_speed = charge_speed
        self._random = random
        self._chance = chance
        self._clock = clock
        self._now = now
        self._observe = observe
        self._record = record
        self._in_hand: dict[str, Session] = {}  # charging, or ended and not yet in the event log
        self._waiting: deque[Delivery] = deque()  # delivered while every connector is taken
        self._kept: deque[Delivery] = deque()  # of a queue that was deleted: they are nowhere else
        self._cancellations = Cancellations()
        self._empty = asyncio.Event()
        self._empty.set()

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()  # each call is a system call in Python 3.11

    def deliver(self, delivery: Delivery) -> None:
        """Start a job that is delivered, let it wait, or recognise it as a copy."""
        try:
            request = messages.decode(delivery.body)
        except MalformedMessage as error:
            self._refuse(delivery, str(error))
            return
        session = self._in_hand.get(request.id)
        if session is not None and not session.delivery.is_live:
            session.delivery = delivery
        elif session is not None or self._has_ended(request):
            self._acknowledge_copy(request, delivery)
        else:
            self._take(request, delivery)

    def cancel(self, cancellation: Cancellation) -> None:
        """End a job that its client has cancelled; one that has ended here stays as it ended."""
        self._cancellations.add(cancellation)
        session = self._in_hand.get(cancellation.job)
        if session is not None:
            if session.timer is not None and self._cancellations.apply_to(session.request):
                session.timer.cancel()
                self._end(session, State.CANCELLED)
                self._start_next()
            return
        for waiting in (self._waiting, self._kept):
            for delivery in [each for each in waiting if each.id == cancellation.job]:
                waiting.remove(delivery)
                self._count_waiting()
                self.deliver(delivery)

    def _has_ended(self, request: ChargeRequest) -> bool:
        """Return whether a job has ended here; one that was cancelled may be requested anew."""
        end = self._station.end(request.id)
        if end is None:
            return False
        kind, at = end
        return kind is not State.CANCELLED or request.requested_at <= at

    def on_link_lost(self) -> None:
        """Drop what waits: the link broke, and RabbitMQ will deliver it again."""
        self._waiting.clear()
        self._count_waiting()

    def keep(self) -> None:
        """Keep what waits: its queue was deleted, and RabbitMQ will not deliver it again."""
        if self._waiting:
            log.warning("the queue is gone: %d jobs of it are kept here", len(self._waiting))
        self._kept.extend(self._waiting)
        self._waiting.clear()

    def idle(self) -> bool:
        """Return whether there is no job in hand."""
        return self._empty.is_set() and not self._waiting

    async def stop(self, grace_seconds: float) -> None:
        """Stop consuming, finish what charges within the grace period, and requeue the rest.

        What RabbitMQ still delivers is requeued by the consumer, and does not come here.
        """
        self._consumer.stop()
        while self._waiting:
            self._pop_waiting().requeue()
        if self._in_hand:
            log.info("finishing %d sessions within %g s", len(self._in_hand), grace_seconds)
            await within(grace_seconds, self._empty.wait())
        for session in list(self._in_hand.values()):
            self._interrupt(session)

    def _refuse(self, delivery: Delivery, reason: str) -> None:
        """Dead-letter a message that is no job; a dispatcher parks it, and records that."""
        log.warning("a message that is no job goes to %s: %s", topology.DEAD, reason)
        delivery.reject()

    def _take(self, request: ChargeRequest, delivery: Delivery) -> None:
        """Start a job, or let it wait for a connector, or end it: it may not be wanted any more."""
        expires_at = request.expires_at
        if self._cancellations.apply_to(request):
            self._end_unbegun(request, delivery, State.CANCELLED)
        elif expires_at is not None and expires_at <= self._clock():
            self._end_unbegun(request, delivery, State.EXPIRED)
        elif self._station.full:
            self._waiting.append(delivery)
            self._count_waiting()
        else:
            self._start(request, delivery)

    def _end_unbegun(self, request: ChargeRequest, delivery: Delivery, kind: State) -> None:
        """End a job that is not charged: it expired, or its client has cancelled it."""
        session = self._session(request, delivery)
        self._empty.clear()
        self._in_hand[request.id] = session
        self._end(session, kind)

    def _start(self, request: ChargeRequest, delivery: Delivery) -> None:
        session = self._session(request, delivery)
        seconds, at = self._random.uniform(*self._charge_seconds), self._clock()
        session.charge = planned(request, seconds, self._charge_speed)
        if request.departure_time is not None:
            session.charge = session.charge.within(request.departure_time - at)
        session.began = self._now()
        self._empty.clear()
        self._in_hand[request.id] = session
        self._station.start(request.id, request.requested_power_kw)
        ends_at = at + session.charge.seconds
        event = replace(self._event(State.CHARGING, session, at), ends_at=ends_at)
        self._events.write(event, wait=CHARGING_WAIT_SECONDS)
        tell(log, request.id, session.trace, "charging", substation=self._name)
        session.timer = self._loop.call_later(session.charge.seconds, self._finish, session)

    def _session(self, request: ChargeRequest, delivery: Delivery) -> Session:
        trace = carried(delivery.headers, self._chance)
        return Session(request, _attempt(delivery), delivery, trace)

    def _finish(self, session: Session) -> None:
        self._end(session, State.COMPLETED)
        if session.charge is not None:
            self._observe(session.charge.seconds, session.trace.exemplar)
        self._start_next()

    def _end(self, session: Session, kind: State) -> None:
        """End a job, and record that; like any end, acknowledged once it is recorded."""
        session.timer = None
        job, at = session.request.id, self._clock()
        energy_kwh = self._delivered_kwh(session, completed=kind is State.COMPLETED)
        if kind is State.COMPLETED:
            self._station.finish(job, at, energy_kwh)
        elif kind is State.CANCELLED:
            self._station.cancel(job, at, energy_kwh)
        else:
            self._station.expire(job, at)
        reason = _reason(kind, session.request)
        self._tell_end(session, at, reason or "charged", energy_kwh)
        self._report(
            session, replace(self._event(kind, session, at), reason=reason, energy_kwh=energy_kwh)
        )

    def _tell_end(self, session: Session, at: float, what: str, energy_kwh: float) -> None:
        job, trace = session.request.id, session.trace
        tell(log, job, trace, what, substation=self._name)
        if self._record is not None and trace.sampled:
            began = at if session.charge is None else at - (self._now() - session.began)
            known = {"job.id": job, "substation": self._name, "outcome": what}
            more = {"energy_kwh": energy_kwh}
            self._record(Span("charge", "consumer", trace, began, at, {**known, **more}))

    def _start_next(self) -> None:
        """Start jobs that wait, while a connector is free."""
        while self._kept and not self._station.full:
            self._start_kept(self._kept.popleft())
        while self._waiting and not self._station.full:
            self.deliver(self._pop_waiting())

    def _start_kept(self, delivery: Delivery) -> None:
        """Start or end a job of a queue that was deleted; acknowledging it does nothing."""
        request = messages.decode(delivery.body)  # it was valid when it was delivered
        self._count_waiting()
        if request.id not in self._in_hand and not self._has_ended(request):
            self._take(request, delivery)

    def _pop_waiting(self) -> Delivery:
        delivery = self._waiting.popleft()
        self._count_waiting()
        return delivery

    def _count_waiting(self) -> None:
        self._station.waiting = len(self._waiting) + len(self._kept)

    def _report(self, session: Session, event: Event) -> None:
        """Record an end in the event log; only then is the job acknowledged."""
        self._events.insist(event, RETRY_SECONDS, lambda _: self._close(session))

    def _close(self, session: Session) -> None:
        if self._in_hand.pop(session.request.id, None) is None:
            return
        session.delivery.ack()
        if not self._in_hand:
            self._empty.set()

    def _interrupt(self, session: Session) -> None:
        del self._in_hand[session.request.id]
        if session.timer is not None:
            session.timer.cancel()
            energy_kwh = self._delivered_kwh(session, completed=False)
            self._station.interrupt(session.request.id, energy_kwh)
        session.delivery.requeue()

    def _acknowledge_copy(self, request: ChargeRequest, delivery: Delivery) -> None:
        # The first delivery of a message that is known already is a second copy; a redelivery is
        # the same message again, whose acknowledgement did not arrive.
        if not delivery.redelivered:
            self._station.duplicates += 1
        self._tell_again(request)
        delivery.ack()

    def _tell_again(self, request: ChargeRequest) -> None:
        """Record an end once more: whoever sent the job again may not know of it."""
        job = request.id
        if (end := self._station.end(job)) is not None and job not in self._in_hand:
            kind, at = end
            reason = _reason(kind, request)
            self._events.write(Event(kind, at, job=job, substation=self._name, reason=reason))

    def _event(self, kind: State, session: Session, at: float) -> Event:
        return Event(
            kind,
            at,
            job=session.request.id,
            substation=self._name,
            attempt=session.attempt,
            counts=self._station.counts(),
        )

    def _delivered_kwh(self, session: Session, *, completed: bool) -> float:
        """Return what a session has delivered by now; 0 for a job that was not charged."""
        charge = session.charge
        if charge is None:
            return 0.0
        elapsed = charge.seconds if completed else self._now() - session.began
        return round(charge.delivered_kwh(elapsed), ENERGY_DIGITS)


def _reason(kind: State, request: ChargeRequest) -> str:
    if kind is State.EXPIRED:
        return kinds.expiry_reason(request, DEPARTED)
    return kinds.CANCELLED_BY_CLIENT if kind is State.CANCELLED else ""


def _attempt(delivery: Delivery) -> int:
    return int(delivery.headers.get(DELIVERY_COUNT) or 0) + 1
