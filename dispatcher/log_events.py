"""The events of the log, applied to what is known of jobs, substations and dispatchers. Pure."""

from __future__ import annotations

from typing import Final

from dispatcher.commands import ReportError
from dispatcher.inputs import EventsRead, Moment
from dispatcher.job_index import JobIndex
from dispatcher.open_jobs import OpenJobs
from dispatcher.standby import Standby
from dispatcher.unsettled import Unsettled
from grid.events import PARKED, SUBSTATIONS, Event
from grid.kinds import Snapshot
from scheduling.load_tracker import LoadTracker

MAX_RECALLED: Final = 2_000  # substations that one snapshot names: each has a queue to look at


class LogEvents:
    """Applies events, each isolated: every dispatcher that starts reads the log again."""

    def __init__(
        self,
        tracker: LoadTracker,
        index: JobIndex,
        open_jobs: OpenJobs,
        standby: Standby,
        unsettled: Unsettled,
    ) -> None:
        self._tracker = tracker
        self._index = index
        self._open_jobs = open_jobs
        self._standby = standby
        self._unsettled = unsettled

    def apply(self, read: EventsRead, at: Moment) -> tuple[bool, list[ReportError]]:
        """Apply the events of one message.

        Counters are applied last: they may free capacity for the jobs that events report on.
        Return whether there may be more capacity now, and the errors over single events.
        """
        errors = []
        for event in read.events:
            try:
                self._apply(event, read, at)
            except Exception as error:  # noqa: BLE001
                errors.append(ReportError("an event of the log", error))
        changed = False
        for event in read.events:
            if event.counts is None:
                continue
            try:
                changed |= self._tracker.report(event.substation, event.counts)
            except Exception as error:  # noqa: BLE001
                errors.append(ReportError("the counters in an event of the log", error))
        return changed, errors

    def _apply(self, event: Event, read: EventsRead, at: Moment) -> None:
        self._index.apply(event)
        self._open_jobs.take(event, read.offset)
        if event.kind == SUBSTATIONS:
            self._apply_snapshot(event, at, caught_up=read.caught_up)
        elif event.kind == PARKED and event.substation:
            # it left its queue without being charged
            self._tracker.invalidate_baseline(event.substation)

    def _apply_snapshot(self, event: Event, at: Moment, *, caught_up: bool) -> None:
        """Apply the snapshot of a dispatcher, perhaps of this one."""
        snapshot = Snapshot(event.detail)
        writer, floor = snapshot.dispatcher, snapshot.unsettled_from
        if writer != self._standby.name and floor is not None:
            self._unsettled.inherit(floor, writer or "")
        if caught_up:
            if writer is not None:
                self._standby.heard(writer, at.now, leaves=snapshot.leaves)
            return
        if writer is not None:
            age = at.clock - event.at
            self._standby.heard_before(writer, age, at.now, leaves=snapshot.leaves)
        self._tracker.recall([*snapshot.names, *snapshot.former][:MAX_RECALLED])
