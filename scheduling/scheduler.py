"""Which jobs go where: one pass over the wait queue. Pure: time and chance are arguments."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Generic

from msgspec import Struct
from msgspec.structs import replace

from grid.messages import DEFAULT_POWER_KW
from scheduling.candidates import Candidates, CandidateTable
from scheduling.explain import PROMISED, Explainer
from scheduling.order import Requirements
from scheduling.policies import Policy
from scheduling.reservation import Reservation
from scheduling.reserve import Reserve
from scheduling.wait_queue import W, WaitQueue

if TYPE_CHECKING:
    from random import Random


class Assignment(Struct, Generic[W], frozen=True, gc=False):
    """A job, the substation that takes it, and the explanation as the event log has it."""

    job: W
    substation: str
    explanation: Mapping[str, Any]


class SchedulingFailed(Exception, Generic[W]):
    """A mistake of ours over one job, which is not in the wait queue any more.

    ``assignments`` were made before it, and hold.
    """

    def __init__(self, job: W, assignments: list[Assignment[W]]) -> None:
        super().__init__("a waiting job could not be scheduled")
        self.job = job
        self.assignments = assignments


class Scheduler(Generic[W]):
    """Assigns the jobs that wait to substations with capacity.

    While at least as many others wait as there are substations, one job is dispatched ahead to each
    that is full and whose sessions are brief: it begins there as soon as a connector is free,
    without waiting for the event of that; and whichever connector is free first, some job
    is left for it. Without ``send_ahead`` all wait centrally; so they do while tenants share:
    jobs of one that floods would be ahead of those of others. For the first job that is overtaken
    for long, since it needs more power than is free anywhere, a substation is reserved. Only jobs
    that ``reserve`` is for take the connectors that it keeps free. Without
    ``explain``, as for a simulation, explanations are empty: they take longer than the decisions.
    """

    def __init__(
        self,
        table: CandidateTable,
        policy: Policy,
        random: Random,
        *,
        send_ahead: bool = True,
        explain: bool = True,
        reserve: Reserve | None = None,
    ) -> None:
        self._table = table
        self._policy = policy
        self._explainer = Explainer(table, policy.name) if explain else None
        self._random = random
        self._send_ahead = send_ahead
        self._reservation: Reservation[W] = Reservation(table)
        self._reserve = reserve
        self._may_send_ahead = send_ahead
        # what a lower limit to come, or a booking, refused in this pass, though there is power now
        self._too_long: list[W] = []
        self._full: bool | None = None  # no capacity, be it ahead or not, when last looked
        self.capacity_left = True  # after the last pass, for a usual job that none waiting can use

    def schedule(self, queue: WaitQueue[W], now: float) -> list[Assignment[W]]:
        """Assign all jobs for which there is capacity, remove them, and return the assignments.

        Each is counted by the load tracker. ``now`` is in its seconds.

        Raises:
            SchedulingFailed: An unforeseen error over one job.
        """
        self.capacity_left = True
        if not queue:
            self._reservation.release()
            return []
        self._may_send_ahead = self._send_ahead and not queue.is_shared
        opened, full_before, self._full = self._table.take_opened(now), self._full, None
        opened = self._reservation.review(queue, now) or opened
        if not opened and full_before is not None and self._ahead(len(queue) - 1) <= full_before:
            self._full, self.capacity_left = full_before, False
            return []
        assignments = self._pass_over(queue, now)
        if self.capacity_left and queue:
            # one that was assigned behind another that was passed over may have had the last of it
            ahead = self._ahead(len(queue))
            table = self._table
            self.capacity_left = table.has_capacity(
                now, power_kw=DEFAULT_POWER_KW, ahead=ahead, seconds=0.0
            )
        return assignments

    def begin_booked(self, job: W, substation: str, now: float) -> Assignment[W] | None:
        """Assign a job to the substation where its start is promised; None if it is full.

        What is reserved or kept for others does not matter.
        """
        needs, table = job.requirements, self._table
        found = table.candidates_for(needs.power_kw, (substation,), now, reserved_too=True)
        if found is None:
            return None
        return self._assigned(job, found, now, note=PROMISED)

    def _pass_over(self, queue: WaitQueue[W], now: float) -> list[Assignment[W]]:
        assignments: list[Assignment[W]] = []
        passed_over: list[W] = []
        # by what was allowed: the job of least power for which there was no capacity
        too_much: dict[tuple[str, ...], W] = {}
        self._too_long.clear()
        seen, waiting, reserve = 0, len(queue), self._reserve
        others_may_take = inf if reserve is None else reserve.others_may_take(self._table, now)
        for job in queue:
            seen += 1
            if (
                reserve is not None
                and others_may_take < 1.0
                and not reserve.is_for(job.requirements)
            ):
                passed_over.append(job)
                continue
            others = waiting - len(assignments) - 1
            try:
                assigned = self._assign(job, others, too_much, now)
            except Exception as error:
                queue.remove_first(seen, passed_over)
                raise SchedulingFailed(job, assignments) from error
            if assigned is not None:
                if reserve is not None and others_may_take < 1.0:
                    assigned = _with_note(assigned, reserve.note)
                others_may_take -= 1.0
                assignments.append(assigned)
                continue
            passed_over.append(job)
            if not self.capacity_left:
                break
        queue.remove_first(seen, passed_over)
        return assignments

    def _assign(
        self, job: W, others: int, too_much: dict[tuple[str, ...], W], now: float
    ) -> Assignment[W] | None:
        """Assign a job, while so many others wait; None where there is no capacity for it.

        Then ``capacity_left`` says whether there may be some for others.
        """
        needs, table = job.requirements, self._table
        refused = self._refused_for_less(needs, too_much)
        if refused is not None and not self._reservation.is_for(job):
            self._reservation.on_skipped(job, refused)
            return None
        ahead = self._ahead(others)
        found = table.candidates_for(
            needs.power_kw,
            needs.allowed,
            now,
            ahead=ahead,
            reserved_too=self._reservation.is_for(job),
            seconds=needs.seconds,
        )
        if found is not None:
            self._reservation.on_assigned(job, now)
            return self._assigned(job, found, now)
        if table.plans_ahead and table.candidates_for(
            needs.power_kw, needs.allowed, now, ahead=ahead
        ):
            # a shorter one may fit
            longer = (
                each for each in self._too_long if not _needs_no_less(each.requirements, needs)
            )
            self._too_long = [*longer, job]
        else:
            least = too_much.get(needs.allowed)
            if least is None or needs.power_kw < least.requirements.power_kw:
                too_much[needs.allowed] = job
        if table.powered:
            self._reservation.on_passed_over(job, now)
        # others might find capacity all the same; one with a reservation must be asked in any case
        may_fit = bool(needs.allowed) or table.powered or table.plans_ahead
        self.capacity_left = table.reserved is not None or (
            may_fit and table.has_capacity(now, ahead=ahead)
        )
        if not self.capacity_left:
            self._full = ahead
        return None

    def _assigned(self, job: W, found: Candidates, now: float, note: str = "") -> Assignment[W]:
        """Return the assignment to the candidate that the policy picks; it is counted."""
        needs, pick = job.requirements, self._policy.pick(found, self._random)
        if not (0 <= pick.number < len(found.after) and found.after[pick.number] < inf):
            raise ValueError(f"{self._policy.name} picked {pick.number}, which is no candidate")
        explainer = self._explainer
        why = {} if explainer is None else explainer.explanation(pick, found, needs, now)
        substation, table = found.names[pick.number], self._table
        table.tracker.dispatch(substation, now, needs.power_kw)
        if table.bookings is not None:
            table.bookings.on_dispatched(substation, needs.power_kw, needs.seconds)
        assignment = Assignment(job, substation, why)
        return _with_note(assignment, note) if note else assignment

    def _refused_for_less(
        self, needs: Requirements, too_much: Mapping[tuple[str, ...], W]
    ) -> W | None:
        """Return a job that needs no more, and was refused in this pass; None if there is none."""
        least = too_much.get(needs.allowed)
        if least is not None and needs.power_kw >= least.requirements.power_kw:
            return least
        for each in self._too_long:
            if _needs_no_less(needs, each.requirements):
                return each
        return None

    def _ahead(self, others: int) -> bool:
        """Return whether enough others wait for one job to be dispatched ahead."""
        return self._may_send_ahead and others >= len(self._table)


def _with_note(assignment: Assignment[W], note: str) -> Assignment[W]:
    why = assignment.explanation
    if not why:
        return assignment
    return replace(assignment, explanation={**why, "reason": f"{why['reason']}{note}"})


def _needs_no_less(needs: Requirements, refused: Requirements) -> bool:
    """Return whether a job needs as much power as one that was refused, and for as long.

    A job that does not say how long, and one that does, tell nothing of each other.
    """
    if needs.allowed != refused.allowed or needs.power_kw < refused.power_kw:
        return False
    return needs.seconds >= refused.seconds if refused.seconds else not needs.seconds
