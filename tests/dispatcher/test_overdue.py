"""Jobs that do not begin in time after they were sent are sent to the same substation again."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher import lifecycle, overdue, shell
from dispatcher.overdue import OVERDUE_SECONDS
from grid.amqp import Outcome, QueueState
from grid.events import Event, State
from grid.topology import SUBSTATIONS_EXCHANGE
from tests.dispatcher.harness import AT, Harness, body, confirming
from tests.fake_broker import turns


class SentJobs:
    """A dispatcher that has sent jobs, and what it can know about them."""

    def __init__(self, *ids: str, names: tuple[str, ...] = ("s1",)) -> None:
        self.log_is_read = True
        self.takes_jobs = True
        self.harness = Harness(confirming(), *names, reads_log=True)
        self._task = asyncio.create_task(
            self.harness.shell.run(self._read_log, self._read_log, self._look_at)
        )
        for each in ids:
            self.harness.queue.bring(body(each), each)

    async def _read_log(self) -> None:
        if not self.log_is_read:
            await asyncio.Event().wait()

    async def _look_at(self, _substation: str) -> QueueState:
        return QueueState(ready=0, consumers=int(self.takes_jobs))

    def read_event(self, kind: State, job: str, substation: str = "s1") -> None:
        """Have the event log report something about a job."""
        self.harness.index.apply(Event(kind, AT + 1, job, substation, 1))

    async def sent_after(self, seconds: float) -> list[str]:
        """Let time pass and look; return all jobs sent so far, in their order."""
        await turns()
        self.harness.now += seconds
        self.harness.shell.tick()
        await turns()
        publisher = self.harness.publisher
        return [each.id or "" for each in publisher.to(SUBSTATIONS_EXCHANGE)]


async def test_core_resends_job_that_does_not_begin_in_time() -> None:
    """It goes to the same substation, and its decision says why; others are not sent again."""
    sent = SentJobs("j1", "j2", names=("s1", "s2"))
    assert await sent.sent_after(OVERDUE_SECONDS - 0.1) == ["j1", "j2"]
    [where] = [each.key for each in sent.harness.publisher.to(SUBSTATIONS_EXCHANGE)[:1]]
    sent.read_event(State.CHARGING, "j2")
    assert await sent.sent_after(0.2) == ["j1", "j2", "j1"]
    last = sent.harness.publisher.to(SUBSTATIONS_EXCHANGE)[-1]
    assert (last.key, last.body) == (where, body("j1"))
    decision = sent.harness.publisher.events(State.ASSIGNED)[-1]
    assert (decision.job, decision.substation, decision.attempt) == ("j1", where, 2)
    assert decision.detail["reason"] == lifecycle.NOT_BEGUN


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        (State.CHARGING, "s1"),
        (State.COMPLETED, "s1"),
        (State.EXPIRED, "s1"),
        (State.PARKED, ""),
        (State.CANCELLED, ""),
        (State.ASSIGNED, "s2"),
    ],
)
async def test_core_does_not_resend_job_that_the_log_reports_on(kind: State, where: str) -> None:
    """It has begun, has ended, or another dispatcher sent it elsewhere."""
    sent = SentJobs("j1")
    await turns()
    sent.read_event(kind, "j1", where)
    assert await sent.sent_after(1e6) == ["j1"]


async def test_core_does_not_resend_while_substation_state_is_unknown() -> None:
    """Once the state is known, the job is sent."""
    sent = SentJobs("j1")
    sent.takes_jobs = False
    for _ in range(3):
        assert await sent.sent_after(OVERDUE_SECONDS) == ["j1"]
    sent.takes_jobs = True
    assert await sent.sent_after(OVERDUE_SECONDS) == ["j1", "j1"]


async def test_core_does_not_resend_while_log_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log may show that the job has begun."""
    monkeypatch.setattr(shell, "LOG_TIMEOUT", 0)
    sent = SentJobs("j1")
    sent.log_is_read = False
    assert await sent.sent_after(OVERDUE_SECONDS) == ["j1"]
    sent.log_is_read = True
    assert await sent.sent_after(OVERDUE_SECONDS) == ["j1", "j1"]


async def test_core_doubles_wait_before_each_resend() -> None:
    """If the log never shows a session, the substation must not get a copy every few seconds."""
    sent = SentJobs("j1")
    at = []
    for second in range(1, 1000):
        before = len(sent.harness.publisher.to(SUBSTATIONS_EXCHANGE))
        if len(await sent.sent_after(1)) > before and before:
            at.append(second)
    assert at == [5, 15, 35, 75, 155, 315, 635, 955]


async def test_core_does_not_resend_job_that_is_in_hand_again() -> None:
    """It was reclaimed from its substation meanwhile, and waits or is in flight elsewhere."""
    sent = SentJobs("j1")
    await turns()
    sent.harness.fail_page("s1")
    assert sent.harness.reclaim.deliver("s1", body("j1"), "j1")
    assert await sent.sent_after(OVERDUE_SECONDS) == ["j1"]


async def test_core_resends_refused_job_only_to_same_substation() -> None:
    """Its substation may have it after all: a copy elsewhere would charge it twice."""
    sent = SentJobs("j1", names=("s1", "s2"))
    await turns()
    where = sent.harness.publisher.to(SUBSTATIONS_EXCHANGE)[0].key
    sent.harness.publisher.automatic[SUBSTATIONS_EXCHANGE] = Outcome.UNROUTABLE
    assert await sent.sent_after(OVERDUE_SECONDS) == ["j1", "j1"]
    assert sent.harness.missing[-1] == where
    sent.harness.publisher.automatic[SUBSTATIONS_EXCHANGE] = Outcome.CONFIRMED
    assert await sent.sent_after(2 * OVERDUE_SECONDS) == ["j1", "j1", "j1"]
    assert {each.key for each in sent.harness.publisher.to(SUBSTATIONS_EXCHANGE)} == {where}


async def test_overdue_jobs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due first is forgotten first."""
    monkeypatch.setattr(overdue, "MAX_JOBS", 2)
    sent = SentJobs("j1", "j2", "j3")
    assert await sent.sent_after(OVERDUE_SECONDS) == ["j1", "j2", "j3", "j2", "j3"]
