"""One job, as the event log describes it. Pure.

Its events may arrive in any order and more than once: the result is the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from sys import intern
from typing import Any, Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from grid import kinds, wire
from grid.detail import Detail
from grid.events import ASIDE, ASSIGNED, CHARGING, COMPLETED, FINAL, QUEUED, Event, State, is_time
from grid.kinds import Promise

MAX_UNPACKED_RECORD: Final = 256  # bytes: a smaller decision is not worth packing
# per job: a substation that lies about its sessions may write any number of them into the log
MAX_FURTHER_COMPLETIONS: Final = 100
_PLAIN: Final = b"{"  # the first byte of a JSON object, and never of zlib's output
_NOTHING: Final[Mapping[str, Any]] = {}


# structs: three of these for each job take less time and memory than tuples with names
class Visit(Struct, frozen=True, order=True, gc=False):
    """When a job entered a state, in Unix seconds, at which substation, and why.

    ``replays`` is how often an operator had replayed it by then, ``energy_kwh`` what its session
    had delivered, 0 where that is unknown.
    """

    at: float
    substation: str
    reason: str
    replays: int = 0
    energy_kwh: float = 0.0


class Booked(Struct, frozen=True, order=True, gc=False):
    """What a job that asked for a start was told at ``at``: that it has one, or the nearest one.

    Times are Unix seconds. ``substation`` is empty if it could begin nowhere; ``reason`` is why its
    start is another than it was told before, or why it has none any more.
    """

    at: float
    granted: bool
    start: float
    substation: str
    reason: str


class Assignment(Struct, frozen=True, order=True, gc=False):
    """When and where a job was sent; ``record`` is the decision as JSON, or ``packed``.

    Of two, the one of the later replay is the later one.
    """

    replays: int
    at: float
    attempt: int
    substation: str
    record: bytes

    @property
    def is_large(self) -> bool:
        """Return whether the decision is not packed yet, and worth packing."""
        return len(self.record) > MAX_UNPACKED_RECORD and self.record.startswith(_PLAIN)

    def packed(self) -> Assignment:
        """Return the same assignment with its decision packed to a tenth of its size."""
        return replace(self, record=zlib.compress(self.record, level=1))


# states by turns with the visits: a dict of one item takes three times the memory
_ONE_END: Final = 2
Ended: TypeAlias = tuple[State | Visit, ...]


def ends_of(ended: Ended) -> dict[State, Visit]:
    """Return the end states of a job, and the first entry into each."""
    if len(ended) == _ONE_END:
        return {ended[0]: ended[1]}  # type: ignore[dict-item]  # as they are written
    return dict(zip(ended[::2], ended[1::2], strict=True))  # type: ignore[arg-type]


@dataclass(slots=True)
class Job:
    """One job as far as the log describes it.

    All of it follows from ``queued``, the latest ``booked``, ``assigned`` and ``charging`` (a job
    may be sent and charged more than once), the first of each of the ``ends``, and the further
    completions, up to ``MAX_FURTHER_COMPLETIONS``. What was before the latest of its ``replays`` no
    longer counts. ``status`` is stored, since jobs are counted by it; the rest is computed on
    demand, since the log names very many jobs.
    """

    id: str
    number: int
    status: State = State.QUEUED
    attempt: int = 0
    replays: int = 0
    replayed: Visit | None = None
    queued: Event | None = None
    earliest_start: float = -inf  # of the request: to look for it each time takes long
    booked: Booked | None = None
    assigned: Assignment | None = None
    charging: Visit | None = None
    ended: Ended = ()
    # besides the one in ``ends``; None in nearly every job, as an empty set takes 216 bytes
    further_completions: set[tuple[str, float]] | None = None

    def apply(self, kind: State, event: Event) -> None:
        """Apply an event; neither the order of events nor their repetition matters."""
        replays = kinds.replays(event)
        if event.attempt > self.attempt:  # noqa: PLR1730  # `max` takes five times as long
            self.attempt = event.attempt
        if self.replays < replays != kinds.ANY_REPLAYS:
            self.replays = replays
        if kind is ASSIGNED:
            assignment = _assignment(event, replays)
            if self.assigned is None or assignment > self.assigned:
                self.assigned = assignment
        elif kind is QUEUED and not replays:
            # two apis may have accepted it at once, each with an event of its own
            if self.queued is None or event.at < self.queued.at:
                self.queued, self.earliest_start = event, _earliest_start(event)
        else:
            # few different names in very many jobs
            where = intern(event.substation)
            self._visit(kind, Visit(event.at, where, event.reason, replays, event.energy_kwh))
        self.status = self._status()

    def book(self, booked: Booked) -> None:
        """Apply what the job was told of its start; neither order nor repetition matters."""
        if self.booked is None or booked > self.booked:
            self.booked = booked

    @property
    def promise(self) -> Booked | None:
        """Return the start that it is promised, or was until it began or ended; None if none is."""
        return self.booked if self.booked is not None and self.booked.granted else None

    @property
    def may_begin_at(self) -> float:
        """Return when it may begin, in Unix seconds: its promised start, or its earliest one.

        Minus infinity if it may at once. One whose promise is withdrawn waits from then on.
        """
        if (told := self.booked) is None:
            return self.earliest_start
        return told.start if told.granted else max(told.at, self.earliest_start)

    @property
    def is_promised(self) -> bool:
        """Return whether it waits for a start that is promised to it."""
        return self.status is QUEUED and self.promise is not None

    @property
    def ends(self) -> dict[State, Visit]:
        """Return the first entry into each of its end states."""
        return ends_of(self.ended)

    @property
    def substation(self) -> str | None:
        """Return the substation that charges or charged it, or else the one it was sent to."""
        if self.status is COMPLETED:
            return self.ends[COMPLETED].substation
        last = self._current_session() or self._current_assignment()
        return last.substation if last else None

    @property
    def request(self) -> Mapping[str, Any]:
        """Return the fields of the request; empty if the log does not hold it.

        They are parsed each time: kept for very many jobs, they would take most of the memory.
        """
        return _NOTHING if self.queued is None else request_of(self.queued)

    @property
    def reason(self) -> str | None:
        """Return why it ended so; else, if an operator replayed it, the reason given for that."""
        if not self.ended and self.replayed is None:
            return None
        said = (self.ends.get(self.status), self.replayed)
        return next((each.reason for each in said if each is not None and each.reason), None)

    @property
    def energy_kwh(self) -> float | None:
        """Return what its session delivered, in kWh, once it has ended and if that is known."""
        end = self.ends.get(self.status) if self.ended else None
        return end.energy_kwh or None if end is not None else None

    @property
    def times(self) -> dict[State, float]:
        """Return when it entered each of its states, in Unix seconds, in a job's order."""
        times: dict[State, float] = {}
        if (asked_at := self.asked_at) is not None:
            times[QUEUED] = asked_at
        if (sent := self._current_assignment()) is not None:
            times[ASSIGNED] = sent.at
        if (charges := self._current_session()) is not None:
            times[CHARGING] = charges.at
        if self.ended:
            times.update((state, visit.at) for state, visit in sorted(self.ends.items()))
        return times

    @property
    def asked_at(self) -> float | None:
        """Return when the request came, in Unix seconds, by its own event, else by the decision."""
        if self.queued is not None:
            return self.queued.at
        return kinds.requested_at(self.decision or _NOTHING)

    @property
    def waits_since(self) -> float | None:
        """Return since when it waits for a substation, in Unix seconds; None if not known.

        That is its request, or its last replay, since it did not wait while it was parked. Nor does
        it before it may begin.
        """
        since = self.asked_at
        if self.replayed is not None:
            since = self.replayed.at if since is None else max(since, self.replayed.at)
        return None if since is None else max(since, self.may_begin_at)

    @property
    def last_at(self) -> float:
        """Return when it first ended, in Unix seconds; infinity if it has not.

        It is never before the request: a substation's clock may be wrong.
        """
        ended_at = min([each.at for each in self.ended[1::2]], default=inf)  # type: ignore[union-attr]
        return ended_at if self.queued is None else max(ended_at, self.queued.at)

    @property
    def decided(self) -> bool:
        """Return whether it was ever sent to a substation."""
        return self.assigned is not None

    @property
    def decision(self) -> Mapping[str, Any] | None:
        """Return the record of the decision by which it was last sent, if that is known."""
        if self.assigned is None:
            return None
        return kinds.decision_in(Detail(_unpacked(self.assigned.record)))

    def events(self) -> Iterator[Event]:
        """Yield events that, with ``attempt`` and ``replays``, describe all but its decision."""
        if self.queued is not None:
            yield self.queued
        if self.replayed is not None:
            yield self._event(QUEUED, self.replayed)
        if (told := self.booked) is not None:
            promise = Promise(told.granted, told.substation, told.start)
            yield kinds.told(self.id, told.at, promise, told.reason)
        if (sent := self.assigned) is not None:
            visit = Visit(sent.at, sent.substation, "", sent.replays)
            yield self._event(ASSIGNED, visit, sent.attempt)
        if self.charging is not None:
            yield self._event(CHARGING, self.charging)
        for state, visit in self.ends.items():
            yield self._event(state, visit)
        for where, at in self.further_completions or ():
            yield self._event(COMPLETED, Visit(at, where, ""))

    @property
    def duplicates(self) -> int:
        """Return how often it was completed beyond the first time, up to the maximum."""
        return 0 if self.further_completions is None else len(self.further_completions)

    def _event(self, kind: State, visit: Visit, attempt: int = 0) -> Event:
        detail = kinds.ended_after(visit.replays)
        return Event(
            kind,
            visit.at,
            self.id,
            visit.substation,
            attempt,
            visit.reason,
            energy_kwh=visit.energy_kwh,
            detail=detail,
        )

    def _visit(self, kind: State, visit: Visit) -> None:
        if kind is QUEUED:
            self.replayed = _later_replay(visit, self.replayed)
        elif kind is CHARGING:
            if self.charging is None or visit > self.charging:
                self.charging = visit
        elif not self.ended:
            self.ended = (kind, visit)
        else:
            before = self.ends.get(kind)
            end = _later_replay(visit, before)
            ends = {**self.ends, kind: end}
            self.ended = tuple([each for pair in ends.items() for each in pair])
            if kind is COMPLETED and before is not None:
                self._note_completions(end, before if end is visit else visit)

    def _note_completions(self, first: Visit, further: Visit) -> None:
        """Record a further completion, up to the maximum.

        The rest are not counted: that would depend on how often each event is read.
        """
        first_key, key = ((each.substation, each.at) for each in (first, further))
        if key == first_key:
            return
        if self.further_completions is None:
            self.further_completions = set()
        self.further_completions.discard(first_key)
        if len(self.further_completions) < MAX_FURTHER_COMPLETIONS:
            self.further_completions.add(key)

    def _status(self) -> State:
        if self.ended and (end := self._end()) is not None:
            return end
        if self._current_session() is not None:
            return CHARGING
        return QUEUED if self._current_assignment() is None else ASSIGNED

    def _end(self) -> State | None:
        """Return the first end state: it is the one that counts.

        Only a parked or discarded job can have been replayed, and only a parked one discarded.
        """
        if len(self.ended) == _ONE_END and not self.replays:
            return self.ended[0]  # type: ignore[return-value]  # as they are written
        ends = {
            state: visit
            for state, visit in self.ends.items()
            if state in FINAL or visit.replays in (self.replays, kinds.ANY_REPLAYS)
        }
        if State.CANCELLED in ends:
            ends.pop(State.PARKED, None)
        return min(ends, key=lambda state: (ends[state], state)) if ends else None

    def _current_assignment(self) -> Assignment | None:
        """Return the assignment, unless the job was replayed since."""
        known = self.assigned
        return known if known is not None and known.replays == self.replays else None

    def _current_session(self) -> Visit | None:
        """Return the session that counts, unless the job was replayed or sent elsewhere since."""
        charging = self.charging
        if charging is None or (self.replays and charging.at < self._aside_until()):
            return None
        sent = self._current_assignment()
        if sent and sent.substation != charging.substation and charging.at < sent.at:
            return None
        return charging

    def _aside_until(self) -> float:
        """Return when it was last parked or cancelled, as far as is known; -infinity if never."""
        return max((self.ends[state].at for state in self.ends.keys() & ASIDE), default=-inf)


def booked_in(event: Event) -> Booked | None:
    """Return what a booked event tells a client; None if it is malformed."""
    if (found := kinds.promise_in(event)) is None:
        return None
    where = intern(found.substation)
    return Booked(event.at, found.granted, found.start, where, event.reason)


def earliest_start(request: Mapping[str, Any]) -> float:
    """Return the earliest start of a request, in Unix seconds; minus infinity if it names none."""
    found = request.get("earliest_start")
    return found if is_time(found) else -inf


def _earliest_start(queued: Event) -> float:
    detail = queued.detail
    if isinstance(detail, Detail) and not detail.may_have("earliest_start"):
        return -inf  # as nearly every request: to parse it takes time
    return earliest_start(request_of(queued))


def request_of(queued: Event) -> Mapping[str, Any]:
    """Return the fields of the request in a queued event."""
    detail = queued.detail
    return detail.parsed() if isinstance(detail, Detail) else detail


def _later_replay(one: Visit, other: Visit | None) -> Visit:
    """Return the entry of the later replay; of the same replay, the earlier entry."""
    if other is None:
        return one
    return min(one, other, key=lambda visit: (-visit.replays, visit))


def _assignment(event: Event, replays: int) -> Assignment:
    detail = event.detail
    body = detail.json if isinstance(detail, Detail) else wire.encode(detail)
    return Assignment(replays, event.at, event.attempt, intern(event.substation), body)


def _unpacked(record: bytes) -> bytes:
    return record if record.startswith(_PLAIN) else zlib.decompress(record)
