"""Jobs that no queue and no dispatcher has are published again, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from dispatcher import reconcile
from dispatcher.inputs import (
    CancelledRequestMissing,
    Input,
    RecordedJobMissing,
    RecordLost,
    RequestRepublished,
)
from dispatcher.job_index import JobIndex
from dispatcher.jobs import COPY_HEADER, RECLAIMED_HEADER, JobsInHand
from dispatcher.links import Links
from dispatcher.metrics import Metrics
from dispatcher.open_jobs import OpenJobs
from dispatcher.queues import Whereabouts
from dispatcher.reconcile import MISSING_SECONDS, OWN_SECONDS, Reconciler
from dispatcher.shell import Shell
from grid import events, messages, parking, provenance, topology
from grid.amqp import Outcome, QueueState
from grid.amqp.scanner import See
from grid.errors import BrokerUnavailable
from grid.events import REQUEUED, Event, State
from grid.messages import ChargeRequest
from tests.fake_broker import FakePublisher

REQUESTS = topology.REQUESTS


def accepted(job: str) -> Event:
    """Return the record of a request."""
    fields = ChargeRequest(job, 1_000.0, priority=3).fields()
    return Event(State.QUEUED, 1_000.0, job, detail=fields)


class ReconcilerHarness:
    """A reconciler among queues, an event log and a dispatcher that are all scripted."""

    def __init__(self, *told: Event) -> None:
        self.log = list(told)
        self.jobs = OpenJobs()
        for offset, event in enumerate(told):
            self.jobs.take(event, offset)
        self.jobs.absorb(OpenJobs())
        self.index = JobIndex(1_000)
        for event in told:
            self.index.apply(event)
        self.depths: dict[str, int | None] = {REQUESTS: 0, topology.DEAD: 0}
        self.hands = JobsInHand(frozenset(), 0)
        self.where: dict[str, Whereabouts] = {}
        self.again: list[tuple[str, str, int]] = []
        self.requeued: list[tuple[str, str, int]] = []
        self.unread: list[tuple[int, Event]] = []
        self.meanwhile: Callable[[], None] = lambda: None  # while the log is searched
        self.dead_letters = 0
        self.consumers, self.is_undisputed = 1, True
        self.is_active, self.now, self.log_read = True, 0.0, 0
        self.registry = CollectorRegistry()
        self.publisher = FakePublisher(**{"in.charge.requests": Outcome.CONFIRMED})
        self.publisher.automatic[topology.REQUESTS_EXCHANGE] = Outcome.CONFIRMED
        self.core = core = SimpleNamespace(
            index=self.index,
            open_jobs=self.jobs,
            standby=SimpleNamespace(is_undisputed=lambda _: self.is_undisputed),
            is_active=lambda _: self.is_active,
            in_hand=lambda _: self.hands,
        )
        links = SimpleNamespace(
            requests=SimpleNamespace(connected=True, lapsed=False, unsettled=0),
            dead=self,
            log=self,
            queues=self,
            scanner=self,
            again=self.publisher,
        )
        self.reconciler = Reconciler(
            cast(Shell, SimpleNamespace(core=core, feed=self.feed)),
            cast(Links, links),
            Metrics(self.registry),
            lambda: self.now,
        )

    @property
    def position(self) -> int:
        """Return how far the log was read."""
        return len(self.log)

    async def look_for_missing(self) -> None:
        """Have it look once."""
        await self.reconciler.look(self.read_log, self.whereabouts)

    @property
    def unsettled(self) -> int:
        """Return how many dead letters are being parked."""
        return self.dead_letters

    def feed(self, input: Input) -> None:
        """Record a job that was requeued, as the log has it, or that is sent once more."""
        if isinstance(input, RequestRepublished):
            self.jobs.requeue(input.job, input.substation, input.read_to)
            self.requeued.append((input.job, input.substation, input.read_to))
        elif isinstance(input, RecordedJobMissing):
            self.again.append((input.request.id, input.substation, input.replays))
        elif isinstance(input, RecordLost):
            self.jobs.drop(input.job)
        elif isinstance(input, CancelledRequestMissing):
            self.jobs.forget_undelivered(input.job)

    def accept(self, *jobs: str) -> None:
        """Record requests, which are in their queue."""
        for event in records_of(jobs):
            self.jobs.take(event, len(self.log))
            self.log.append(event)
        self.depths[REQUESTS] = (self.depths[REQUESTS] or 0) + len(jobs)

    def cancel_undelivered(self, *jobs: str) -> None:
        """Have jobs that wait in their queue cancelled."""
        for job in jobs:
            self.jobs.cancel_undelivered(job)
            self.jobs.take(Event(State.CANCELLED, 2_000.0, job), len(self.log))

    def sent_here(self, job: str) -> None:
        """Record that the dispatcher sent a job itself."""
        self.index.note_sent(job, "s1", 1.0)

    async def look(self, name: str) -> QueueState | None:
        """Return the state of a queue."""
        depth = self.depths[name]
        return None if depth is None else QueueState(depth, self.consumers)

    async def scan(self, _stream: str, start: str | int, end: int, see: See) -> None:
        """Read a part of the log."""
        self.meanwhile()
        first = 0 if start == "first" else int(start)
        for offset in range(first, min(end, len(self.log))):
            see(offset, events.encode([self.log[offset]]), provenance.DISPATCHER)

    async def whereabouts(self, substation: str) -> Whereabouts:
        """Return where jobs are that were sent to a substation."""
        return self.where.get(substation, Whereabouts.UNKNOWN)

    async def read_log(self) -> None:
        """Read the log to its end."""
        self.log_read += 1
        unread, self.unread = self.unread, []
        for offset, event in unread:
            self.jobs.take(event, offset)

    async def published_after(self, seconds: float) -> list[str]:
        """Look at once and after a while; return the jobs published so far."""
        await self.look_for_missing()
        self.now += seconds
        await self.look_for_missing()
        return self.published()

    def published(self) -> list[str]:
        """Return the jobs that were published."""
        found = self.publisher.to(topology.REQUESTS_EXCHANGE)
        return [str(each.id) for each in found]

    def counted(self, outcome: str) -> float:
        """Return how many jobs the metric counts with this outcome."""
        labels = {"outcome": outcome}
        return self.registry.get_sample_value("dispatcher_reconciled_jobs_total", labels) or 0.0


def records_of(jobs: Iterable[str]) -> list[Event]:
    """Return the records of several requests."""
    return [accepted(job) for job in jobs]


async def test_reconciler_publishes_missing_requests_unchanged() -> None:
    """With the same ids, order and fields."""
    harness = ReconcilerHarness(*records_of("abc"))
    assert await harness.published_after(MISSING_SECONDS - 1) == []
    assert await harness.published_after(1) == ["a", "b", "c"]
    [first, *_] = harness.publisher.to(topology.REQUESTS_EXCHANGE)
    assert messages.decode(first.body) == ChargeRequest("a", 1_000.0, priority=3)
    assert (first.key, first.priority) == (REQUESTS, 3)
    assert harness.counted("published") == 3
    harness.depths[REQUESTS] = 3
    assert await harness.published_after(60) == ["a", "b", "c"]


@pytest.mark.parametrize("queue", [REQUESTS, topology.DEAD])
async def test_reconciler_leaves_requests_in_a_queue_alone(queue: str) -> None:
    """Waiting or to be parked, they are not missing; if one is missing, it is the oldest."""
    harness = ReconcilerHarness(*records_of("abc"))
    harness.depths[queue] = 3
    assert await harness.published_after(60) == []
    assert harness.log_read == 0
    harness.depths[queue] = 2
    assert await harness.published_after(MISSING_SECONDS) == ["a"]


async def test_reconciler_leaves_requests_in_hand_alone() -> None:
    """Also unacknowledged ones of unknown id: they are being parked."""
    harness = ReconcilerHarness(*records_of("abc"))
    harness.hands = JobsInHand({"a", "b"}, 1)
    assert await harness.published_after(60) == []
    harness.hands = JobsInHand({"a", "b"}, 0)
    assert await harness.published_after(MISSING_SECONDS) == ["c"]


async def test_reconciler_finds_missing_request_behind_cancelled_ones() -> None:
    """Those are in the queue still, but end no wait of another."""
    harness = ReconcilerHarness(*records_of("a"))
    harness.accept(*"bcdef")
    harness.cancel_undelivered(*"def")
    assert await harness.published_after(MISSING_SECONDS) == ["a"]


async def test_reconciler_publishes_nothing_in_place_of_purged_cancelled_requests() -> None:
    """They are older than what is in the queue, so they are the ones that are missing."""
    harness = ReconcilerHarness(*records_of("a"))
    harness.accept(*"bcd")
    harness.cancel_undelivered(*"bc")
    harness.depths[REQUESTS] = 0
    harness.accept(*"efg")
    assert await harness.published_after(MISSING_SECONDS) == ["a", "d"]
    assert list(harness.jobs.undelivered) == []
    harness.depths[REQUESTS] = 5
    assert await harness.published_after(60) == ["a", "d"]


async def test_reconciler_forgets_purged_cancelled_requests_also_if_no_other_waits() -> None:
    """Remembered, they would look like missing ones once others wait."""
    harness = ReconcilerHarness()
    harness.accept("a", "b")
    harness.cancel_undelivered("a", "b")
    await harness.published_after(60)
    assert list(harness.jobs.undelivered) == ["a", "b"]
    harness.depths[REQUESTS] = 0
    assert await harness.published_after(60) == []
    assert list(harness.jobs.undelivered) == []


async def test_reconciler_counts_cancelled_request_once_until_that_is_recorded() -> None:
    """Its job waits by the log, and its request is in the queue."""
    harness = ReconcilerHarness()
    harness.accept("a", "b")
    harness.jobs.cancel_undelivered("a")
    assert await harness.published_after(60) == []


async def test_reconciler_leaves_briefly_missing_request_alone() -> None:
    """It may be in flight from RabbitMQ to the dispatcher."""
    harness = ReconcilerHarness(*records_of("abc"))
    for depth in (2, 3) * 10:
        harness.depths[REQUESTS] = depth
        assert await harness.published_after(MISSING_SECONDS / 3) == []


async def test_reconciler_publishes_no_more_than_were_missing_together() -> None:
    """At each look other requests may be in flight, so the smallest number missing counts."""
    harness = ReconcilerHarness(*records_of("abcdef"))
    for depth in (4, 2, 5, 3):
        harness.depths[REQUESTS] = depth
        await harness.published_after(MISSING_SECONDS / 8)
    harness.depths[REQUESTS] = 2
    assert await harness.published_after(MISSING_SECONDS) == ["a"]


async def test_reconciler_publishes_nothing_while_queue_is_missing() -> None:
    """It could not be routed; the time counts from when the queue is back."""
    harness = ReconcilerHarness(*records_of("ab"))
    harness.depths[REQUESTS] = None
    assert await harness.published_after(60) == []
    harness.depths[REQUESTS] = 0
    assert await harness.published_after(MISSING_SECONDS - 1) == []
    assert await harness.published_after(1) == ["a", "b"]


async def test_reconciler_publishes_only_when_active_and_log_is_complete() -> None:
    """A standby does not know what the active dispatcher has not acknowledged."""
    harness = ReconcilerHarness(*records_of("ab"))
    harness.is_active = False
    assert await harness.published_after(60) == []
    later = ReconcilerHarness()
    later.jobs = OpenJobs()
    assert not later.jobs.complete
    assert await later.published_after(60) == []


async def test_reconciler_reads_log_to_its_end_before_anything_is_missing() -> None:
    """Another dispatcher may have decided on it, or it may have ended."""
    harness = ReconcilerHarness(*records_of("ab"))

    async def read_log() -> None:
        harness.jobs.take(Event(State.ASSIGNED, 1.0, "a", "s1"), 2)

    harness.read_log = read_log  # type: ignore[method-assign]
    assert await harness.published_after(MISSING_SECONDS) == ["b"]


async def test_reconciler_publishes_job_of_gone_substation_with_its_origin() -> None:
    """A dispatcher that remembers it there must not drop it as a copy. It is published once."""
    harness = ReconcilerHarness(
        *records_of("ab"), *(Event(State.ASSIGNED, 1.0, job, "s1") for job in "ab")
    )
    assert await harness.published_after(60) == []
    harness.where["s1"] = Whereabouts.GONE
    harness.sent_here("b")
    assert await harness.published_after(MISSING_SECONDS) == ["a", "b"]
    headers = [each.headers or {} for each in harness.publisher.sent]
    assert {each[RECLAIMED_HEADER] for each in headers} == {"s1"}
    assert all(each[COPY_HEADER] for each in headers)
    harness.depths[REQUESTS] = 2
    assert await harness.published_after(60) == ["a", "b"]
    assert harness.again == []


async def test_reconciler_resends_job_to_substation_at_work() -> None:
    """A substation that has it knows it by its id; a job sent by this dispatcher waits longer."""
    harness = ReconcilerHarness(
        *records_of("ab"), *(Event(State.ASSIGNED, 1.0, job, "s1") for job in "ab")
    )
    harness.where["s1"] = Whereabouts.QUEUE_EMPTY
    harness.sent_here("b")
    assert await harness.published_after(MISSING_SECONDS) == []
    assert harness.again == [("a", "s1", 0)]
    harness.sent_here("a")
    await harness.published_after(OWN_SECONDS)
    assert ("b", "s1", 0) in harness.again


async def test_reconciler_resends_job_that_was_overtaken() -> None:
    """If later jobs have begun and it has not, it is not in its substation's queue."""
    assigned = [Event(State.ASSIGNED, 1.0, job, "s1") for job in "abc"]
    harness = ReconcilerHarness(*records_of("abc"), *assigned)
    harness.where["s1"] = Whereabouts.SERVED
    await harness.published_after(MISSING_SECONDS)
    assert harness.again == []
    harness.jobs.take(Event(State.CHARGING, 1.0, "b", "s1"), 6)
    await harness.published_after(MISSING_SECONDS)
    assert harness.again == [("a", "s1", 0)]


async def test_reconciler_leaves_job_without_record_to_its_sender() -> None:
    """It was published without the api, so only its sender knows what it asks for."""
    harness = ReconcilerHarness(Event(State.ASSIGNED, 1.0, "a", "s1"))
    harness.where["s1"] = Whereabouts.QUEUE_EMPTY
    assert await harness.published_after(60) == []
    assert (harness.again, harness.counted("record lost")) == ([], 0)


async def test_reconciler_does_not_take_leaderless_queue_for_empty() -> None:
    """RabbitMQ then reports neither its messages nor its consumers."""
    harness = ReconcilerHarness(*records_of("ab"))
    harness.consumers = 0
    assert await harness.published_after(60) == []


async def test_reconciler_publishes_when_disputed_only_without_other_consumers() -> None:
    """Another dispatcher that hangs keeps its unacknowledged requests until RabbitMQ's timeout."""
    harness = ReconcilerHarness(*records_of("ab"))
    harness.consumers, harness.is_undisputed = 2, False
    assert await harness.published_after(60) == []
    harness.consumers = 1
    assert await harness.published_after(MISSING_SECONDS) == ["a", "b"]
    other = ReconcilerHarness(*records_of("ab"))
    other.consumers = 2
    assert await other.published_after(MISSING_SECONDS) == ["a", "b"]


async def test_reconciler_counts_dead_letters_being_parked() -> None:
    """They are in no queue, and will be parked."""
    harness = ReconcilerHarness(*records_of("ab"))
    harness.dead_letters = 2
    assert await harness.published_after(60) == []
    assert harness.publisher.sent == []


async def test_reconciler_searches_recreated_log_from_its_start() -> None:
    """The positions of records in the old log mean nothing in the new one."""
    harness = ReconcilerHarness(*records_of("ab"))
    harness.log = records_of("b")
    harness.jobs.take(accepted("b"), 90)
    harness.jobs.take(accepted("c"), 0)
    assert await harness.published_after(MISSING_SECONDS) == ["b"]
    assert harness.counted("record lost") == 2


async def test_reconciler_does_not_resend_jobs_that_were_requeued_elsewhere() -> None:
    """Another dispatcher reclaimed them, and published them to the queue again."""
    harness = ReconcilerHarness(
        accepted("a"), Event(State.ASSIGNED, 1.0, "a", "s1"), Event(REQUEUED, 2.0, "a", "s1")
    )
    harness.where["s1"] = Whereabouts.QUEUE_EMPTY
    harness.depths[REQUESTS] = 1
    assert await harness.published_after(60) == []
    assert harness.again == []


async def test_reconciler_leaves_begun_job_to_its_substation() -> None:
    """Its session is in progress, or its substation has to begin it again."""
    harness = ReconcilerHarness(
        accepted("a"), *(Event(k, 1.0, "a", "s1") for k in ("assigned", "charging"))
    )
    harness.where["s1"] = Whereabouts.GONE
    assert await harness.published_after(60) == []


async def test_reconciler_publishes_replayed_job_as_replayed() -> None:
    """Its request is in an older record than that of the replay."""
    replayed = Event(State.QUEUED, 1_100.0, "a", detail=parking.noted(2))
    harness = ReconcilerHarness(accepted("a"), Event(State.PARKED, 1_050.0, "a"), replayed)
    assert await harness.published_after(MISSING_SECONDS) == ["a"]
    [sent] = harness.publisher.to(topology.REQUESTS_EXCHANGE)
    assert parking.replays(sent.headers or {}) == 2
    assert messages.decode(sent.body).priority == 3


async def test_reconciler_logs_and_drops_job_whose_record_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log is bounded by size and age, so the request cannot be read any more."""
    harness = ReconcilerHarness(*records_of("ab"))
    harness.log[0] = accepted("other")
    assert await harness.published_after(MISSING_SECONDS) == ["b"]
    assert "job a is in no queue" in caplog.text
    assert harness.counted("record lost") == 1
    assert harness.jobs.offset("a") is None


async def test_reconciler_retries_request_that_rabbitmq_refuses() -> None:
    """The queue is at its limit, or missing again."""
    harness = ReconcilerHarness(*records_of("a"))
    harness.publisher.automatic[topology.REQUESTS_EXCHANGE] = Outcome.REFUSED
    assert await harness.published_after(MISSING_SECONDS) == ["a"]
    assert harness.counted("published") == 0
    harness.publisher.automatic[topology.REQUESTS_EXCHANGE] = Outcome.CONFIRMED
    assert await harness.published_after(MISSING_SECONDS) == ["a", "a"]
    assert harness.counted("published") == 1


async def test_reconciler_publishes_many_requests_in_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch is confirmed before the next one is published."""
    monkeypatch.setattr(reconcile, "BATCH", 2)
    harness = ReconcilerHarness(*records_of("abcde"))
    assert await harness.published_after(MISSING_SECONDS) == ["a", "b", "c", "d", "e"]
    assert harness.counted("published") == 5


async def test_reconciler_counts_republished_request_as_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is then at the queue's end, so later the other requests are missing first."""
    monkeypatch.setattr(reconcile, "MAX_SUSPECTS", 2)
    harness = ReconcilerHarness(*records_of("abcde"))
    assert await harness.published_after(MISSING_SECONDS) == ["a", "b"]
    harness.depths[REQUESTS] = 2
    assert await harness.published_after(MISSING_SECONDS) == ["a", "b", "c", "d"]
    harness.depths[REQUESTS] = 4
    assert await harness.published_after(MISSING_SECONDS) == ["a", "b", "c", "d", "e"]


async def test_reconciler_logs_unavailable_broker_and_goes_on() -> None:
    """Without RabbitMQ nothing is known about the queues."""
    harness = ReconcilerHarness(*records_of("a"))

    async def fail(_: str) -> QueueState | None:
        raise BrokerUnavailable("away")

    harness.look = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(BrokerUnavailable):
        await harness.look_for_missing()
