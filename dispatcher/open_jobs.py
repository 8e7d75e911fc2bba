"""The jobs that were accepted and have not ended, by the event log. Pure.

Open jobs are never forgotten. Of each waiting job only the offset of its record in the log is kept,
from which the request can be read again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Container
from functools import partial
from heapq import nsmallest
from itertools import count
from math import inf, nextafter
from sys import intern
from typing import Any, Final

from msgspec import Struct

from grid import kinds
from grid.events import ASSIGNED, BOOKED, CHARGING, ENDED, FINAL, QUEUED, REQUEUED, Event
from grid.kinds import Booking
from scheduling.bookings import SessionEnd

NOWHERE: Final = -1  # the offset of a record that may not be in the log any more
ENDS_REMEMBERED: Final = (
    300_000  # as many as the log has at its limit; it may tell an end before what it ends
)


class Assigned(Struct, gc=False):
    """Where a job was last sent, and whether it has begun there.

    ``at`` is when that was decided, in Unix seconds by the dispatcher's clock; ``record`` is the
    offset of its request's record, ``last`` that of its latest event at this substation.
    ``ends_at`` is when its session is expected to end, in Unix seconds, and ``power_kw`` what it
    draws; 0 where that is unknown.
    """

    substation: str
    begun: bool
    at: float
    record: int | None
    last: int
    ends_at: float = 0.0
    power_kw: float = 0.0


class _Decision(Struct, frozen=True, gc=False):
    """A decision: where, after how many replays, when it was requested and decided.

    And when the session is expected to end, and its power; 0 where that is unknown.
    """

    substation: str
    replays: int
    asked_at: float
    at: float
    ends_at: float = 0.0
    power_kw: float = 0.0


class _End(Struct, frozen=True, gc=False):
    """How a job ended: for good, or parked or cancelled after so many replays, and when."""

    final: bool
    replays: int
    at: float


class OpenJobs:
    """Follows the event log, or a part of it.

    If it begins in the middle of the log, it keeps the changes until it gets the earlier part
    (``absorb``), and applies them to that: the meaning of an event may depend on earlier ones.
    """

    def __init__(self, *, complete: bool = False) -> None:
        self._waiting: dict[str, int] = {}  # by id: the offset of the record that it was accepted
        self._assigned: dict[str, Assigned] = {}
        self._tenants: dict[str, str] = {}  # by id, of the jobs whose request names one
        self._ended: OrderedDict[str, _End] = (
            OrderedDict()
        )  # what was told first is forgotten first
        self._replays: dict[str, int] = {}  # of those that were replayed
        self._overtaking: dict[
            str, int
        ] = {}  # by substation: offset of the newest decision that has begun
        # by id: when a start was promised, and which; only written here
        self.booked: dict[str, tuple[float, Booking]] = {}
        # by id: when a promised start could not be kept, and where
        self._withdrawn: dict[str, tuple[float, str]] = {}
        self._numbers = count(1)
        self._requeued: dict[str, int] = {}  # the jobs published again, in their order
        # cancelled while they waited, and their requests are still to come: place and offset
        self._undelivered: dict[str, tuple[int, int]] = {}
        self._last = 0  # offset that was read
        self._complete = complete
        self._later_changes: list[Callable[[], None]] = []  # until it is complete

    @property
    def complete(self) -> bool:
        """Return whether the earlier part of the log is known as well."""
        return self._complete

    @property
    def waiting(self) -> int:
        """Return how many jobs are accepted and not assigned."""
        return len(self._waiting)

    @property
    def undelivered(self) -> Collection[str]:
        """Return the jobs that were cancelled here, and whose requests are still to come."""
        return self._undelivered.keys()

    def has_ended(self, job: str, replays: int, asked_at: float = -inf) -> bool:
        """Return whether a job with this many replays has ended, if remembered.

        If it was parked or cancelled before ``asked_at`` (Unix seconds), it has not.
        """
        known = self._ended.get(job)
        if known is None:
            return False
        return known.final or (replays <= known.replays and asked_at <= known.at)

    def take(self, event: Event, offset: int) -> None:
        """Apply an event that was read at an offset of the log."""
        if offset < self._last - 1:  # a reader repeats at most the last message
            self._apply(self._forget_offsets)
        self._last = offset
        job, where, kind, replays = event.job, event.substation, event.kind, kinds.replays(event)
        if kind in ENDED:
            self._apply(self._end, job, _End(kind in FINAL, replays, event.at))
        elif kind == QUEUED:
            asked_at, tenant = self._asked_at(event), kinds.tenant(event.detail)
            self._apply(self._queue, job, replays, asked_at, offset, tenant)
        elif kind == ASSIGNED and where:
            decision = _Decision(where, replays, self._asked_at(event), event.at)
            self._apply(self._assign, job, decision, offset)
        elif kind == REQUEUED:
            self.requeue(job, where, kinds.read_to(event.detail))
        elif kind == CHARGING and where:
            self._apply(self._begin, job, where, event.at, event.ends_at, offset)
        elif kind == BOOKED and (booking := kinds.booking_in(event)) is not None:
            self._apply(self._book_again, booking, event.at)
        elif kind == BOOKED and (was_at := kinds.withdrawn_from(event)):
            self._apply(self._withdraw_again, job, was_at, event.at)

    def assign(
        self,
        job: str,
        substation: str,
        replays: int = 0,
        at: float = inf,
        ends_at: float = 0.0,
        *,
        power_kw: float = 0.0,
    ) -> None:
        """Record that RabbitMQ has a job at a substation, as was decided ``at``.

        Its session is expected to end at ``ends_at``, and draws ``power_kw``; 0 where that is
        unknown.
        """
        decision = _Decision(substation, replays, -inf, at, ends_at, power_kw)
        self._apply(self._assign, job, decision, self._last + 1)

    def book(self, booking: Booking, at: float) -> None:
        """Record that a start was promised to a job ``at``, in Unix seconds."""
        self._apply(self._book, booking, at)

    def withdraw(self, job: str, was_at: str, at: float) -> None:
        """Record ``at``, in Unix seconds, that a start promised at a substation cannot be kept."""
        self._apply(self._withdraw, job, was_at, at)

    def unbook(self, job: str) -> None:
        """Record that no start is promised to a job any more, if one was."""
        self._apply(self._unbook, job)

    def requeue(self, job: str, substation: str = "", read_to: int | None = None) -> None:
        """Record that a job was published to ``charge.requests`` again, behind all others.

        By the log up to the offset ``read_to``, it had been sent to ``substation``. Its later
        events there are newer, and hold.
        """
        self._apply(self._requeue, job, substation, read_to)

    def drop(self, job: str) -> None:
        """Forget a job whose record is gone."""
        self._apply(self._drop, job)

    def cancel_undelivered(self, job: str) -> None:
        """Record that a waiting job is cancelled here, and its request is still to come."""
        self._undelivered[job] = self._place(job), self._waiting[job]
        self.unbook(job)

    def forget_undelivered(self, job: str) -> None:
        """Forget a cancelled request, if it was one: it has come, or never will."""
        self._undelivered.pop(job, None)

    def forget_all_undelivered(self) -> None:
        """Forget the cancelled requests: another dispatcher may get them."""
        self._undelivered.clear()

    def absorb(self, earlier: OpenJobs) -> None:
        """Apply the changes so far to the jobs that were open at the end of the earlier part."""
        later, self._later_changes = self._later_changes, []
        self._waiting, self._assigned = earlier._waiting, earlier._assigned
        self._ended, self._replays = earlier._ended, earlier._replays
        self._tenants, self.booked = earlier._tenants, earlier.booked
        self._withdrawn = earlier._withdrawn
        self._requeued, self._numbers = earlier._requeued, earlier._numbers
        self._overtaking = earlier._overtaking
        self._complete = True
        for change in later:
            change()

    def waiting_by_tenant(self) -> Counter[str]:
        """Return how many jobs of each tenant wait; empty if no request names a tenant."""
        if not self._tenants:
            return Counter()
        return Counter(self._tenants.get(job, "") for job in self._waiting)

    def is_waiting(self, job: str) -> bool:
        """Return whether a job is accepted and not assigned."""
        return job in self._waiting

    def silent(self, job: str) -> bool:
        """Return whether a job was assigned, and its session has not begun."""
        known = self._assigned.get(job)
        return known is not None and not known.begun

    def charging_at(self, job: str) -> str | None:
        """Return the substation where a job's session has begun, and not ended, if known."""
        known = self._assigned.get(job)
        return known.substation if known is not None and known.begun else None

    def assigned(self) -> dict[str, list[str]]:
        """Return the jobs that have not begun where they were sent, by substation.

        Only those of which there is a record to send them from: the api has published them.
        """
        found: dict[str, list[str]] = {}
        for job, known in self._assigned.items():
            if not known.begun and known.record is not None:
                found.setdefault(known.substation, []).append(job)
        return found

    def session_ends(self) -> dict[str, list[float]]:
        """Return when the jobs end that charge or are on their way, as far as known.

        By substation, in Unix seconds.
        """
        found: dict[str, list[float]] = {}
        for known in self._assigned.values():
            if known.ends_at:
                found.setdefault(known.substation, []).append(known.ends_at)
        return found

    @property
    def bookings(self) -> Collection[Booking]:
        """Return the starts that are promised to jobs that were not sent anywhere since."""
        return [booking for _, booking in self.booked.values()]

    def was_promised_at(self, job: str) -> str:
        """Return where the start of a job was that could not be kept; empty if it had none."""
        return self._withdrawn.get(job, (0.0, ""))[1]

    def is_booked(self, job: str) -> bool:
        """Return whether a start is promised to a job."""
        return job in self.booked

    def told_at(self, job: str) -> float | None:
        """Return when a start was promised to a job, or withdrawn, in Unix seconds; else None."""
        known = self.booked.get(job) or self._withdrawn.get(job)
        return None if known is None else known[0]

    def tells_at(self, job: str, clock: float) -> float:
        """Return the time of what a job is told now of its start: later than all that is known.

        The clock of another dispatcher may be ahead. Readers go by the latest.
        """
        sent = self._assigned.get(job)
        known = max(self.told_at(job) or -inf, -inf if sent is None else sent.at)
        return clock if clock > known else nextafter(known, inf)

    def sessions(self, substations: Container[str]) -> dict[str, dict[str, SessionEnd]]:
        """Return when the jobs end that charge, or are on their way, at some substations.

        As far as that is known, by substation and id.
        """
        found: dict[str, dict[str, SessionEnd]] = {}
        for job, known in self._assigned.items():
            if known.ends_at and known.substation in substations:
                end = SessionEnd(known.ends_at, known.power_kw)
                found.setdefault(known.substation, {})[job] = end
        return found

    def is_overtaken(self, job: str) -> bool:
        """Return whether a job that was sent to the same substation later has begun before it.

        A queue is served in its order: the substation has had the job, or the job is lost.
        """
        known = self._assigned.get(job)
        if known is None or known.begun:
            return False
        return known.last < self._overtaking.get(known.substation, NOWHERE)

    def substation(self, job: str) -> str:
        """Return the substation a job was assigned to; empty if it waits or is unknown."""
        known = self._assigned.get(job)
        return known.substation if known else ""

    def offset(self, job: str) -> int | None:
        """Return the offset of a job's record; None if it was not read, ``NOWHERE`` if gone."""
        if (waiting := self._waiting.get(job)) is not None:
            return waiting
        known = self._assigned.get(job)
        return known.record if known else None

    def replays(self, job: str) -> int:
        """Return how often an operator has replayed a job."""
        return self._replays.get(job, 0)

    def missing(
        self,
        elsewhere: int,
        in_hand: Collection[str],
        lost_at_substations: Collection[str],
        most: int,
    ) -> list[str]:
        """Return the jobs that are in no queue, at most so many, the oldest first.

        ``elsewhere`` is how many messages are in queues where waiting jobs may be, ``in_hand`` are
        the jobs that the dispatcher has, ``lost_at_substations`` those that are not where they were
        sent. Queues are served in their order, so it is the oldest that are missing; cancelled
        requests that are still to come count as any other.
        """
        held = sum(job in self._waiting for job in in_hand)
        lost = [job for job in lost_at_substations if job not in in_hand]
        cancelled = [
            job for job in self._undelivered if job not in in_hand and job not in self._waiting
        ]
        short = len(self._waiting) - held + len(lost) + len(cancelled) - elsewhere
        if short <= 0:
            return []
        waiting = self._waiting.items()
        found = [(self._place(job), offset, job) for job, offset in waiting if job not in in_hand]
        known = ((self.offset(job), job) for job in lost)
        found += [(self._place(job), offset, job) for offset, job in known if offset is not None]
        found += [(*self._undelivered[job], job) for job in cancelled]
        return [job for _, _, job in nsmallest(min(short, most), found)]

    def _place(self, job: str) -> int:
        """Return a job's place among those that were published again; 0 if it was not."""
        return self._requeued.get(job, 0)

    def _apply(self, change: Callable[..., None], *arguments: object) -> None:
        change(*arguments)
        if not self._complete:
            self._later_changes.append(partial(change, *arguments))

    def _asked_at(self, event: Event) -> float:
        """Return when a job was requested, in Unix seconds; minus infinity if unknown.

        It only matters to a job that has ended, perhaps in the earlier part of the log: otherwise
        the detail is not parsed for it.
        """
        if self._complete and event.job not in self._ended:
            return -inf
        found = kinds.requested_at(event.detail)
        return -inf if found is None else float(found)

    def _forget_offsets(self) -> None:
        """Forget the offsets of the records: the log was deleted and declared again."""
        self._waiting = dict.fromkeys(self._waiting, NOWHERE)
        undelivered = self._undelivered.items()
        self._undelivered = {job: (place, NOWHERE) for job, (place, _) in undelivered}
        self._overtaking.clear()
        for each in self._assigned.values():
            each.record, each.last = NOWHERE, NOWHERE

    def _queue(
        self, job: str, replays: int, asked_at: float, offset: int, tenant: str = ""
    ) -> None:
        if self.has_ended(job, replays, asked_at):
            return
        if tenant:
            self._tenants[job] = intern(tenant)
        self._ended.pop(job, None)  # it was parked or cancelled, and is replayed or requested anew
        if replays:
            self._replays[job] = max(replays, self.replays(job))
        known = self._assigned.get(job)
        if known is None:
            self._waiting.setdefault(job, offset)
        elif not replays or known.record is None:
            known.record = offset

    def _assign(self, job: str, decision: _Decision, offset: int) -> None:
        substation, at, ends_at = decision.substation, decision.at, decision.ends_at
        if self.has_ended(job, decision.replays, decision.asked_at):
            return
        booked = self.booked.get(job)
        if booked is not None and booked[0] <= at:  # else it was promised another start since
            del self.booked[job]
        known = self._assigned.get(job)
        if known is not None and known.substation == substation:
            known.at, known.last = max(known.at, at), max(known.last, offset)
            known.ends_at = known.ends_at or ends_at
            known.power_kw = known.power_kw or decision.power_kw
        elif known is None or not known.begun or at >= known.at:  # else it was written late
            assigned = _assigned(substation, at, offset, ends_at)
            assigned.power_kw = decision.power_kw
            self._put(job, assigned)

    def _begin(self, job: str, substation: str, at: float, ends_at: float, offset: int) -> None:
        self.booked.pop(job, None)
        known = self._assigned.get(job)
        if known is not None and known.substation == substation:
            if not known.begun:
                newest = max(known.last, self._overtaking.get(substation, NOWHERE))
                self._overtaking[substation] = newest
            known.begun, known.last = True, max(known.last, offset)
            known.ends_at = ends_at or known.ends_at
        elif job not in self._ended:
            self._put(job, _assigned(substation, at, offset, ends_at, begun=True))

    def _put(self, job: str, assigned: Assigned) -> None:
        known = self._assigned.get(job)
        assigned.record = self._waiting.pop(job, known.record if known else None)
        self._requeued.pop(job, None)
        self._assigned[job] = assigned

    def _requeue(self, job: str, substation: str, read_to: int | None) -> None:
        if (known := self._assigned.get(job)) is not None:
            newer = known.begun if read_to is None else known.last >= read_to
            if known.substation != substation or newer:
                return
            del self._assigned[job]
            if known.record is not None:
                self._waiting[job] = known.record
        self._requeued.pop(job, None)
        if job in self._waiting:
            self._requeued[job] = next(self._numbers)

    def _book(self, booking: Booking, at: float) -> None:
        self.booked[booking.request.id] = at, booking
        self._withdrawn.pop(booking.request.id, None)

    def _book_again(self, booking: Booking, at: float) -> None:
        """Book a start as the log says, unless that is outdated."""
        if not self._is_outdated(booking.request.id, at, booking.request.requested_at):
            self._book(booking, at)

    def _withdraw(self, job: str, was_at: str, at: float) -> None:
        self.booked.pop(job, None)
        self._withdrawn[job] = at, was_at

    def _withdraw_again(self, job: str, was_at: str, at: float) -> None:
        """Withdraw a start as the log says, unless that is outdated."""
        booked = self.booked.get(job)
        asked_at = -inf if booked is None else booked[1].request.requested_at
        if not self._is_outdated(job, at, asked_at):
            self._withdraw(job, was_at, at)

    def _is_outdated(self, job: str, at: float, asked_at: float) -> bool:
        """Return whether what was promised or withdrawn ``at`` does not hold any more.

        The job, which was requested ``asked_at``, has begun, or ended, or was sent since, or told
        of another start. One that was sent before is not there: its queue did not take it, or it
        was reclaimed.
        """
        told_at, sent = self.told_at(job), self._assigned.get(job)
        is_over = sent is not None and (sent.begun or at <= sent.at)
        is_over = is_over or self.has_ended(job, self.replays(job), asked_at)
        return is_over or (told_at is not None and at < told_at)

    def _unbook(self, job: str) -> None:
        self.booked.pop(job, None)

    def _drop(self, job: str) -> None:
        tables: tuple[dict[str, Any], ...]
        tables = (
            self._waiting, self._assigned, self._replays, self._requeued, self._tenants,
            self.booked, self._withdrawn,
        )  # fmt: skip
        for each in tables:
            each.pop(job, None)

    def _end(self, job: str, end: _End) -> None:
        if not end.final and end.replays < self.replays(job):
            return  # written late, or repeated: it was replayed since
        self._drop(job)
        if (known := self._ended.get(job)) is not None:
            final = end.final or known.final
            end = _End(final, max(end.replays, known.replays), max(end.at, known.at))
        self._ended[job] = end
        while len(self._ended) > ENDS_REMEMBERED:
            self._ended.popitem(last=False)


def _assigned(
    substation: str, at: float, offset: int, ends_at: float, *, begun: bool = False
) -> Assigned:
    return Assigned(substation, begun, at, record=None, last=offset, ends_at=ends_at)
