"""What is heard of the substations, brought to the ledger, and told to all who want to know."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final

from dispatcher.open_jobs import OpenJobs
from dispatcher.progress import Progress
from dispatcher.targets import Target
from dispatcher.telemetry import Metrics
from grid import event_log
from grid.errors import MalformedMessage
from grid.event_log import Mark
from grid.events import SUBSTATIONS, Event, State
from grid.isolation import Isolation
from grid.kinds import Snapshot
from scheduling.load_tracker import LoadTracker
from scheduling.readings import Reading

log = logging.getLogger(__name__)

SPOKEN_WITHIN_SECONDS: Final = 12.0  # the one at work speaks every 10 s at least
GIVEN_UP_SECONDS: Final = 45.0  # without a word; RabbitMQ gives one up after two heartbeats
STAND_BY_SECONDS: Final = 25.0  # without a word, the other one is gone
MAX_RECALLED: Final = 2_000  # substations that one snapshot names: each has a queue to look at


class SubstationWatch:
    """Takes in targets, pages and events; after each, some request that waits may find room."""

    def __init__(
        self,
        tracker: LoadTracker,
        route: Callable[[], None],
        declare: Callable[[str], None],
        metrics: Metrics,
        *,
        isolation: Isolation,
        mark: Mark,
        progress: Progress,
        jobs: OpenJobs,
        position: Callable[[], int],
        turn: Turn,
        inherit: Callable[[int, str], None],
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._tracker = tracker
        self._route = route
        self._declare = declare
        self._metrics = metrics
        self._isolation = isolation
        self._mark = mark
        self.marks: set[Mark] = set()  # others that are looked for
        self._progress = progress
        self._jobs = jobs
        self._position = position
        self._turn = turn
        self._inherit = inherit
        self._now = now
        self._clock = clock

    def on_targets(self, targets: dict[str, Target]) -> None:
        """Have exactly these substations."""
        for name in targets.keys() - self._tracker.substations.keys():
            self._declare(name)
        self._metrics.targets.set(len(targets))
        log.info("substations: %s", ", ".join(sorted(targets)) or "none")
        self._tracker.keep({name: target.connectors for name, target in targets.items()})
        for name in targets:
            self._metrics.decisions.labels(name)  # so that its rate starts from 0, not from 1
            self._metrics.rescued.labels(name)

    def on_reading(self, substation: str, reading: Reading, asked_at: float) -> None:
        """Apply what a substation's page says."""
        with self._isolation.of(f"the page of {substation}", partial(self.on_failure, substation)):
            self._tracker.read(substation, reading, asked_at)
            self._metrics.scrapes.labels(substation, "ok").inc()
        self._route()

    def on_failure(self, substation: str, problem: str) -> None:
        """Take in that a substation's page gives no load."""
        self._metrics.scrapes.labels(substation, "failed").inc()
        self._tracker.fail(substation, problem, self._now())

    def _on_snapshot(self, event: Event) -> None:
        snapshot = Snapshot(event.detail)
        speaker, floor = snapshot.dispatcher, snapshot.unsettled_from
        if speaker != self._turn.name and floor is not None:
            self._inherit(floor, speaker or "")
        if self._mark.passed.is_set():
            if speaker is not None:
                self._turn.heard(speaker, leaves=snapshot.leaves)
            return
        if speaker is not None:
            self._turn.heard_before(speaker, self._clock() - event.at, leaves=snapshot.leaves)
        self._tracker.recall([*snapshot.names, *snapshot.former][:MAX_RECALLED])

    def on_events(self, body: bytes, writer: str) -> None:
        """Apply the events of one message of the event log, as far as its writer is believed."""
        try:
            found = event_log.read(body, writer)
        except MalformedMessage as error:
            log.warning("passed over in the event log: %s", error)
            return
        offset = self._position() - 1  # the position is behind the message that is being read
        for each in found:
            # the log is read again at each start: one event must not end every dispatcher
            try:
                self._on_event(each, offset)
            except Exception as error:  # noqa: BLE001
                self._isolation.failed("an event of the log", error)
        heard = [self._on_counts(each) for each in found if each.counts is not None]
        if any(heard):
            self._route()

    def _on_counts(self, event: Event) -> bool:
        """Apply a substation's counters; return whether anything follows from them."""
        try:
            return event.counts is not None and self._tracker.report(event.substation, event.counts)
        except Exception as error:  # noqa: BLE001
            self._isolation.failed("the counters in an event of the log", error)
            return False

    def _on_event(self, event: Event, offset: int) -> None:
        for mark in (self._mark, *self.marks):
            mark.see(event)
        self._progress.take(event)
        self._jobs.take(event, offset)
        if event.kind == SUBSTATIONS:
            self._on_snapshot(event)
        elif event.kind == State.PARKED and event.substation:
            self._tracker.invalidate_baseline(
                event.substation
            )  # its queue has one less, and none charged it


class Turn:
    """Which of several dispatchers speaks: the one that RabbitMQ gives the requests to.

    ``name`` is this one's. One that hears another, and has had no request since, stands by; so does
    one that has just started, until another that may still be at work must have spoken. Whoever
    ends in good order says so with its last word.
    """

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        self.name = name
        self._now = now
        self._taken = False
        self.terms = 0  # how often it took over
        self._other_heard_at: float | None = None
        self._other_left = False
        self._listening_until = -inf
        self._spoken_before: float | None = None  # another, before this start
        self._leaves = False

    @property
    def undisputed(self) -> bool:
        """Return whether no other dispatcher can have requests that RabbitMQ delivered to it.

        The last delivery was to this one; or nothing was heard of another for so long that RabbitMQ
        has given it up.
        """
        if self._leaves:
            return False
        if (self._taken and self._other_heard_at is None) or self._other_left:
            return True
        last = self._spoken_before if self._other_heard_at is None else self._other_heard_at
        return last is None or self._now() - last > GIVEN_UP_SECONDS

    @property
    def standing_by(self) -> bool:
        """Tell whether another dispatcher is at work, or this one no more."""
        heard, now = self._other_heard_at, self._now()
        if self._leaves or now < self._listening_until:
            return True
        return heard is not None and not self._other_left and now - heard < STAND_BY_SECONDS

    def heard(self, name: str, *, leaves: bool = False) -> None:
        """Note the word of a dispatcher, perhaps one's own; the last one, where it ``leaves``."""
        if name != self.name:
            self._other_heard_at, self._other_left = self._now(), leaves

    def heard_before(self, name: str, seconds: float, *, leaves: bool = False) -> None:
        """Note the word of a dispatcher from before this start, so many seconds ago."""
        if name != self.name:
            ago = max(0.0, seconds)
            self._spoken_before = None if leaves else self._now() - ago
            until = self._now() + SPOKEN_WITHIN_SECONDS - ago
            self._listening_until = -inf if leaves else max(self._listening_until, until)

    def leave(self) -> None:
        """Note that this one is at its end."""
        self._leaves = True

    def take(self) -> bool:
        """Note a request of one's own; tells whether another may have been at work until now.

        Before the first one that is always so: another need not have spoken since this one started.
        """
        taken_over = not self._taken or self._other_heard_at is not None
        self._taken, self._other_heard_at, self._listening_until = True, None, -inf
        self.terms += taken_over
        return taken_over
