"""The core decides which queues are looked at, and from which jobs are reclaimed."""

from __future__ import annotations

from dispatcher import queues
from dispatcher.commands import (
    Command,
    ConfirmSilence,
    LookAtQueue,
    ReadLog,
    RouteSoon,
    ScrapeNow,
    TakeFromQueue,
)
from dispatcher.failure_detector import DEAD_LOOKS
from dispatcher.inputs import (
    JobReclaimed,
    LogRead,
    OlderEventsRead,
    QueueObserved,
    QueuesDue,
    ReclaimDue,
    Route,
    SilenceConfirmed,
    Tick,
)
from dispatcher.open_jobs import OpenJobs
from dispatcher.overdue import OVERDUE_SECONDS
from dispatcher.reclaim import INTERVAL_SECONDS
from grid.amqp import QueueState
from scheduling.load_tracker import NO_CONSUMER
from tests.dispatcher.harness import RESCUE_AFTER, Harness, body, confirming
from tests.fake_broker import FakePublisher, turns


def looks_due(harness: Harness) -> list[LookAtQueue]:
    """Return all looks that are due, none of which is answered."""
    found: list[LookAtQueue] = []
    while looks := harness.shell.feed(QueuesDue()):
        found += [each for each in looks if isinstance(each, LookAtQueue)]
    return found


def answer(harness: Harness, look: LookAtQueue, ready: int, consumers: int = 1) -> list[Command]:
    """Have a queue observed."""
    return harness.shell.feed(QueueObserved(look, QueueState(ready, consumers)))


def in_doubt() -> Harness:
    """Return a dispatcher that has to ask for the depth of one queue."""
    harness = Harness(confirming(), "s1")
    harness.tracker.invalidate_baseline()
    return harness


def test_core_asks_for_depth_and_then_for_the_page() -> None:
    """Together they set the baseline."""
    harness = in_doubt()
    [look] = looks_due(harness)
    assert look == LookAtQueue("s1", declare=True, depth=True)
    assert answer(harness, look, ready=2) == [ScrapeNow("s1")]
    harness.read("s1")
    assert harness.tracker.substations["s1"].load == 2


def test_core_sets_no_baseline_from_a_look_that_began_for_another_reason() -> None:
    """It may have begun before the last job was confirmed, and seen the queue without it."""
    harness = in_doubt()
    [look] = looks_due(harness)
    assert answer(harness, LookAtQueue("s1"), ready=7) == []
    harness.read("s1")
    assert not harness.tracker.substations["s1"].synced
    answer(harness, look, ready=2)
    harness.read("s1")
    assert harness.tracker.substations["s1"].load == 2


async def test_core_asks_for_no_depth_while_a_job_is_in_flight() -> None:
    """Whether the queue has it already is unknown."""
    harness = Harness(FakePublisher(), "s1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.tracker.invalidate_baseline()
    assert [each.depth for each in looks_due(harness)] == [False]


def test_core_looks_at_other_queues_on_time_while_one_fails() -> None:
    """A queue that cannot be declared delays no other's baseline."""
    harness = Harness(confirming(), "bad", "s1")
    harness.tracker.invalidate_baseline()
    bad, good = looks_due(harness)
    harness.shell.feed(QueueObserved(bad, None, "it is of another kind"))
    answer(harness, good, ready=0)
    harness.tracker.invalidate_baseline("s1")
    harness.now += 1.5 * queues.INTERVAL_SECONDS
    assert [each.substation for each in looks_due(harness)] == ["s1"]


def test_core_applies_consumers_to_the_load_tracker() -> None:
    """Without one, nothing is sent there."""
    harness = Harness(confirming(), "s1")
    answer(harness, LookAtQueue("s1"), ready=0, consumers=0)
    state = harness.tracker.substations["s1"]
    assert harness.tracker.ineligible_reason(state, harness.now) == NO_CONSUMER


async def test_core_resends_no_overdue_job_on_standby() -> None:
    """The active dispatcher may have reclaimed it."""
    harness = Harness(confirming(), "s1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.now += OVERDUE_SECONDS
    commands = harness.shell.feed(Tick(connected=True))
    [job] = [job for each in commands if isinstance(each, ConfirmSilence) for job in each.jobs]
    harness.standby.heard("other", harness.now)
    confirmed = SilenceConfirmed("s1", [job], QueueState(0, 1))
    harness.shell.feed(confirmed)
    await turns()
    assert (harness.routed(), harness.count("resent_jobs_total", substation="s1")) == (["j1"], 0)
    harness.now += 1e6  # nothing was heard of the other one since
    harness.tracker.substations["s1"].problem = None
    harness.shell.feed(confirmed)
    await turns()
    assert harness.routed() == ["j1", "j1"]
    assert harness.count("resent_jobs_total", substation="s1") == 1


def with_dead_substation(*, reads_log: bool = False) -> Harness:
    """Return a dispatcher that is to reclaim the jobs of s1 as soon as it may."""
    harness = Harness(confirming(), "s1", "s2", reads_log=reads_log)
    harness.fail_page("s1")
    answer(harness, LookAtQueue("s1"), ready=3, consumers=0)
    harness.shell.feed(ReclaimDue(is_fed=True))
    harness.now += RESCUE_AFTER  # for so long it waits for consumers to come back
    for _ in range(DEAD_LOOKS):
        harness.shell.feed(ReclaimDue(is_fed=True))
        harness.now += INTERVAL_SECONDS
    return harness


async def test_core_reclaims_nothing_before_the_log_is_read() -> None:
    """It may show that another dispatcher has moved the jobs."""
    harness = with_dead_substation(reads_log=True)
    due, read = ReclaimDue(is_fed=True), LogRead(older=False)
    assert harness.shell.feed(due) == []
    harness.shell.feed(OlderEventsRead(OpenJobs()))
    assert harness.shell.feed(due) == [TakeFromQueue("s1")]
    take_over(harness, "j1")
    assert harness.shell.feed(Route())[0] == ReadLog(older=False, requests=0)
    assert harness.shell.feed(due) == [], "what was written since it took over is not read"
    take_over(harness, "j2")
    harness.shell.feed(Route())
    assert harness.shell.feed(read) == [RouteSoon()]
    assert harness.shell.feed(due) == [], "it has taken over again since that reading began"
    assert harness.shell.feed(Route()) == [ReadLog(older=False, requests=0)]
    harness.arrive("s2")  # its load was in question after the takeover
    assert harness.shell.feed(due) == []
    assert harness.shell.feed(read) == []
    assert harness.shell.feed(due) == [TakeFromQueue("s1")]


def take_over(harness: Harness, job: str) -> None:
    """Have the dispatcher get a request after another one was active."""
    harness.standby.heard("other", harness.now)
    harness.queue.bring(body(job), job)


def test_core_reclaims_nothing_while_it_is_not_fed_or_on_standby() -> None:
    """Another dispatcher may be active."""
    harness = with_dead_substation()
    harness.shell.feed(OlderEventsRead(OpenJobs()))
    assert harness.shell.feed(ReclaimDue(is_fed=True)) == [TakeFromQueue("s1")]
    assert harness.shell.feed(ReclaimDue(is_fed=False)) == []
    harness.now += INTERVAL_SECONDS
    assert harness.shell.feed(ReclaimDue(is_fed=True)) == [TakeFromQueue("s1")]
    harness.standby.heard("other", harness.now)
    assert harness.shell.feed(ReclaimDue(is_fed=True)) == []


def test_core_leaves_queue_that_turns_out_empty_until_the_next_review() -> None:
    """Its depth was that of the last look."""
    harness = with_dead_substation()
    harness.shell.feed(OlderEventsRead(OpenJobs()))
    due = ReclaimDue(is_fed=True)
    assert harness.shell.feed(due) == [TakeFromQueue("s1")]
    assert harness.shell.feed(JobReclaimed("s1", None)) == []
    assert harness.shell.feed(due) == []
    harness.now += INTERVAL_SECONDS
    assert harness.shell.feed(due) == [TakeFromQueue("s1")]
