"""The load of each substation, as known now. Pure: time is an argument, in seconds of one clock.

A gauge is old the moment it is read. What is true now is

    load = sessions in progress + dispatched − taken

where sessions and taken (accepted, and second copies) are the substation's own counters of one
instant, and dispatched is counted here from the same baseline. The counters come with every scrape
and with every event of the substation; the newer ones hold, so an event that is lost or read twice
does no harm. The baseline is set once for each run of a substation or dispatcher: while nothing is
in flight, what was ever dispatched is what was taken and what still waits in the queue. If more is
taken than was counted (a broken link sent a job twice, or RabbitMQ held jobs back for a consumer
that was gone), then what was taken is what was dispatched.
A substation without counters has the load of its gauge, and what was dispatched since that was
asked for. Power is tracked in the same way: its sessions' power is reported, and what is in flight
is the power of the jobs dispatched last, as many as are outstanding.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from math import inf
from typing import Final

from grid.controls import Availability, Control
from grid.events import Counts
from grid.messages import DEFAULT_POWER_KW
from scheduling.observations import apply_counts, apply_page
from scheduling.power_limits import LimitSteps
from scheduling.readings import LOAD, Reading
from scheduling.substation_state import NO_READING, Depth, SubstationState, brought

SETTLE_SECONDS: Final = 1.0  # at most, until every baseline is set and the first job has a choice
NO_CONSUMER: Final = "no consumer on its queue"
NO_BASELINE: Final = "its queue length is not known yet"
DRAINED: Final = "drained by an operator"


class LoadTracker:
    """The states of all substations.

    A gauge older than ``stale_after`` seconds makes its substation ineligible. A substation that
    does not say how many connectors it has is taken to have ``default_connectors``.
    """

    def __init__(self, stale_after: float, default_connectors: float) -> None:
        self.stale_after = stale_after
        self._default_connectors = default_connectors
        self.changed: dict[str, SubstationState] = {}  # or gone, since ``take_changed``
        self._revisions = count()
        self._controls: dict[str, Control] = {}
        self._power_limits: dict[str, LimitSteps] = {}
        self._settled_at = -inf
        self.limits_version = 0  # counts the changes of power limits
        self.clock_offset = 0.0  # Unix time − the tracker's seconds: power limits are in Unix time
        self.substations: dict[str, SubstationState] = {}
        self.generation = 0  # how often there were other substations
        self.former: set[str] = set()  # they have left, and jobs may still wait in their queues

    def keep(self, connectors: dict[str, float | None]) -> None:
        """Have exactly these substations, with the connectors their target file names."""
        self.generation += self.substations.keys() != connectors.keys()
        for gone in self.substations.keys() - connectors.keys():
            self._change(self.substations.pop(gone))
            self.former.add(gone)
        self.former -= connectors.keys()
        for name, in_file in connectors.items():
            known = in_file or self._default_connectors
            state = self.substations.setdefault(name, SubstationState(name, known))
            state.in_file = known
            self._change(state)
            self._apply_control(state)

    def recall(self, substations: Iterable[str]) -> None:
        """Remember substations there were before this start."""
        self.former.update(set(substations) - self.substations.keys())

    def take_changed(self) -> list[SubstationState]:
        """Remove and return the states that have changed, or are gone, since the last call."""
        changed = list(self.changed.values())
        self.changed.clear()
        return changed

    def touch(self, state: SubstationState) -> None:
        """Count a state as changed, unless its substation left: time alone changes its figures."""
        if self.substations.get(state.substation) is state:
            self._change(state)

    # what is observed of a substation

    def read(self, substation: str, reading: Reading, asked_at: float) -> None:
        """Apply a page that was asked for at ``asked_at``."""
        if (state := self._of(substation)) is not None:
            apply_page(state, reading, asked_at)
            if state.health.ejected(asked_at) and not self._spares(state, asked_at):
                state.health.end_ejection(asked_at)

    def report(self, substation: str, counts: Counts) -> bool:
        """Apply counters that came with an event; return whether anything follows from them."""
        if (state := self._of_load(substation)) is None:
            return False
        was_due = state.events_due is not None
        follows = apply_counts(state, counts)
        if was_due:
            self._change(state)
        return follows

    def fail(self, substation: str, problem: str, now: float) -> None:
        """Record that a substation's page gives no load; once for long, it has failed."""
        if (state := self._of(substation)) is None:
            return
        state.problem = problem
        if state.failing_since is None:
            state.failing_since = now
        if now - state.failing_since >= self.stale_after:
            state.health.record_failure(now)

    def refuse(self, substation: str, problem: str, now: float) -> None:
        """Record that a substation's queue takes no jobs, until its page is read again."""
        if (state := self._of(substation)) is not None:
            state.refusal = problem
            state.health.record_failure(now)

    def control(self, substation: str, control: Control) -> None:
        """Record what an operator has set, whether or not the substation is known yet."""
        before = self._controls.get(substation)
        self._controls[substation] = control
        if control.power_limits != (before and before.power_limits):
            self._power_limits.pop(substation, None)
            if control.power_limits is not None:
                self._power_limits[substation] = LimitSteps(control.power_limits)
            self.limits_version += 1
        if (state := self._of(substation)) is not None:
            self._apply_control(state)

    # what is sent there

    def dispatch(self, substation: str, now: float, power_kw: float = DEFAULT_POWER_KW) -> None:
        """Record that a job is being sent there whose session draws so much power."""
        if (state := self._of_load(substation)) is None:
            return  # it has left; what may be there goes there all the same
        state.dispatched += 1
        state.sent_at.append(now)
        state.in_flight_kw.add(power_kw)
        state.expected = state.expected_load(now) + 1.0, now
        if not state.synced:
            state.depth = None  # whether that counted this one, nobody can tell

    def undo(self, substation: str) -> None:
        """Record that a job sent there did not arrive."""
        if (state := self._of_load(substation)) is not None:
            state.dispatched -= 1
            state.in_flight_kw.drop_newest()
            if state.sent_at:
                state.sent_at.pop()

    # what waits in its queue

    def settle(self, now: float) -> None:
        """Wait a little until every baseline is set: the first would get all jobs."""
        self._settled_at = now + SETTLE_SECONDS

    def settling(self, now: float) -> bool:
        """Return whether it is better to wait: some substation is about to be known."""
        return now < self._settled_at and any(map(_coming, self.substations.values()))

    def end_settling(self) -> None:
        """Wait no more: decisions are made from now on, whichever substation comes."""
        self._settled_at = -inf

    def invalidate_baseline(self, substation: str | None = None) -> None:
        """Have one baseline, or each, set anew: others put jobs there, or took some."""
        for name, state in self.substations.items():
            if substation in (None, name) and state.counts is not None:
                state.synced, state.depth = False, None
                self._change(state)

    def queued(self, substation: str, ready: float, consumers: int) -> None:
        """Record the jobs ready in a substation's queue, and how many consumers that has."""
        if (state := self._of(substation)) is not None:
            state.consumers = consumers
            state.ready = ready if state.counts is None else 0.0

    def unsynced(self) -> list[str]:
        """Return the substations whose queue's depth is to be asked for."""
        return [name for name in self.substations if self.needs_depth(name)]

    def needs_depth(self, substation: str) -> bool:
        """Return whether the depth of a substation's queue is to be asked for."""
        state = self.substations.get(substation)
        if state is None or state.counts is None:
            return False
        return not state.synced and state.depth is None

    def ask_depth(self, substation: str) -> None:
        """Record that a queue's depth is being asked for; nothing may be published there."""
        state = self.substations.get(substation)
        if state is not None and state.counts is not None:
            state.depth = Depth(brought(state.counts))

    def depth(self, substation: str, ready: float | None, now: float) -> None:
        """Record the answer: so many jobs were ready in the queue; None if there is no answer."""
        state = self.substations.get(substation)
        if state is None or state.depth is None:
            return
        if ready is None:
            state.depth = None
        else:
            state.depth.ready, state.depth.known_at = ready, now

    # what follows

    def ineligible_reason(self, state: SubstationState, now: float) -> str | None:
        """Return why nothing may be sent to a substation, or None where it may."""
        return self.unreadable_reason(state, now) or self.blocked_reason(state, now)

    def unreadable_reason(self, state: SubstationState, now: float) -> str | None:
        """Return why a substation's load is unknown by its page, or None where it is known."""
        if state.problem is not None:
            return state.problem
        if now - state.oldest > self.stale_after:
            name, gauge = min(state.gauges.items(), key=lambda each: each[1].asked_at)
            what = "its load" if name == LOAD else name
            came = "has a timestamp of" if gauge.stamped else "was read"
            return f"{what} {came} {now - gauge.asked_at:.1f} s ago: that is too old"
        return None

    def is_lost(self, state: SubstationState, now: float) -> bool:
        """Return whether a substation's load has been unknown for so long that it may be dead."""
        if state.failing_since is not None and now - state.failing_since >= self.stale_after:
            return True
        return state.problem is None and self.unreadable_reason(state, now) is not None

    def blocked_reason(self, state: SubstationState, now: float) -> str | None:
        """Return why nothing may be sent to a substation whatever its page says, or None."""
        if state.drained:
            return DRAINED
        if state.refusal is not None:
            return state.refusal
        if state.consumers == 0:
            return NO_CONSUMER
        if state.health.ejected(now):
            rest = state.health.ejected_until - now
            return f"ejected for another {rest:.0f} s after repeated failures"
        return None if state.synced else NO_BASELINE

    def readable(self, now: float) -> dict[str, bool]:
        """Return whether each substation's page gives its load; one that has left gives none."""
        readable = {
            n: self.unreadable_reason(each, now) is None for n, each in self.substations.items()
        }
        return dict.fromkeys(self.former, False) | readable

    def another(self, substation: str, now: float) -> bool:
        """Return whether anything may be sent to another substation than that one."""
        others = (each for each in self.substations.values() if each.substation != substation)
        return any(self.ineligible_reason(each, now) is None for each in others)

    def _spares(self, state: SubstationState, now: float) -> bool:
        """Return whether the others that can be chosen have half of all connectors, or more.

        What an operator has drained counts for neither.
        """
        known = [each for each in self.substations.values() if not each.drained]
        others = (
            each
            for each in known
            if each is not state and self.ineligible_reason(each, now) is None
        )
        return 2 * sum(each.connectors for each in others) >= sum(each.connectors for each in known)

    def _of(self, substation: str) -> SubstationState | None:
        """Return a state that is about to change."""
        if (state := self.substations.get(substation)) is not None:
            self._change(state)
        return state

    def _of_load(self, substation: str) -> SubstationState | None:
        """Return a state of which nothing but its load and power is about to change."""
        if (state := self.substations.get(substation)) is not None:
            self.changed[substation] = state
        return state

    def _change(self, state: SubstationState) -> None:
        state.revision = next(self._revisions)
        self.changed[state.substation] = state

    def _apply_control(self, state: SubstationState) -> None:
        if (control := self._controls.get(state.substation)) is not None:
            state.drained = control.state is Availability.DRAINING
            state.limit = control.limit
            state.power_limits = self._power_limits.get(state.substation)
        state.size()


def _coming(state: SubstationState) -> bool:
    """Return whether a substation is not known yet, and nothing says that it will not be."""
    return state.problem == NO_READING or (state.problem is None and not state.synced)
