"""The edge around the core: feeds it inputs from RabbitMQ, and executes its commands.

It decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable
from functools import partial
from time import perf_counter
from typing import Any, Final

from dispatcher.commands import (
    Ack,
    Command,
    ConfirmSilence,
    Fail,
    LogJob,
    LookAtQueue,
    ParkMessage,
    PublishJob,
    ReadLog,
    Reject,
    ReportError,
    Requeue,
    RequeueRequest,
    RouteSoon,
    ScrapeNow,
    TakeFromQueue,
    Warn,
    WriteEvent,
)
from dispatcher.core import Core
from dispatcher.inputs import (
    EventWritten,
    Input,
    LogRead,
    Moment,
    PublishResult,
    QueueObserved,
    ReclaimedLost,
    RequestDelivered,
    RequestsLost,
    Route,
    SilenceConfirmed,
    Stop,
    Tick,
)
from dispatcher.jobs import Job
from dispatcher.metrics import Metrics
from dispatcher.parking import Parking
from dispatcher.queues import Whereabouts
from grid import topology
from grid.amqp import Consumer, Delivery, Outcome, Publisher, QueueState
from grid.event_log import EventWriter
from grid.isolation import Isolation
from grid.logs import tell
from grid.trace import Record, Span
from grid.waiting import together, within

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.25  # between two ticks
LOG_TIMEOUT: Final = 5.0  # to read the event log as far as it is written
SLOW_SECONDS: Final = 15.0  # RabbitMQ's streams may be back late; after that it is logged
NOT_READ: Final = "the event log is not read up to its end yet: %d redelivered requests wait"

ReadEvents = Callable[[], Coroutine[Any, Any, None]]
LookAt = Callable[[str], Coroutine[Any, Any, QueueState | None]]


class Shell:
    """The core's inputs and commands.

    Args:
        core: Decides.
        publisher: Publishes jobs, requests that are requeued, and parked messages.
        events: Writes the event log.
        requests: The link that delivers requests.
        metrics: The dispatcher's counters.
        isolation: Counts and logs unforeseen errors over single items.
        moment: Returns the current moment.
        scrape: Reads a substation's page soon.
        record: Gets the spans of jobs, if anything does.
    """

    def __init__(
        self,
        core: Core,
        publisher: Publisher,
        events: EventWriter,
        *,
        requests: Consumer,
        metrics: Metrics,
        isolation: Isolation,
        moment: Callable[[], Moment],
        scrape: Callable[[str], None],
        record: Record | None = None,
    ) -> None:
        self.core = core
        self._record = record
        self._publisher = publisher
        self._events = events
        self._requests = requests
        self._metrics = metrics
        self._isolation = isolation
        self._moment = moment
        self.parking = Parking(publisher, events, metrics, lambda: moment().clock)
        self._readings: dict[bool, asyncio.Queue[int]] = {
            False: asyncio.Queue(),
            True: asyncio.Queue(),
        }
        self._silences: asyncio.Queue[Collection[Job]] = asyncio.Queue()
        self._executors: dict[type[Command], Callable[[Any], None]] = {
            PublishJob: self._publish_job,
            RequeueRequest: self._requeue_request,
            ParkMessage: self._park,
            WriteEvent: self._write_event,
            Ack: lambda command: command.delivery.ack(),
            Requeue: lambda command: command.delivery.requeue(),
            Reject: lambda command: command.delivery.reject(),
            ReadLog: self._read_log,
            RouteSoon: self._route_soon,
            ScrapeNow: lambda command: scrape(command.substation),
            LookAtQueue: _by_the_caller,
            TakeFromQueue: _by_the_caller,
            ConfirmSilence: lambda command: self._silences.put_nowait(command.jobs),
            LogJob: self._log_job,
            Warn: lambda command: log.warning("%s", command.text),
            ReportError: self._report_error,
            Fail: _fail,
        }

    def feed(self, input: Input) -> list[Command]:
        """Feed an input to the core, execute its commands, and return them.

        Raise the first unforeseen error, once all commands are executed.
        """
        commands = self.core.handle(input, self._moment())
        self._execute(commands)
        return commands

    def _execute(self, commands: Iterable[Command]) -> None:
        """Execute commands in their order; raise the first unforeseen error after all of them."""
        failed: Exception | None = None
        flushed = False
        for command in commands:
            try:
                if not flushed and type(command) is PublishJob:
                    # the log must have a decision before the substation's first event of the job
                    self._events.flush()
                    flushed = True
                self._executors[type(command)](command)
            except Exception as error:
                if failed is not None:
                    log.error("a further error of the same input: %r", error, exc_info=error)
                failed = failed or error
        if failed is not None:
            raise failed

    async def run(self, read_log: ReadEvents, read_all: ReadEvents, look_at: LookAt) -> None:
        """Feed ticks and what the core asked to be read, until the task is cancelled.

        Args:
            read_log: Returns once all is read that was in the event log at the call.
            read_all: The same, including what is older than this dispatcher's start.
            look_at: Returns the state of a substation's queue; None if unknown.
        """
        await together(
            self._tick(),
            self._read_for_core(read_log, older=False),
            self._read_for_core(read_all, older=True),
            self._confirm_silences(read_log, look_at),
        )

    def whereabouts(self, substation: str, observed: QueueObserved | None) -> Whereabouts | None:
        """Return the core's answer as of now."""
        return self.core.whereabouts(substation, observed, self._moment().now)

    # inputs

    def on_request(self, delivery: Delivery) -> None:
        """Handle a request from ``charge.requests``."""
        self.feed(RequestDelivered(delivery))

    def on_requests_lost(self) -> None:
        """Handle a break of the link that delivers requests."""
        self.feed(RequestsLost())

    def on_reclaimed_lost(self) -> None:
        """Handle a break of the link that delivers reclaimed jobs."""
        self.feed(ReclaimedLost())

    def tick(self) -> None:
        """Handle the passing of time."""
        self.feed(Tick(self._requests.connected))

    def route(self) -> None:
        """Assign waiting jobs for which there is capacity."""
        began = perf_counter()
        commands = self.core.handle(Route(), self._moment())
        if jobs := [each.job for each in commands if isinstance(each, PublishJob)]:
            took = (perf_counter() - began) / len(jobs)
            for job in jobs:
                self._metrics.decision_seconds.observe(took, job.trace.exemplar)
        self._execute(commands)

    async def stop(self) -> None:
        """Stop deciding, and wait a moment for RabbitMQ to confirm what was sent.

        Everything confirmed by then is acknowledged before the link closes.
        """
        self.feed(Stop())
        self._requests.stop()
        await self._events.finish()

    # commands

    def _publish_job(self, command: PublishJob) -> None:
        job = command.job
        self._publisher.publish(
            topology.SUBSTATIONS_EXCHANGE,
            command.substation,
            job.body,
            partial(self._on_publish_result, command),
            id=job.id,
            headers=job.headers,
            wanted=partial(self._is_ours, job),
        )

    def _requeue_request(self, command: RequeueRequest) -> None:
        job = command.job
        self._publisher.publish(
            topology.REQUESTS_EXCHANGE,
            topology.REQUESTS,
            job.body,
            partial(self._on_publish_result, command),
            id=job.id,
            headers=command.headers,
            priority=job.request.priority,
            # if its delivery was lost with its link, RabbitMQ still has the original
            wanted=lambda: job.is_ours,
        )

    def _on_publish_result(self, command: PublishJob | RequeueRequest, outcome: Outcome) -> None:
        self.feed(PublishResult(command, outcome))

    def _is_ours(self, job: Job) -> bool:
        """Return whether a job in doubt is to be published again from here.

        If its delivery was lost with its link, RabbitMQ redelivers the request, perhaps to another
        dispatcher, which may send it elsewhere. The delivering link may be the last to break.
        """
        return job.is_ours and self._moment().certain

    def _write_event(self, command: WriteEvent) -> None:
        self._events.write(command.event, partial(self._on_event_written, command))

    def _on_event_written(self, command: WriteEvent, written: bool) -> None:  # noqa: FBT001
        self.feed(EventWritten(command, written))

    def _park(self, command: ParkMessage) -> None:
        self.parking.park(
            command.delivery, command.id, command.kind, command.reason, headers=command.headers
        )

    def _report_error(self, command: ReportError) -> None:
        self._isolation.record_failure(command.item, command.error)

    def _log_job(self, command: LogJob) -> None:
        more = {"substation": command.substation} if command.substation else {}
        trace = command.trace
        tell(log, command.job, trace, command.text, **more)
        if self._record is not None and trace.sampled and command.since is not None:
            at = self._moment()
            known = {"job.id": command.job, "outcome": command.text, **more}
            began = at.clock - (at.now - command.since)
            self._record(Span("dispatch", "consumer", trace, began, at.clock, known))

    def _read_log(self, command: ReadLog) -> None:
        self._readings[command.older].put_nowait(command.requests)

    def _route_soon(self, _: RouteSoon) -> None:
        self._publisher.before_flush(self.route)

    # what takes time

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tick()

    async def _read_for_core(self, read: ReadEvents, *, older: bool) -> None:
        """Read the log for the requests that wait for it, without a timeout."""
        while True:
            requests = await self._readings[older].get()
            reading = asyncio.ensure_future(read())
            try:
                done, _ = await asyncio.wait({reading}, timeout=SLOW_SECONDS)
                if not done:
                    log.warning(NOT_READ, requests)
                await reading
            finally:
                reading.cancel()
            self.feed(LogRead(older))

    async def _confirm_silences(self, read_log: ReadEvents, look_at: LookAt) -> None:
        while True:
            by_substation: dict[str, list[Job]] = {}
            for job in await self._silences.get():
                by_substation.setdefault(job.substation, []).append(job)
            is_read = await within(LOG_TIMEOUT, read_log())
            for substation, jobs in sorted(by_substation.items()):
                queue = await look_at(substation) if is_read else None
                self.feed(SilenceConfirmed(substation, jobs, queue))


def _by_the_caller(_: LookAtQueue | TakeFromQueue) -> None:
    """Do nothing: it takes time, and the caller of ``feed`` does it."""


def _fail(command: Fail) -> None:
    raise command.error
