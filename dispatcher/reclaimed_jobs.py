"""What is done with jobs that are taken from the queues of substations, and given back. Pure.

``dispatcher.reclaim`` chooses the queues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatcher.commands import Ack, LogJob, Reject, Requeue
from dispatcher.deliveries import Deliveries
from dispatcher.inputs import JobReclaimed, ReclaimDue, ReclaimedLost
from dispatcher.lifecycle import Lifecycle
from dispatcher.metrics import Metrics
from dispatcher.reclaim import Reclaiming
from dispatcher.recognition import Action, DropReason
from dispatcher.standby import Standby

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
        """Ask for the next job to reclaim; give back those that wait unless this one is active."""
        life, reclaiming = self._life, self._reclaiming
        for substation in reclaiming.pop_settled():
            self._metrics.reclaimed.labels(substation).inc()
        if not input.is_fed or self._standby.is_standby(life.at.now):
            for delivery in [*reclaiming.stop(), *self._forget_waiting()]:
                reclaiming.forget(delivery)
                life.do(Requeue(delivery))
            return
        ended, commands = reclaiming.review(life.at.now)
        for delivery in ended:
            self._drop_ended(delivery)
        life.do_all(commands)
        for substation, delivery in reclaiming.pop_copies(life.jobs.keys()):
            self._judge_copy(substation, delivery)
        if self._deliveries.is_current and life.open_jobs.complete:
            take = reclaiming.advance(life.at.now)
            if take is not None:
                life.do(take)

    def on_taken(self, input: JobReclaimed) -> None:
        """Acknowledge, keep or handle a job."""
        substation, delivery, problem = input.substation, input.delivery, input.problem
        if delivery is None or not delivery.is_live:  # else the link broke just then
            empty = delivery is None and not problem
            self._life.do_all(
                self._reclaiming.on_none_taken(substation, empty=empty, problem=problem)
            )
            return
        self._handle(substation, delivery)

    def on_lost(self, _: ReclaimedLost) -> None:
        """Forget the jobs that wait: RabbitMQ has put them back into their queues."""
        self._life.inherit_in_hand()
        self._reclaiming.on_link_lost()
        for job in self._life.forget_waiting(lambda job: job.is_reclaimed and not job.is_ours):
            self._life.note_back(job)

    def _handle(self, substation: str, delivery: Delivery) -> None:
        """Handle a delivery from a substation's queue; reject the one over which the code fails."""
        try:
            self._judge(substation, delivery)
        except Exception:
            self._life.do(Reject(delivery))
            raise

    def _judge(self, substation: str, delivery: Delivery) -> None:
        reclaiming = self._reclaiming
        if reclaiming.has_ended(delivery):
            self._drop_ended(delivery)
        elif reclaiming.is_own(substation, delivery):
            reclaiming.leave_session(substation, delivery)
        else:
            action = self._deliveries.handle_reclaimed(substation, delivery)
            if action is Action.KEEP:
                reclaiming.keep_copy(substation, delivery)
            elif action is Action.LEAVE:
                self._life.do(Requeue(delivery))
                reclaiming.end_turn()
            else:
                self._life.do_all(reclaiming.hand_over(substation, delivery))

    def _judge_copy(self, substation: str, delivery: Delivery) -> None:
        """Handle a copy of a job that is not in hand any more, unless it belongs where it was."""
        is_elsewhere = self._life.index.went_elsewhere(delivery.id or "", substation)
        if is_elsewhere or self._reclaiming.is_due(substation):
            self._handle(substation, delivery)
        else:
            self._life.do(Requeue(delivery))

    def _drop_ended(self, delivery: Delivery) -> None:
        """Acknowledge a job from a substation's queue whose session has ended there."""
        life = self._life
        text = "its message in the queue of its substation is dropped: its session has ended"
        life.do(LogJob(delivery.id or "", life.trace(delivery.headers), text))
        self._metrics.dropped.labels(DropReason.ENDED).inc()
        life.do(Ack(delivery))

    def _forget_waiting(self) -> list[Delivery]:
        """Forget the reclaimed jobs that are not in flight yet, and return their deliveries.

        Another dispatcher that is active cannot know of them, and would find them missing.
        """
        jobs = self._life.forget_waiting(lambda job: job.is_reclaimed)
        for job in jobs:
            self._life.note_back(job)
        return [job.delivery for job in jobs if job.delivery is not None]
