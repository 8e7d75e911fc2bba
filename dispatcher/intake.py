"""What comes in: requests from ``charge.requests``, and jobs taken back from substations.

The job's id tells what is new from a second copy, and from what was sent before already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import chain
from math import inf
from typing import Final

from dispatcher.doubt import Doubt, ReadLog, live, with_one_more
from dispatcher.history import History
from dispatcher.jobs import COPY_HEADER, RECLAIMED_HEADER, Job
from dispatcher.open_jobs import OpenJobs
from dispatcher.parking import Parking
from dispatcher.telemetry import Metrics
from grid import messages, parking
from grid.amqp import Delivery
from grid.errors import MalformedMessage
from grid.event_log import EventWriter
from grid.events import Event
from grid.messages import ChargeRequest
from grid.trace import Chance, carried

MALFORMED: Final = "malformed"


class Intake:
    """Accepts deliveries, and passes on those for which something is to be done.

    ``jobs`` are those in hand, by their id. ``join`` is given each that is to be decided on,
    ``send_again`` one that another dispatcher has sent, and where. ``read_log`` reads the event log
    as far as it is written: what comes again waits for that. Nothing is handed on before ``begin``.
    """

    def __init__(
        self,
        jobs: dict[str, Job],
        history: History,
        parking: Parking,
        events: EventWriter,
        metrics: Metrics,
        *,
        chance: Chance,
        now: Callable[[], float],
        join: Callable[[Job], None],
        send_again: Callable[[Job, str], None],
        on_delivery: Callable[[], None],
        read_log: ReadLog | None,
        read_all: ReadLog | None,
        open_jobs: OpenJobs,
    ) -> None:
        self._jobs = jobs
        self._history = history
        self._sent = history.sent
        self._parking = parking
        self._events = events
        self._metrics = metrics
        self._chance = chance
        self._now = now
        self._join = join
        self._send_again = send_again
        self._on_delivery = on_delivery
        self._open_jobs = open_jobs
        self._early: list[Delivery] | None = []  # delivered before anything may be decided
        self._doubt = None if read_log is None else Doubt(read_log, self._take_held)
        self._copies = None if read_all is None else Doubt(read_all, self._take_held)

    @property
    def begun(self) -> bool:
        """Return whether deliveries are passed on."""
        return self._early is None

    @property
    def held(self) -> list[Delivery]:
        """Return the requests that wait for the event log, and did not go with their link."""
        held = (each.held for each in self._doubts())
        return [*live(self._early or []), *chain.from_iterable(held)]

    def begin(self) -> None:
        """Hand on what comes, and what has come: what was sent before is known now."""
        early, self._early = self._early or [], None
        for delivery in live(early):
            self._take_held(delivery)

    async def run(self) -> None:
        """Read the event log for the requests that wait for it, until the task is cancelled."""
        await asyncio.gather(*(each.run() for each in self._doubts()))

    def deliver(self, delivery: Delivery) -> None:
        """Accept a delivery from ``charge.requests``."""
        self._on_delivery()
        if delivery.redelivered:
            self._metrics.redelivered.inc()
        if self._early is not None:
            self._early = with_one_more(self._early, delivery)
        elif self._copies is not None and _is_copy(delivery) and not self._has(delivery):
            self._copies.hold(delivery)
        elif self._doubt is not None and self._is_unclear(delivery):
            self._doubt.hold(delivery)
        else:
            self._take(delivery)

    def reclaim(self, substation: str, delivery: Delivery) -> bool:
        """Accept a job that waits at a substation in vain; return whether it is handled here.

        One that was sent elsewhere since, or is in hand, is safe without this copy, which is
        acknowledged; one that is being sent to that very substation stays where it is.
        """
        if (request := self._read(delivery)) is None:
            return True
        if (held := self._jobs.get(request.id)) is not None:
            return _take_copy(held, substation, delivery)
        if self._history.went_elsewhere(request.id, substation):
            delivery.ack()
            return True
        self._history.reclaim(request.id, substation)
        job = self._new(request, delivery)
        job.origin, job.attempt = substation, 1
        # another dispatcher may have moved it, and ended before it was acknowledged here
        before = self._history.sent_before(job.id, substation)
        if before is None:
            self._join(job)
        else:
            self._send_again(job, before)
        return True

    def _doubts(self) -> list[Doubt]:
        return [each for each in (self._doubt, self._copies) if each is not None]

    def _take_held(self, delivery: Delivery) -> None:
        """Process a delivery that was held as one that comes: an error over it rejects it.

        Else RabbitMQ would deliver it to the next process, and end that as well.
        """
        try:
            self._take(delivery)
        except Exception:
            delivery.reject()
            raise

    def _take(self, delivery: Delivery) -> None:
        request = self._read(delivery)
        if request is None or self._known(request, delivery):
            return
        in_hand = self._jobs.get(request.id)
        is_ours = in_hand is not None and in_hand.is_ours
        job = self._new(request, delivery)
        before = None if is_ours else self._sent_before(delivery, job)
        if before is None:
            self._sent.forget(job.id)
            self._join(job)
        else:
            self._send_again(job, before)

    def _sent_before(self, delivery: Delivery, job: Job) -> str | None:
        """Return the substation that has a request's job, by the event log; None if none has.

        A second copy may be a fresh one: an api sends again what a broken link left in doubt. Where
        its job was before it was asked for, or replayed, does not count.
        """
        if _is_copy(delivery):
            where = self._history.charging_at(job.id) or self._open_jobs.substation(job.id)
            return self._history.still_there(where)
        if delivery.redelivered:
            return self._history.sent_before(job.id)
        reclaimed = _reclaimed_from(delivery)
        since = inf if job.replays else job.request.requested_at
        return self._history.sent_before(job.id, reclaimed, since)

    def _is_unclear(self, delivery: Delivery) -> bool:
        """Return whether only the event log, read up to now, says what became of a request."""
        reclaimed = _reclaimed_from(delivery)
        if reclaimed and self._history.is_unclear(delivery.id or "", reclaimed):
            return True
        return delivery.redelivered and not self._is_mine(delivery)

    def _is_mine(self, delivery: Delivery) -> bool:
        """Return whether a request is known here, so that the log need not be read for it."""
        replays = parking.replays(delivery.headers)
        return self._has(delivery) or self._sent.has(delivery.id or "", replays)

    def _has(self, delivery: Delivery) -> bool:
        """Return whether the job of a request is in hand, and RabbitMQ has not given it back."""
        job = self._jobs.get(delivery.id or "")
        return job is not None and job.is_ours

    def _read(self, delivery: Delivery) -> ChargeRequest | None:
        """Return the request that was delivered; what is none is parked."""
        try:
            return messages.decode(delivery.body)
        except MalformedMessage as error:
            self._parking.park(delivery, delivery.id, MALFORMED, str(error))
            return None

    def _new(self, request: ChargeRequest, delivery: Delivery) -> Job:
        replays = parking.replays(delivery.headers)
        trace = carried(delivery.headers, self._chance)
        job = Job(request, delivery.body, delivery, self._now(), trace, replays)
        self._jobs[request.id] = job
        return job

    def _known(self, request: ChargeRequest, delivery: Delivery) -> bool:
        """Return whether a request needs no decision, and acknowledge it then."""
        name, asked_at = request.id, request.requested_at
        job, reclaimed = self._jobs.get(name), _reclaimed_from(delivery)
        if reclaimed and self._history.was_reclaimed(name, reclaimed):
            self._sent.forget(name)  # another dispatcher took it back
        if job is not None and job.returning:
            return False  # the copy that was set back is here before the confirm
        replays = parking.replays(delivery.headers)
        if job is None and not self._is_over(request, delivery):
            return False
        if job is not None and not job.is_ours:
            if self._history.sent_before(name) not in (None, job.substation):
                return False  # another dispatcher has sent it since it went with the link
            job.delivery = delivery
            return True
        if not delivery.redelivered:
            self._metrics.duplicates.inc()
        if (end := self._history.end(name, replays, asked_at)) is not None:
            self._tell_again(end)
        delivery.ack()
        return True

    def _is_over(self, request: ChargeRequest, delivery: Delivery) -> bool:
        """Return whether a request needs nothing more: its job was sent, or has ended.

        Of one that was published once more the log says so, whatever is remembered here.
        """
        name, asked_at = request.id, request.requested_at
        replays = parking.replays(delivery.headers)
        if not _is_copy(delivery):
            return self._history.is_over(name, replays, asked_at)
        ended = self._open_jobs.has_ended(name, replays, asked_at)
        return ended or self._history.end(name, replays, asked_at) is not None

    def _tell_again(self, end: Event) -> None:
        """Put an end on record once more: who sent the request again may not have it."""

        def answer(written: bool) -> None:  # noqa: FBT001
            self._metrics.events_lost.inc(not written)

        self._events.write(end, answer)


def _take_copy(job: Job, substation: str, delivery: Delivery) -> bool:
    """Handle a second copy of a job in hand, at a substation; return whether that is done."""
    if job.substation == substation:
        return False  # it may be the very one whose confirm is on its way
    if job.is_reclaimed and job.origin == substation and not job.is_ours:
        job.delivery = delivery  # what was in hand of it went with the link
    elif not job.is_ours and not job.sent:
        return False  # its delivery is void: another dispatcher may have sent it here
    else:
        delivery.ack()  # RabbitMQ has the job where it was delivered from
    return True


def _is_copy(delivery: Delivery) -> bool:
    """Return whether a dispatcher published a request once more."""
    return bool(delivery.headers.get(COPY_HEADER))


def _reclaimed_from(delivery: Delivery) -> str:
    """Return where a request's job was before; in a header, anybody may have written anything."""
    found = delivery.headers.get(RECLAIMED_HEADER)
    return found if isinstance(found, str) else ""
