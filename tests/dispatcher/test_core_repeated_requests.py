"""Requests whose job has ended already: sent again by a client, or by an operator."""

from __future__ import annotations

import pytest

from dispatcher.recognition import DropReason
from grid import parking, topology
from grid.amqp import Outcome
from grid.events import ASIDE, FINAL, Event, State
from tests.dispatcher.harness import AT, Harness, body, confirming
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")


@pytest.mark.parametrize("last", sorted(FINAL))
async def test_core_records_end_again_for_new_request_of_ended_job(last: State) -> None:
    """The log may have dropped the end, which its sender can read then."""
    harness = Harness(confirming(), "s1")
    harness.read_events(Event(last, AT, job="j1", substation="s1", reason="why"))
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert harness.routed() == []
    assert harness.queue.acked == [1]
    (event,) = harness.publisher.events()
    assert (event.kind, event.at, event.job, event.reason) == (last, AT, "j1", "why")
    assert event.substation == "s1"
    assert harness.count("duplicate_requests_total") == 1
    assert harness.count("dropped_total", reason=DropReason.ENDED) == 1


async def test_core_counts_repeated_end_that_the_log_refuses() -> None:
    """The request is acknowledged all the same: its job has ended."""
    harness = Harness(FakePublisher(), "s1")
    harness.read_events(Event(State.COMPLETED, AT, job="j1", substation="s1"))
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.publisher.answer(topology.EVENTS, Outcome.REFUSED)
    await turns()
    assert harness.queue.acked == [1]
    assert harness.count("events_lost_total") == 1


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("last", sorted(ASIDE))
async def test_core_sends_new_request_of_job_that_was_parked_before(
    last: State,
    again: bool,  # noqa: FBT001
) -> None:
    """A client that publishes to RabbitMQ directly may have corrected the request."""
    harness = Harness(confirming(), "s1")
    harness.read_events(Event(last, AT - 2, job="j1", reason="why"))
    harness.queue.bring(body("j1"), "j1", again=again)  # asked for a second later
    await turns()
    assert harness.routed() == ["j1"]


async def test_core_sends_replay_of_parked_job() -> None:
    """What happened before an operator replayed it does not count."""
    harness = Harness(confirming(), "s1")
    harness.read_events(Event(State.PARKED, AT, job="j1"))
    harness.queue.bring(body("j1"), "j1", headers={parking.REPLAYS_HEADER: 1})
    await turns()
    assert harness.routed() == ["j1"]


async def test_core_counts_each_dropped_delivery_by_its_reason() -> None:
    """A redelivered one as well, which is no duplicate: an operator sees that it was dropped."""
    harness = Harness(FakePublisher(), "s1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.queue.bring(body("j1"), "j1")
    await turns()
    assert harness.count("dropped_total", reason=DropReason.IN_HAND) == 1
    harness.publisher.answer(topology.EVENTS)
    harness.publisher.answer(topology.SUBSTATIONS_EXCHANGE)
    await turns()
    harness.queue.bring(body("j1"), "j1", again=True)
    await turns()
    assert harness.count("dropped_total", reason=DropReason.SENT) == 1
    assert harness.count("duplicate_requests_total") == 1


@pytest.mark.parametrize("again", [False, True])
async def test_core_sends_new_request_only_where_it_may_go(again: bool) -> None:  # noqa: FBT001
    """Under this id, a request before it was sent to a substation which this one excludes."""
    harness = Harness(confirming(), "s1", "s2")
    harness.read_events(
        Event(State.ASSIGNED, AT - 50, "j1", "s1", 1), Event(State.CANCELLED, AT - 40, "j1", "s1")
    )
    harness.queue.bring(body("j1", "s2"), "j1", again=again)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
