"""What is heard of the substations, applied to the load tracker, and passed on to other parts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from dispatcher.open_jobs import OpenJobs
from dispatcher.progress import Progress
from dispatcher.standby import Standby
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

MAX_RECALLED: Final = 2_000  # substations that one snapshot names: each has a queue to look at


class SubstationWatch:
    """Applies targets, pages and events; after each, a waiting request may find capacity."""

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
        standby: Standby,
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
        self._standby = standby
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
            self._metrics.reclaimed.labels(name)

    def on_reading(self, substation: str, reading: Reading, asked_at: float) -> None:
        """Apply what a substation's page says."""
        with self._isolation.of(f"the page of {substation}", partial(self.on_failure, substation)):
            self._tracker.read(substation, reading, asked_at)
            self._metrics.scrapes.labels(substation, "ok").inc()
        self._route()

    def on_failure(self, substation: str, problem: str) -> None:
        """Apply that a substation's page gives no load."""
        self._metrics.scrapes.labels(substation, "failed").inc()
        self._tracker.fail(substation, problem, self._now())

    def _on_snapshot(self, event: Event) -> None:
        snapshot = Snapshot(event.detail)
        speaker, floor = snapshot.dispatcher, snapshot.unsettled_from
        if speaker != self._standby.name and floor is not None:
            self._inherit(floor, speaker or "")
        if self._mark.passed.is_set():
            if speaker is not None:
                self._standby.heard(speaker, leaves=snapshot.leaves)
            return
        if speaker is not None:
            self._standby.heard_before(speaker, self._clock() - event.at, leaves=snapshot.leaves)
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
            # its queue has one less, and none charged it
            self._tracker.invalidate_baseline(event.substation)
