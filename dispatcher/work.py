"""The dispatcher as the reclaimer and the reconciler see it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from dispatcher.commands import Requeue
from dispatcher.inputs import (
    JobReclaimed,
    ReclaimedWanted,
    RecordedJobMissing,
    RequestRepublished,
)
from dispatcher.jobs import JobsInHand
from dispatcher.links import Links
from dispatcher.log_reader import LogReader
from dispatcher.metrics import Metrics
from dispatcher.shell import Shell
from grid.amqp import Delivery
from grid.messages import ChargeRequest


class Work:
    """Implements ``reclaim.Work`` and ``reconcile.Work``.

    Args:
        shell: Receives their inputs.
        links: Those of the requests, the event log and the dead letters.
        log_reader: Knows whether the log was read up to its end.
        metrics: The dispatcher's counters.
        now: Returns the tracker's seconds.
    """

    def __init__(
        self,
        shell: Shell,
        links: Links,
        log_reader: LogReader,
        metrics: Metrics,
        now: Callable[[], float],
    ) -> None:
        self._shell = shell
        self._core = shell.core
        self._links = links
        self._log_reader = log_reader
        self._metrics = metrics
        self._now = now

    # whether this dispatcher is at work

    @property
    def is_fed(self) -> bool:
        """Return whether RabbitMQ may feed this dispatcher.

        Otherwise it may feed another one, whose snapshots cannot be read here.
        """
        links = self._links
        is_standby = self._core.standby.is_standby(self._now())
        return not is_standby and links.requests.connected and links.log.connected

    @property
    def is_active(self) -> bool:
        """Return whether this dispatcher is active, and has judged all its deliveries."""
        core, requests = self._core, self._links.requests
        return (
            core.deciding
            and requests.connected
            and not requests.lapsed
            and not core.standby.is_standby(self._now())
            and self._log_reader.is_current
            and not core.held
        )

    @property
    def is_undisputed(self) -> bool:
        """Return whether no other dispatcher can have requests that RabbitMQ delivered to it."""
        return self._core.standby.is_undisputed(self._now())

    # what it has and knows

    @property
    def position(self) -> int:
        """Return the offset up to which the event log was read."""
        return self._links.log.position

    @property
    def dead_letters(self) -> int:
        """Return how many dead letters are being parked here."""
        return self._links.dead.unsettled

    def in_hand(self) -> JobsInHand:
        """Return the jobs in hand, and the number of other deliveries."""
        return self._core.in_hand(self._links.requests.unsettled)

    def has_sent(self, job: str, substation: str) -> bool:
        """Return whether a job was last sent to a substation from here, if remembered."""
        return self._core.index.sent_from_here(job) == substation

    def readable(self) -> Mapping[str, bool]:
        """Return whether each substation's page can be read."""
        return self._core.readable(self._now())

    def has_alternative(self, substation: str) -> bool:
        """Return whether a job of a substation could go to another one now."""
        core = self._core
        return (
            core.deciding
            and not core.standby.is_standby(self._now())
            and self._log_reader.is_current
            and core.open_jobs.complete
            and core.has_alternative(substation, self._now())
        )

    def has_ended(self, job: str, replays: int, asked_at: float) -> bool:
        """Return whether a job has ended since its last replay, and since it was requested."""
        return self._core.has_ended(job, replays, asked_at)

    def charging_at(self, job: str) -> Collection[str | None]:
        """Return the substations where a job may be charging.

        A session may last longer than its newest events are remembered.
        """
        core = self._core
        return core.index.charging_at(job), core.open_jobs.charging_at(job)

    # what it does

    def reclaim(self, substation: str, delivery: Delivery) -> bool:
        """Handle a job from a substation's queue; return False if it is requeued there."""
        commands = self._shell.feed(JobReclaimed(substation, delivery))
        return not any(isinstance(each, Requeue) for each in commands)

    def return_reclaimed(self) -> list[Delivery]:
        """Requeue the reclaimed jobs that wait here, and return their deliveries."""
        commands = self._shell.feed(ReclaimedWanted())
        return [each.delivery for each in commands if isinstance(each, Requeue)]

    def count_reclaimed(self, substation: str) -> None:
        """Count a job of that substation that is safe elsewhere."""
        self._metrics.reclaimed.labels(substation).inc()

    def record_requeued(self, job: str, substation: str, read_to: int) -> None:
        """Record that a request that was missing is in ``charge.requests`` again."""
        self._shell.feed(RequestRepublished(job, substation, read_to))

    def send_recorded(self, request: ChargeRequest, substation: str, replays: int) -> None:
        """Send a job again to the substation where the log has it, unless it is in hand."""
        self._shell.feed(RecordedJobMissing(request, substation, replays))
