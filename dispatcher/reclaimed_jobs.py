"""What is done with jobs that are taken from the queues of substations, and given back. Pure.

``dispatcher.reclaim`` chooses the queues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatcher.commands import Ack, LogJob, Requeue
from dispatcher.deliveries import Deliveries
from dispatcher.inputs import JobReclaimed, ReclaimDue, ReclaimedLost
from dispatcher.lifecycle import Lifecycle
from dispatcher.metrics import Metrics
from dispatcher.reclaim import Copy, Reclaiming
from dispatcher.recognition import DropReason
from dispatcher.standby import Standby
from grid import parking

if TYPE_CHECKING:
    from grid.amqp import Delivery


class ReclaimedJobs:
    """Reclaims jobs, one at a time, and has them judged like requests.

    Args:
        life: The jobs in hand.
        deliveries: Judges what was taken.
        reclaiming: Chooses the queues, and knows which deliveries from them are in hand.
        standby: Knows whether this dispatcher is active.
        metrics: The dispatcher's counters.
    """

    def __init__(
        self,
        life: Lifecycle,
        deliveries: Deliveries,
        reclaiming: Reclaiming,
        standby: Standby,
        metrics: Metrics,
    ) -> None:
        self._life = life
        self._deliveries = deliveries
        self._reclaiming = reclaiming
        self._standby = standby
        self._metrics = metrics

    def on_due(self, input: ReclaimDue) -> None:
        """Ask for the next job to reclaim; give back those that wait unless this one is active.

        The copies of jobs that are still in hand are kept in any case: a substation that is back
        would charge a copy that is in its queue.
        """
        life, reclaiming = self._life, self._reclaiming
        for substation in reclaiming.pop_settled():
            self._metrics.reclaimed.labels(substation).inc()
        for copy in reclaiming.pop_copies(lambda each: each.is_needless):
            self._drop(copy.job.id, copy.delivery, "it is not needed any more", DropReason.IN_HAND)
        if not input.is_fed or self._standby.is_standby(life.at.now):
            for delivery in [*reclaiming.stop(), *self._forget_waiting()]:
                reclaiming.forget(delivery)
                life.do(Requeue(delivery))
            for copy in reclaiming.pop_copies(lambda each: each.has_lost_its_job):
                self._give_back(copy)
            return
        ended, commands = reclaiming.review(life.at.now)
        for delivery in ended:
            self._drop_ended(delivery)
        life.do_all(commands)
        if self._deliveries.is_current and life.open_jobs.complete:
            for copy in reclaiming.pop_copies(lambda each: each.has_lost_its_job):
                self._handle(copy.substation, copy.delivery)
            take = reclaiming.advance(life.at.now)
            if take is not None:
                life.do(take)

    def on_taken(self, input: JobReclaimed) -> None:
        """Handle a job that was taken from a queue, or that none was."""
        substation, delivery, problem = input.substation, input.delivery, input.problem
        if delivery is None or not delivery.is_live:  # else the link broke just then
            empty = delivery is None and not problem
            self._life.do_all(
                self._reclaiming.on_none_taken(substation, empty=empty, problem=problem)
            )
            return
        if self._handle(substation, delivery):
            self._reclaiming.end_turn()

    def on_lost(self, _: ReclaimedLost) -> None:
        """Forget the jobs that wait: RabbitMQ has put them back into their queues."""
        self._life.inherit_in_hand()
        self._reclaiming.on_link_lost()
        for job in self._life.forget_waiting(lambda job: job.is_reclaimed and not job.is_ours):
            self._life.note_back(job)

    def _handle(self, substation: str, delivery: Delivery) -> bool:
        """Accept a delivery from a queue, or requeue it; return whether it was requeued.

        One over which the code fails is rejected.
        """
        try:
            goes_back = not self._accept(substation, delivery)
        except Exception as error:  # noqa: BLE001
            self._life.reject_delivery(delivery, error)
            return False
        if goes_back:
            self._life.do(Requeue(delivery))
        return goes_back

    def _accept(self, substation: str, delivery: Delivery) -> bool:
        """Handle a delivery from a queue, or keep it; return False if it goes back to the queue."""
        reclaiming = self._reclaiming
        if reclaiming.has_ended(delivery):
            self._drop_ended(delivery)
        elif reclaiming.is_own(substation, delivery):
            reclaiming.leave_session(substation, delivery)
        else:
            goes_back, copy_of = self._deliveries.handle_reclaimed(substation, delivery)
            if goes_back:
                return False
            if copy_of is not None:
                reclaiming.keep_copy(Copy(copy_of, substation, delivery))
            else:
                self._life.do_all(reclaiming.hand_over(substation, delivery))
        return True

    def _give_back(self, copy: Copy) -> None:
        """Requeue the copy of a job that was forgotten, unless the job is in hand or safe."""
        job, substation, delivery = copy
        index, in_hand = self._life.index, self._life.jobs.get(job.id)
        if in_hand is not None:
            self._reclaiming.keep_copy(Copy(in_hand, substation, delivery))
        elif self._reclaiming.has_ended(delivery):
            self._drop_ended(delivery)
        elif job.is_reclaimed:
            # it is in the queue of another substation again: which of the two counts, nobody knows
            index.forget_sent(job.id)
            self._life.do(Requeue(delivery))
        elif index.went_elsewhere(job.id, substation):
            self._drop(job.id, delivery, "its job was sent elsewhere since", DropReason.SENT)
        else:
            # if its request comes back here, it is dropped: the job is there
            replays = parking.replays(delivery.headers)
            index.note_sent(job.id, substation, job.assigned_at, replays)
            self._life.do(Requeue(delivery))

    def _drop_ended(self, delivery: Delivery) -> None:
        """Acknowledge a job from a substation's queue whose session has ended there."""
        self._drop(delivery.id or "", delivery, "its session has ended", DropReason.ENDED)

    def _drop(self, job: str, delivery: Delivery, why: str, reason: DropReason) -> None:
        life = self._life
        text = f"its message in the queue of its substation is dropped: {why}"
        life.do(LogJob(job, life.trace(delivery.headers), text))
        self._metrics.dropped.labels(reason).inc()
        life.do(Ack(delivery))

    def _forget_waiting(self) -> list[Delivery]:
        """Forget the reclaimed jobs that are not in flight yet, and return their deliveries.

        Another dispatcher that is active cannot know of them, and would find them missing.
        """
        jobs = self._life.forget_waiting(lambda job: job.is_reclaimed)
        for job in jobs:
            self._life.note_back(job)
        return [job.delivery for job in jobs if job.delivery is not None]
