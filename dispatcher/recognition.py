"""Recognition of deliveries: a new request, or a known one? Pure.

RabbitMQ redelivers what was not acknowledged, an api publishes again what a broken link left in
doubt, and a dispatcher publishes again what was missing. The job's id, the jobs in hand, the job
index and the event log distinguish these from a new request.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from math import inf
from typing import TYPE_CHECKING

from msgspec import Struct

from dispatcher.job_index import JobIndex
from dispatcher.jobs import COPY_HEADER, RECLAIMED_HEADER, Job, JobState
from dispatcher.open_jobs import OpenJobs
from grid import parking
from grid.messages import ChargeRequest
from scheduling.load_tracker import LoadTracker

if TYPE_CHECKING:
    from grid.amqp import Delivery


class Action(Enum):
    """What is to be done with a delivery."""

    DECIDE = "decided on"
    RESEND = "sent once more"  # to the substation that may have its job
    ATTACH = "attached to the job in hand"  # whose delivery was lost with a link
    DROP = "dropped"  # acknowledged: see ``DropReason``
    KEEP = "kept"  # as long as the job is in hand, whose delivery may be lost with its link
    LEAVE = "left in its queue"  # where its job may belong


class DropReason(StrEnum):
    """Why a delivery is dropped, as ``dispatcher_dropped_total`` counts it."""

    IN_HAND = "in_hand"  # by another delivery
    SENT = "sent"  # its job was sent to a substation
    ENDED = "ended"


class Judgement(Struct, frozen=True, gc=False):
    """What is to be done with a delivery, why, and where its job may be already.

    ``dropped`` is set if it is dropped.
    """

    action: Action
    why: str
    substation: str = ""
    dropped: DropReason | None = None


class Wait(Enum):
    """What must be read before a delivery can be judged."""

    NOTHING = "nothing"
    NEW_EVENTS = "the event log, as far as it is written now"
    ALL_EVENTS = "the whole event log, including its older part"


class Recognition:
    """Judges deliveries by the job index, the open jobs and the load tracker."""

    def __init__(self, index: JobIndex, open_jobs: OpenJobs, tracker: LoadTracker) -> None:
        self._index = index
        self._open_jobs = open_jobs
        self._tracker = tracker

    def needs(self, delivery: Delivery, in_hand: Job | None) -> Wait:
        """Return what must be read before a request can be judged.

        Another dispatcher may have sent a redelivered request just before its link broke; the job
        of a request that was published again may have ended long ago.
        """
        is_in_hand = in_hand is not None and in_hand.is_ours
        if is_copy(delivery) and not is_in_hand:
            return Wait.ALL_EVENTS
        job, reclaimed = delivery.id or "", reclaimed_from(delivery)
        if reclaimed and self._index.needs_log_for(job, reclaimed):
            return Wait.NEW_EVENTS
        if not delivery.redelivered or is_in_hand:
            return Wait.NOTHING
        sent_here = self._index.has_sent(job, parking.replays(delivery.headers))
        return Wait.NOTHING if sent_here else Wait.NEW_EVENTS

    def request(
        self, request: ChargeRequest, delivery: Delivery, in_hand: Job | None, now: float
    ) -> Judgement:
        """Return what is to be done with a request from ``charge.requests``."""
        if in_hand is not None:
            return self._of_job_in_hand(request, delivery, in_hand, now)
        replays = parking.replays(delivery.headers)
        is_unknown = (
            request.id not in self._index
            and not self._open_jobs.charging_at(request.id)
            and not self._open_jobs.has_ended(request.id, replays, request.requested_at)
        )
        if is_unknown and not is_copy(delivery):
            return Judgement(Action.DECIDE, "nothing is known of its job")
        if (dropped := self._drop(request, delivery)) is not None:
            return dropped
        return self._decide_or_resend(request, delivery, now)

    def reclaimed(
        self, request: ChargeRequest, substation: str, in_hand: Job | None, now: float
    ) -> Judgement:
        """Return what is to be done with a job reclaimed from a substation's queue."""
        if in_hand is not None:
            return _copy_of(in_hand, substation)
        if self._index.went_elsewhere(request.id, substation):
            if where := self._index.sent_from_here(request.id):
                return _dropped("it was sent elsewhere since", DropReason.SENT, where)
            return _dropped("its job has ended", DropReason.ENDED)
        # another dispatcher may have moved it, and ended before it was acknowledged here
        where = self._last_known_at(request)
        if where == substation or (known := self._if_alive(where, now)) is None:
            return Judgement(Action.DECIDE, "its substation does not take it")
        return Judgement(Action.RESEND, "another dispatcher sent it there", known)

    def _of_job_in_hand(
        self, request: ChargeRequest, delivery: Delivery, in_hand: Job, now: float
    ) -> Judgement:
        if in_hand.state is JobState.REQUEUING:
            if in_hand.is_ours:  # this is the copy, before its confirm
                return Judgement(Action.DECIDE, "it was requeued from here")
        elif in_hand.early:
            return Judgement(Action.ATTACH, "its promised start has come before it")
        elif in_hand.is_ours:
            return _dropped("another delivery of its job is in hand", DropReason.IN_HAND)
        else:
            replays = parking.replays(delivery.headers)
            elsewhere = self._if_alive(self._last_known_at(request, replays), now)
            if elsewhere in (None, in_hand.substation) and in_hand.confirmed:
                # another dispatcher may have reclaimed it since, as a copy of its own
                return Judgement(Action.RESEND, "it may have been reclaimed", in_hand.substation)
            if elsewhere in (None, in_hand.substation):
                return Judgement(Action.ATTACH, "its first delivery was lost with a link")
        return self._decide_or_resend(request, delivery, now)

    def _decide_or_resend(
        self, request: ChargeRequest, delivery: Delivery, now: float
    ) -> Judgement:
        where = self._sent_before(request, delivery, now)
        if where is None:
            return Judgement(Action.DECIDE, "no substation has its job")
        return Judgement(Action.RESEND, "another dispatcher sent its job there", where)

    def _drop(self, request: ChargeRequest, delivery: Delivery) -> Judgement | None:
        """Return why a request is dropped; None if it is not.

        For a request that was published again only the log counts, not what is remembered here.
        """
        job, asked_at = request.id, request.requested_at
        replays = parking.replays(delivery.headers)
        if self._index.ended(job, replays, asked_at) or self._open_jobs.has_ended(
            job, replays, asked_at
        ):
            return _dropped("its job has ended", DropReason.ENDED)
        if is_copy(delivery) or not self._index.has_sent(job, replays):
            return None
        if where := self._index.sent_from_here(job):
            return _dropped(f"its job was sent to {where}", DropReason.SENT, where)
        return _dropped("its job ended here", DropReason.ENDED)

    def _sent_before(self, request: ChargeRequest, delivery: Delivery, now: float) -> str | None:
        """Return the substation that has a request's job, by the event log; None if none has.

        A request that is not redelivered may be a second copy too: an api publishes again what a
        broken link left in doubt. Then events from before it was requested do not count. If it is
        redelivered they do: its dispatcher's clock may be behind.
        """
        index, job = self._index, request.id
        if is_copy(delivery):
            where = index.charging_at(job) or self._open_jobs.substation(job)
            # even if it is dead: the job is reclaimed from there
            return where if where in self._tracker.substations else None
        replays = parking.replays(delivery.headers)
        where = self._last_known_at(request, replays)
        if not delivery.redelivered:
            since = inf if replays else request.requested_at
            if where == reclaimed_from(delivery) or index.assigned_at(job) < since:
                return None
        return self._if_alive(where, now)

    def _last_known_at(self, request: ChargeRequest, replays: int = 0) -> str:
        """Return the substation that has a request's job, by the event log; empty if unknown.

        An assignment from before so many replays does not count: the job was parked since. Nor does
        one to where the request may not go: another request had its id before.
        """
        index, job = self._index, request.id
        if (charging := index.charging_at(job)) is not None:
            return charging
        where = index.assigned_to(job)
        is_older = index.assigned_at(job) < request.requested_at
        may_go = not request.eligible_substations or where in request.eligible_substations
        if index.assigned_after(job) < replays or (is_older and not may_go):
            where = None
        # a session may last longer than the index remembers jobs
        return where or self._open_jobs.charging_at(job) or ""

    def _if_alive(self, where: str, now: float) -> str | None:
        """Return the substation if it can recognise a second copy; None if it is lost.

        A single page that cannot be read does not make it lost.
        """
        state = self._tracker.substations.get(where)
        return where if state and not self._tracker.is_lost(state, now) else None


def _copy_of(job: Job, substation: str) -> Judgement:
    """Judge a second copy of a job in hand, from a substation's queue."""
    if job.substation == substation:
        return Judgement(Action.LEAVE, "it may be the message whose confirm is still to come")
    is_from_there = job.is_reclaimed and job.origin == substation
    if is_from_there and not job.is_ours:
        return Judgement(Action.ATTACH, "its first delivery was lost with a link")
    if not (job.confirmed or is_from_there):
        # if the request came back to that dispatcher, it would drop it: its job was sent there
        return Judgement(Action.KEEP, "another dispatcher may have sent it there")
    return _dropped("another delivery of its job is in hand", DropReason.IN_HAND)


def _dropped(why: str, reason: DropReason, substation: str = "") -> Judgement:
    return Judgement(Action.DROP, why, substation, dropped=reason)


def is_copy(delivery: Delivery) -> bool:
    """Return whether a dispatcher published a request again."""
    return bool(delivery.headers.get(COPY_HEADER))


def reclaimed_from(delivery: Delivery) -> str:
    """Return the substation named in the header, or an empty text if it is not a text."""
    found = delivery.headers.get(RECLAIMED_HEADER)
    return found if isinstance(found, str) else ""
