"""What is done with each delivery: its request is new, or known. Pure.

A redelivered request that was not sent from here, and one that a dispatcher published again, is
held until the event log is read up to its arrival (``dispatcher.held``) and, for a while, until
substations whose events may be late have written them (``dispatcher.late_events``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from dispatcher.commands import Ack, LogJob, ReadLog, Warn, WriteEvent
from dispatcher.held import HeldRequests
from dispatcher.inputs import Begin, LogRead, RequestDelivered, RequestsLost, Stop
from dispatcher.jobs import Job
from dispatcher.late_events import LateEvents
from dispatcher.lifecycle import SENT_AGAIN, Lifecycle
from dispatcher.metrics import Metrics
from dispatcher.recognition import Action, Judgement, Recognition, Wait, reclaimed_from
from dispatcher.standby import Standby
from dispatcher.unsettled import Unsettled
from grid import parking
from grid.messages import ChargeRequest
from scheduling.load_tracker import LoadTracker

if TYPE_CHECKING:
    from grid.amqp import Delivery


class Handled(NamedTuple):
    """What is still to be done with the delivery of a reclaimed job.

    Nothing, unless it goes back to its queue, or is kept as the copy of a job in hand.
    """

    goes_back: bool = False
    copy_of: Job | None = None


class Deliveries:
    """Has deliveries recognised, and acts on the result.

    Args:
        life: The jobs in hand.
        tracker: The load tracker.
        late_events: Knows which substations may have begun jobs of which no event was read.
        standby: Knows whether this dispatcher is active.
        unsettled: The decisions whose requests RabbitMQ may redeliver.
        metrics: The dispatcher's counters.
    """

    def __init__(
        self,
        life: Lifecycle,
        tracker: LoadTracker,
        late_events: LateEvents,
        *,
        standby: Standby,
        unsettled: Unsettled,
        metrics: Metrics,
    ) -> None:
        self._life = life
        self._index, self._open_jobs = life.index, life.open_jobs
        self._recognition = Recognition(life.index, life.open_jobs, tracker)
        self._tracker = tracker
        self._late_events = late_events
        self._standby = standby
        self._unsettled = unsettled
        self._metrics = metrics
        self._before_begin = HeldRequests()
        self._held = {Wait.NEW_EVENTS: HeldRequests(), Wait.ALL_EVENTS: HeldRequests()}
        # at how many takeovers the log was, and is being, read up to its end
        self._terms_read = self._terms_reading = standby.terms
        self._begun = self._stopping = False
        self.log_due = False  # it is to be read

    @property
    def deciding(self) -> bool:
        """Return whether requests are routed: after ``Begin`` and before ``Stop``."""
        return self._begun and not self._stopping

    @property
    def is_current(self) -> bool:
        """Return whether it decides, and the log is read up to its end since it took over."""
        return self.deciding and self._terms_read == self._standby.terms

    @property
    def held(self) -> list[Delivery]:
        """Return the requests that wait for the event log, and whose link is still up."""
        return [each for held in (self._before_begin, *self._held.values()) for each in held.live]

    def on_begin(self, _: Begin) -> None:
        """Handle the requests that were delivered so far."""
        self._begun = True
        self._tracker.settle(self._life.at.now)
        released = self._before_begin.release()
        self._isolated(released, lambda each: self.on_delivered(RequestDelivered(each)))

    def on_stop(self, _: Stop) -> None:
        """Decide nothing more."""
        self._stopping = True
        self._standby.end()

    # requests

    def on_delivered(self, input: RequestDelivered) -> None:
        """Judge a request, or hold it until the event log is read."""
        delivery, life = input.delivery, self._life
        if not self._begun:
            self._before_begin.hold(delivery)
            return
        self._unsettled.delivered(life.at.now)
        if self._standby.on_delivery():
            # another dispatcher may have sent jobs until now
            self._tracker.invalidate_baseline()
            self._tracker.settle(life.at.now)
            self._late_events.begin(life.at.now)
            self._read_log_soon()
        if delivery.redelivered:
            self._metrics.redelivered.inc()
        needs = self._recognition.needs(delivery, life.jobs.get(delivery.id or ""))
        if needs is Wait.NOTHING:
            self._judge(delivery)
        else:
            self._held[needs].hold(delivery)
            self._read_log_soon()

    def on_log_read(self, input: LogRead) -> None:
        """Judge the requests for which the event log was read, unless it lacks events."""
        held = self._held[Wait.ALL_EVENTS if input.older else Wait.NEW_EVENTS]
        if not input.older:
            self._terms_read = self._terms_reading
        released = held.release()
        if released and self._events_are_late():
            for delivery in released:
                held.hold(delivery)
        else:
            self._isolated(released, self._judge)
            if held.waits:
                self._read_log_soon()
        if self._terms_read != self._standby.terms:
            self._read_log_soon()

    def _events_are_late(self) -> bool:
        """Return whether substations may yet tell of redelivered jobs; warn if they never did."""
        now = self._life.at.now
        if not self._late_events.update(now):
            return False
        overdue = self._late_events.pop_overdue(now)
        if overdue:
            names = ", ".join(sorted(overdue))
            text = f"redelivered requests are sent, though events of {names} may be missing"
            self._life.do(Warn(text))
        return not overdue

    def on_lost(self, _: RequestsLost) -> None:
        """Forget the requests that wait: RabbitMQ redelivers them, perhaps to another dispatcher.

        One whose request did not come yet may be delivered to another as well.
        """
        self._late_events.begin(self._life.at.now)
        self._open_jobs.forget_all_undelivered()
        self._life.inherit_in_hand()
        self._life.forget_waiting(lambda job: job.early or (job.is_request and not job.is_ours))

    def _read_log_soon(self) -> None:
        """Have the log read, once for all that this turn of the loop brings."""
        self.log_due = True
        self._life.route_soon()

    def read_log(self) -> None:
        """Have the log read for the requests that are held, or since this dispatcher took over.

        Each tick does so again: some wait for events that substations write late.
        """
        self.log_due = False
        for needs, held in self._held.items():
            older = needs is Wait.ALL_EVENTS
            has_taken_over = not older and self._terms_read != self._standby.terms
            if (count := held.begin_reading(anyway=has_taken_over)) is not None:
                self._life.do(ReadLog(older, requests=count))
                if not older:
                    self._terms_reading = self._standby.terms

    def _isolated(self, deliveries: Iterable[Delivery], handle: Callable[[Delivery], None]) -> None:
        """Handle deliveries that were held; reject those over which the code fails.

        Otherwise RabbitMQ would redeliver them to the next process, which would fail as well.
        """
        for delivery in deliveries:
            try:
                handle(delivery)
            except Exception as error:  # noqa: BLE001
                self._life.reject_delivery(delivery, error)

    def _judge(self, delivery: Delivery) -> None:
        """Recognise a request as new or known, and act on it."""
        life = self._life
        if (request := life.read_or_park(delivery)) is None:
            return
        in_hand, origin = life.jobs.get(request.id), reclaimed_from(delivery)
        if origin and self._index.was_reclaimed(request.id, origin):
            self._index.forget_sent(request.id)  # another dispatcher reclaimed it since
        judgement = self._recognition.request(request, delivery, in_hand, life.at.now)
        if judgement.action is not Action.DECIDE:
            self._log(request, delivery, judgement)
        if judgement.action is Action.DROP:
            self._drop(request, delivery)
        elif judgement.action is Action.ATTACH and in_hand is not None:
            life.attach(in_hand, delivery)
        elif judgement.action is Action.RESEND:
            life.resend(life.new_job(request, delivery), judgement.substation, SENT_AGAIN)
        elif judgement.action is Action.DECIDE:
            self._index.forget_sent(request.id)
            life.wait(life.new_job(request, delivery))
        else:
            raise ValueError(f"a request of job {request.id} cannot be {judgement.action.value}")

    def _drop(self, request: ChargeRequest, delivery: Delivery) -> None:
        """Acknowledge a request whose job is elsewhere, is in hand, or has ended."""
        if request.id in self._open_jobs.undelivered:
            self._open_jobs.forget_undelivered(request.id)
            self._metrics.cancelled.inc()
        elif not delivery.redelivered:
            self._metrics.duplicates.inc()
        replays = parking.replays(delivery.headers)
        if self._index.ended(request.id, replays, request.requested_at):
            end = self._index.end(request.id)
            if end is not None:  # who sent the request again may not know of it
                self._life.do(WriteEvent(end))
        self._life.do(Ack(delivery))

    # jobs from the queues of substations

    def handle_reclaimed(self, substation: str, delivery: Delivery) -> Handled:
        """Handle a job from a substation's queue; return what is still to be done.

        If the job was sent elsewhere since, this copy is acknowledged. If the job is in hand by
        another delivery, and not sent yet, the copy is kept; if it is being sent to that same
        substation, the copy goes back to its queue.
        """
        life = self._life
        if not self.deciding:
            return Handled(goes_back=True)
        if (request := life.read_or_park(delivery)) is None:
            return Handled()
        in_hand = life.jobs.get(request.id)
        judgement = self._recognition.reclaimed(request, substation, in_hand, life.at.now)
        if judgement.action is not Action.DECIDE:
            self._log(request, delivery, judgement)
        if judgement.action is Action.LEAVE:
            return Handled(goes_back=True)
        if judgement.action is Action.KEEP:
            return Handled(copy_of=in_hand)
        if judgement.action is Action.DROP:
            life.do(Ack(delivery))
        elif judgement.action is Action.ATTACH and in_hand is not None:
            life.attach(in_hand, delivery)
        else:
            self._index.forget_sent(request.id)
            self._tracker.invalidate_baseline(substation)
            job = life.new_job(request, delivery, substation)
            if judgement.action is Action.RESEND:
                life.resend(job, judgement.substation, SENT_AGAIN)
            else:
                life.wait(job)
        return Handled()

    def _log(self, request: ChargeRequest, delivery: Delivery, judgement: Judgement) -> None:
        """Log what is done with a delivery that is not decided on, and why."""
        trace = self._life.trace(delivery.headers)
        text = f"the request is {judgement.action.value}: {judgement.why}"
        self._life.do(LogJob(request.id, trace, text, judgement.substation))
        if judgement.dropped is not None:
            self._metrics.dropped.labels(judgement.dropped).inc()
