"""Copies that are kept by a dispatcher while another one may be active."""

from __future__ import annotations

import pytest

from dispatcher.jobs import COPY_HEADER
from grid import parking
from grid.amqp import Outcome
from grid.events import Event, State
from tests.dispatcher.harness import AT, SUBSTATIONS, Harness, confirming
from tests.dispatcher.kept_copies import (
    JOB,
    become_passive,
    come_back,
    fill,
    redeliver,
    refuse_requeue,
    settle,
    with_copy,
)
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")


@pytest.mark.parametrize("how", ["not fed", "standby"])
async def test_kept_copy_stays_though_another_dispatcher_may_be_active(how: str) -> None:
    """Its substation is back, and would charge it; and the job is still to be sent from here."""
    harness = await with_copy()
    come_back(harness)
    become_passive(harness, how)
    await turns()
    harness.read("s2", load=0)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    assert harness.reclaim.requeued == []
    become_passive(harness, how)
    await turns()
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([1], [])


@pytest.mark.parametrize("how", ["not fed", "standby"])
async def test_kept_copy_of_a_lost_job_goes_back_where_another_may_be_active(how: str) -> None:
    """Its request, if it comes back here, is dropped: the job was sent there."""
    harness = await with_copy()
    harness.queue.break_link()
    become_passive(harness, how)
    await turns()
    assert harness.reclaim.requeued == [("s1", "j1")]
    assert not harness.core.reclaiming.keeps_copy("s1")
    harness.queue.bring(JOB, "j1", again=True)
    harness.read("s2", load=0)
    await turns()
    assert harness.publisher.routed() == []
    assert harness.queue.acked == [1]


async def test_kept_copy_does_not_go_back_if_its_job_was_sent_from_here_since() -> None:
    """By its second delivery, before the copy was looked at."""
    harness = await with_copy()
    await redeliver(harness)
    harness.read("s2", load=0)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    come_back(harness)
    become_passive(harness, "not fed")
    await turns()
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([1], [])


async def test_kept_copy_does_not_go_back_while_its_job_is_in_flight() -> None:
    """Its second delivery is lost as well, but RabbitMQ may confirm the job yet."""
    harness = await with_copy(publisher=FakePublisher(charge_events=Outcome.CONFIRMED))
    await redeliver(harness)
    harness.read("s2", load=0)
    await turns()
    harness.queue.break_link()
    come_back(harness)
    become_passive(harness, "not fed")
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    become_passive(harness, "not fed")
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([1], [])


async def test_kept_copy_does_not_go_back_if_its_job_has_ended() -> None:
    """As the log says since the job was forgotten."""
    harness = await with_copy()
    harness.queue.break_link()
    harness.read_events(Event(State.EXPIRED, AT + 1, "j1", reason="its vehicle has left"))
    come_back(harness)
    become_passive(harness, "not fed")
    await turns()
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([1], [])


async def test_kept_copy_does_not_go_back_if_its_requeued_job_was_sent() -> None:
    """RabbitMQ refused the requeue, but its copy had come from elsewhere, and was sent."""
    harness = await with_copy()
    await refuse_requeue(harness, {COPY_HEADER: True}, load=0)
    come_back(harness)
    become_passive(harness, "not fed")
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    assert harness.reclaim.requeued == []


async def test_kept_copy_from_before_a_replay_does_not_stand_for_the_replayed_job() -> None:
    """Else the request would be dropped for a copy that is dropped for having ended."""
    replayed = parking.marked(1)
    harness = await with_copy(headers=replayed)
    harness.read_events(Event(State.PARKED, AT, "j1", detail=parking.noted(0)))
    harness.queue.break_link()
    become_passive(harness, "not fed")
    await turns()
    assert (harness.reclaim.acked, harness.reclaim.requeued) == ([1], [])
    await redeliver(harness, replayed)
    harness.read("s2", load=0)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]


async def test_kept_copy_and_its_reclaimed_job_both_go_back_and_neither_counts_as_sent() -> None:
    """Whichever of the two another dispatcher drops, the other one is sent."""
    harness = Harness(confirming(), "s1", "s2", "s3", connectors=2)
    harness.read_older_events()
    harness.fail_page("s1")
    harness.fail_page("s3")
    fill(harness, "s2")
    harness.find_dead("s1")
    assert harness.reclaim.deliver("s3", JOB, "j1")
    await turns()
    assert harness.core.waiting == 1
    assert harness.reclaim.deliver("s1", JOB, "j1")
    become_passive(harness, "not fed")
    await turns()
    assert sorted(harness.reclaim.requeued) == [("s1", "j1"), ("s3", "j1")]
    await settle(harness)
    assert harness.reclaim.deliver("s3", JOB, "j1")
    await turns()
    harness.read("s2", load=0)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
