"""A copy from a dead substation's queue is kept as long as its job is in hand."""

from __future__ import annotations

from typing import Any

import pytest

from dispatcher.commands import LogJob, LookAtQueue, Warn
from dispatcher.inputs import (
    JobCancelled,
    OlderEventsRead,
    QueueObserved,
    ReclaimDue,
    RecordedJobMissing,
    TargetsChanged,
)
from dispatcher.open_jobs import OpenJobs
from dispatcher.recognition import DropReason, Judgement
from dispatcher.requeue_overflow import MAX_HELD_SECONDS
from grid import kinds, topology
from grid.amqp import Outcome, QueueState
from grid.cancellations import Cancellation
from grid.events import Event, State
from grid.kinds import Booking
from grid.messages import ChargeRequest
from tests.dispatcher.harness import AT, SUBSTATIONS, Harness, body, confirming
from tests.dispatcher.kept_copies import (
    JOB,
    come_back,
    fill,
    redeliver,
    refuse_requeue,
    settle,
    with_copy,
)
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")


async def test_kept_copy_is_dropped_once_its_waiting_job_is_sent() -> None:
    """Requeued each time, the copy would end in charge.parked, and hold up those behind it."""
    harness = await with_copy()
    assert harness.reclaim.deliver("s1", body("j2"), "j2")
    assert harness.reclaim.deliver("s1", body("j2"), "j2"), "a second copy in the same queue"
    await settle(harness)
    assert harness.reclaim.acked == [3]
    harness.read("s2", load=0)
    await turns()
    await settle(harness)
    assert harness.publisher.routed() == [("j1", "s2"), ("j2", "s2")]
    assert harness.queue.acked == [1]
    assert harness.reclaim.acked == [3, 2, 1]
    assert harness.reclaim.requeued == []
    assert harness.count("dropped_total", reason=DropReason.IN_HAND) == 2


async def test_kept_copy_of_a_refused_job_is_dropped_once_that_is_sent() -> None:
    """The job waits here for capacity; its copy, requeued each second, would end up parked."""
    harness = Harness(FakePublisher(charge_events=Outcome.CONFIRMED), "s1", "s2")
    harness.read_older_events()
    harness.read("s2", load=10)
    harness.queue.bring(JOB, "j1", again=True)
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]
    harness.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert harness.core.waiting == 1
    assert harness.reclaim.deliver("s1", JOB, "j1")
    await settle(harness)
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([], [])
    harness.read("s2", load=0)
    await turns()
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    await settle(harness)
    assert harness.publisher.routed() == [("j1", "s1"), ("j1", "s2")]
    assert harness.reclaim.acked == [1]


async def test_copy_of_a_job_that_rabbitmq_has_confirmed_is_not_kept() -> None:
    """Only its decision is not recorded yet: the job is safe."""
    harness = Harness(FakePublisher(), "s1", "s2")
    harness.fail_page("s1")
    harness.read("s2")
    harness.queue.bring(JOB, "j1")
    await turns()
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert harness.in_hand().jobs == {"j1"}
    assert harness.reclaim.deliver("s1", JOB, "j1")
    await turns()
    assert harness.reclaim.acked == [1]


async def test_kept_copy_is_sent_if_the_delivery_of_its_job_is_lost() -> None:
    """Its request may come back to a dispatcher that sent it there, and drops it."""
    harness = await with_copy()
    harness.queue.break_link()
    await settle(harness)
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([], [])
    harness.read("s2", load=0)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    assert harness.reclaim.acked == [1]


async def test_kept_copy_of_a_lost_job_is_sent_though_its_substation_is_back() -> None:
    """In its queue, the job would be charged, and its request be decided on as well."""
    harness = await with_copy()
    come_back(harness)
    await settle(harness)
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([], [])
    harness.queue.break_link()
    await settle(harness)
    harness.queue.bring(JOB, "j1", again=True)
    await turns()
    harness.read("s2", load=0)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    assert (harness.reclaim.acked, harness.queue.acked) == ([1], [1])


async def test_kept_copy_is_kept_for_a_job_that_is_in_hand_again() -> None:
    """Its request was redelivered before the copy was looked at."""
    harness = await with_copy()
    await redeliver(harness)
    assert harness.core.waiting == 1
    for is_fed in (False, True):
        harness.shell.feed(ReclaimDue(is_fed))
        assert (harness.reclaim.acked, harness.reclaim.requeued) == ([], [])
    harness.read("s2", load=0)
    await turns()
    await settle(harness)
    assert harness.publisher.routed() == [("j1", "s2")]
    assert harness.reclaim.acked == [1]


@pytest.mark.parametrize("at", [AT - 60, AT + 60])
async def test_kept_copy_is_not_sent_though_the_log_has_its_job_there_later(at: float) -> None:
    """Another dispatcher's clock is ahead, or it has recorded its decision late."""
    harness = await with_copy("s3")
    fill(harness, "s3")
    harness.read("s2", load=0)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    harness.read_events(*harness.publisher.events())
    harness.read_events(Event(State.ASSIGNED, at, job="j1", substation="s1", attempt=1))
    await settle(harness)
    harness.read("s3", load=0)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    assert harness.reclaim.acked == [1]


@pytest.mark.parametrize("is_back", [False, True])
async def test_kept_copy_of_a_requeued_job_is_dropped(*, is_back: bool) -> None:
    """Its request is in charge.requests again, behind others, and goes where there is room.

    In its substation's queue, the copy would be charged as well.
    """
    harness = await with_copy()
    if is_back:
        come_back(harness)
    harness.now += MAX_HELD_SECONDS + 1
    fill(harness, "s2")
    harness.shell.tick()
    await turns()
    assert len(harness.publisher.to(topology.REQUESTS)) == 1
    assert harness.queue.acked == [1]
    await settle(harness)
    assert harness.core.waiting == 0
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([1], [])


async def test_kept_copy_stays_if_the_requeue_of_its_job_is_refused() -> None:
    """The api has published the request again meanwhile: that may go to one that drops it."""
    harness = await with_copy()
    await refuse_requeue(harness, {})
    assert (harness.core.waiting, harness.queue.acked) == (1, [1])
    await settle(harness)
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([], [])


async def test_kept_copy_is_dropped_once_its_job_is_parked() -> None:
    """Not before; and handled again, it would be parked a second time."""
    job = body("j1", requested_power_kw=50.0)
    harness = await with_copy(job=job)
    del harness.publisher.automatic[topology.PARKED]
    harness.shell.feed(TargetsChanged({"s2": 2}, {}))
    harness.arrive("s2", rated_power_kw=10.0)
    harness.shell.tick()
    await turns()
    await settle(harness)
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([], [])
    harness.publisher.answer(topology.PARKED)
    await turns()
    assert harness.queue.acked == [1]
    await settle(harness)
    assert harness.reclaim.acked == [1]
    assert len(harness.publisher.to(topology.PARKED)) == 1


@pytest.mark.parametrize("how", ["cancelled", "expired"])
async def test_kept_copy_is_dropped_though_the_delivery_of_the_ended_job_is_lost(how: str) -> None:
    """The end is on record, and its substation, which is back, would charge it."""
    harness = await with_copy(job=body("j1", max_wait_seconds=100))
    del harness.publisher.automatic[topology.EVENTS]
    if how == "cancelled":
        harness.shell.feed(JobCancelled(Cancellation("j1", AT)))
    else:
        harness.at += 200
    harness.shell.tick()
    await turns()
    harness.queue.break_link()
    harness.publisher.answer(topology.EVENTS)
    await turns()
    assert harness.publisher.events(how)
    come_back(harness)
    await settle(harness)
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([1], [])


async def test_kept_copy_of_a_job_that_is_watched_is_dropped() -> None:
    """The log has it at s2, which may have it, though its queue has refused it now."""
    harness = Harness(FakePublisher(charge_events=Outcome.CONFIRMED), "s1", "s2", connectors=2)
    harness.read_older_events()
    harness.fail_page("s1")
    harness.queue.bring(body("j0", "s2"), "j0")  # it is active
    await turns()
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    harness.shell.feed(RecordedJobMissing(ChargeRequest("j1", AT - 1), "s2", 0))
    await turns()
    harness.route()
    assert harness.reclaim.deliver("s1", JOB, "j1")
    harness.publisher.answer(SUBSTATIONS, Outcome.REFUSED)
    await turns()
    assert harness.core.waiting == 0
    assert harness.open_jobs.substation("j1") == "s2"
    await settle(harness)
    assert harness.reclaim.acked == [1]


@pytest.mark.parametrize("id", [None, "other"])
async def test_kept_copy_with_another_id_is_handled_once(id: str | None) -> None:
    """The id in its body counts."""
    harness = await with_copy(id=id)
    for _ in range(20):
        harness.now += 0.1
        assert not any(isinstance(each, LogJob) for each in await settle(harness))
    harness.read("s2", load=0)
    await turns()
    logged = [each.job for each in await settle(harness) if isinstance(each, LogJob)]
    assert (harness.reclaim.acked, logged) == ([1], ["j1"])


async def test_kept_copies_are_dropped_without_a_warning_each() -> None:
    """Nothing is reclaimed by that."""
    harness = await with_copy()
    for name in ("j2", "j3"):
        harness.queue.bring(body(name), name, again=True)
        await turns()
        assert harness.reclaim.deliver("s1", body(name), name)
    warnings = []
    for load in (1, 1, 1):
        harness.read("s2", load=load)
        await turns()
        harness.shell.feed(QueueObserved(LookAtQueue("s1"), QueueState(ready=0, consumers=0)))
        for _ in range(3):
            harness.now += 1.1
            warnings += [each for each in await settle(harness) if isinstance(each, Warn)]
    assert len(harness.reclaim.acked) == 3
    assert warnings == []


async def test_kept_copy_is_forgotten_when_its_link_breaks() -> None:
    """RabbitMQ has requeued it."""
    harness = await with_copy()
    harness.reclaim.break_link()
    assert not harness.core.reclaiming.keeps_copy("s1")


async def test_kept_copy_keeps_a_former_substation_in_sight() -> None:
    """If this dispatcher ends, the copy is in that queue again. No job was taken from there."""
    harness = await with_copy()
    assert harness.core.reclaiming.keeps_copy("s1")
    assert not harness.core.reclaiming.holds("s1")
    harness.shell.feed(TargetsChanged({"s2": 2}, {}))
    gone = QueueObserved(LookAtQueue("s1"), QueueState(ready=0, consumers=0))
    for _ in range(20):
        harness.now += 10.0
        harness.shell.feed(gone)
    assert harness.tracker.former == {"s1"}
    harness.read("s2", load=0)
    await turns()
    await settle(harness)
    for _ in range(20):
        harness.now += 10.0
        harness.shell.feed(gone)
    assert harness.tracker.former == set()


async def test_kept_copy_over_which_the_code_fails_is_rejected_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next process would fail as well; the other copies are handled."""
    harness = await with_copy()
    harness.queue.bring(body("j2"), "j2", again=True)
    await turns()
    assert harness.reclaim.deliver("s1", body("j2"), "j2")
    harness.queue.break_link()
    recognition = harness.core._deliveries._recognition  # noqa: SLF001
    reclaimed = recognition.reclaimed

    def fail(request: ChargeRequest, *rest: Any) -> Judgement:  # noqa: ANN401
        if request.id == "j1":
            raise RuntimeError("a mistake")
        return reclaimed(request, *rest)

    monkeypatch.setattr(recognition, "reclaimed", fail)
    with pytest.raises(RuntimeError, match="a mistake"):
        harness.shell.feed(ReclaimDue(is_fed=True))
    await turns()
    assert harness.reclaim.rejected == [1]
    assert harness.in_hand().jobs == {"j2"}


async def test_kept_copy_of_a_promised_job_stands_for_it_once_that_is_impossible() -> None:
    """The job began without its request, which may never come: only the copy can be parked."""
    harness = await promised_and_refused(requested_power_kw=50.0)
    assert harness.reclaim.deliver("s1", body("j1", requested_power_kw=50.0), "j1")
    await settle(harness)
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([], [])
    harness.shell.feed(TargetsChanged({"s2": 2}, {}))
    harness.arrive("s2", rated_power_kw=10.0)
    harness.shell.tick()
    await turns()
    assert harness.core.waiting == 0
    assert harness.publisher.to(topology.PARKED) == []
    await settle(harness)
    assert len(harness.publisher.to(topology.PARKED)) == 1
    assert harness.reclaim.acked == [1]


async def promised_and_refused(**fields: Any) -> Harness:  # noqa: ANN401
    """Return a harness where j1, promised a start by another, waits: the queue of s1 refused it.

    s1 is dead by now, and all are full.
    """
    harness = Harness(confirming(), "s1", "s2", connectors=2)
    harness.read_older_events()
    request = ChargeRequest("j1", AT - 1, reserve=True, **fields)
    harness.read_events(kinds.booked(Booking(request, "s1", AT + 10, AT + 3_610), AT))
    harness.publisher.automatic[SUBSTATIONS] = Outcome.REFUSED
    harness.at += 11
    harness.shell.tick()
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]
    assert harness.core.waiting == 1
    harness.publisher.automatic[SUBSTATIONS] = Outcome.CONFIRMED
    harness.fail_page("s1")
    fill(harness, "s2")
    harness.find_dead("s1")
    return harness


async def test_kept_copy_is_dropped_once_the_log_shows_that_its_promised_job_has_ended() -> None:
    """Its request came behind others, and asks for a start that it had."""
    asked = body("j1", reserve=True, earliest_start=AT + 100)
    harness = Harness(confirming(), "s1", "s2", connectors=2)
    harness.fail_page("s1")
    fill(harness, "s2")
    harness.queue.bring(asked, "j1", again=True)
    await turns()
    assert harness.reclaim.deliver("s1", asked, "j1")
    await settle(harness)
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([], [])
    earlier = OpenJobs(complete=True)
    request = ChargeRequest("j1", AT - 1, reserve=True, earliest_start=AT + 100)
    earlier.take(kinds.booked(Booking(request, "s1", AT + 100, AT + 200), AT), 1)
    earlier.take(Event(State.COMPLETED, AT + 200, "j1", "s1"), 2)
    harness.shell.feed(OlderEventsRead(earlier))
    harness.at += 300
    harness.shell.tick()
    await turns()
    await settle(harness)
    assert (harness.publisher.routed(), harness.queue.acked) == ([], [1])
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([1], [])
