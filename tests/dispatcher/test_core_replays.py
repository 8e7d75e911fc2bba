"""A replayed request is sent, whatever is known of its job; a second copy is dropped."""

from __future__ import annotations

import pytest

from dispatcher.inputs import ControlChanged
from grid import kinds, parking, topology
from grid.amqp import Outcome
from grid.controls import Availability, Control
from grid.events import Event, State
from tests.dispatcher.harness import AT, SUBSTATIONS, Harness, body, confirming
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")

ONCE, TWICE = parking.marked(1), parking.marked(2)


def parked(job: str = "j1", replays: int = 0, substation: str = "") -> Event:
    """A job was parked."""
    detail = parking.noted(replays)
    return Event(State.PARKED, AT, job=job, substation=substation, detail=detail)


async def test_core_sends_replay_of_job_that_was_sent_before() -> None:
    """Its substation's queue gave it up: the job is remembered there, but is there no more."""
    harness = Harness(confirming(), "s1")
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.queue.bring(body("j1"), "j1", headers=ONCE)
    await turns()
    assert harness.routed() == ["j1", "j1"]
    assert ONCE.items() <= harness.publisher.headers["j1"].items(), (
        "its next reader must know it for a replay, too"
    )
    assert harness.publisher.events(State.ASSIGNED)[1].detail[parking.REPLAYS] == 1
    assert harness.queue.acked == [1, 2]


@pytest.mark.parametrize("copy", [None, ONCE])
async def test_core_drops_second_copy_of_replay(copy: dict[str, int] | None) -> None:
    """The replay tool may have ended before it acknowledged; an older copy is dropped as well."""
    harness = Harness(confirming(), "s1")
    harness.queue.bring(body("j1"), "j1", headers=ONCE)
    await turns()
    harness.queue.bring(body("j1"), "j1", headers=copy)
    await turns()
    assert harness.routed() == ["j1"]
    assert harness.queue.acked == [1, 2]
    assert harness.count("duplicate_requests_total") == 1
    harness.queue.bring(body("j1"), "j1", headers=TWICE)
    await turns()
    assert harness.routed() == ["j1", "j1"]


async def test_core_sends_redelivered_replay_of_parked_job() -> None:
    """A dispatcher ended meanwhile; the log has the job as parked, from before the replay."""
    harness = Harness(confirming(), "s1")
    harness.read_events(parked())
    harness.queue.bring(body("j1"), "j1", again=True, headers=ONCE)
    harness.queue.bring(body("j1"), "j1", again=True)
    await turns()
    assert harness.routed() == ["j1"]
    harness.read_events(parked("j2"), parked("j2", 1))
    harness.queue.bring(body("j2"), "j2", again=True, headers=ONCE)
    await turns()
    assert harness.routed() == ["j1"], "the replay itself is parked"
    assert sorted(harness.queue.acked) == [1, 2, 3]


async def test_core_keeps_number_of_replays_when_it_parks_again() -> None:
    """Otherwise the next replay would be taken for a copy of this one."""
    harness = Harness(confirming(), "s1")
    harness.queue.bring(body("j1", "s9"), "j1", headers=ONCE)
    harness.queue.bring(b"{", "j2", headers=TWICE)
    await turns()
    assert parking.replays(harness.publisher.headers["j1"]) == 1
    assert parking.replays(harness.publisher.headers["j2"]) == 2
    assert [each.detail for each in harness.publisher.events(State.PARKED)] == [
        parking.noted(1),
        parking.noted(2),
    ]


async def test_core_keeps_number_of_replays_of_reclaimed_job() -> None:
    """The number goes through a substation's queue and back, with where it was parked from."""
    harness = Harness(confirming(), "s1", "s2", connectors=1)
    harness.queue.bring(body("j1", "s1"), "j1", headers=ONCE)
    await turns()
    harness.fail_page("s1")
    assert harness.reclaim.deliver("s1", body("j1", "s1"), "j1", headers=ONCE)
    harness.tracker.keep({"s2": None})
    harness.shell.tick()
    await turns()
    found = parking.read("j1", b"", harness.publisher.headers["j1"])
    assert (found.replays, found.queue) == (1, topology.substation_queue("s1").name)


async def test_core_invalidates_baseline_when_substation_job_is_parked() -> None:
    """Otherwise the job would count as in flight to that substation for ever."""
    harness = Harness(confirming(), "s1", connectors=1)
    harness.queue.bring(body("j1"), "j1")
    await turns()
    harness.read_events(parked(substation="s1"))
    assert harness.tracker.unsynced() == ["s1"]


async def test_core_keeps_trace_of_job_everywhere() -> None:
    """Sent to a substation, parked, or replayed: the headers carry its trace."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "tracestate": "a=1"}
    harness = Harness(confirming(), "s1")
    harness.queue.bring(body("j1"), "j1", headers=headers)
    harness.queue.bring(b"no job", "j2", headers=headers)
    await turns()
    for name in ("j1", "j2"):
        found = harness.publisher.headers[name]
        assert trace in found["traceparent"]
        assert found["tracestate"] == "a=1"
    parked = parking.read("j2", b"no job", harness.publisher.headers["j2"])
    again = parking.sent_again(parked)
    assert trace in again["traceparent"]
    assert parking.replays(again) == 1


async def test_core_decides_on_redelivered_replay_of_job_that_was_assigned_before_it() -> None:
    """It was parked from there; what was assigned after the replay counts."""
    harness = Harness(confirming(), "s1", "s2")
    first = kinds.assigned("j1", AT - 20, "s1", 1, requested_at=AT - 21, replays=0, decision={})
    harness.read_events(first, parked("j1"))
    harness.shell.feed(ControlChanged("s1", Control("s1", Availability.DRAINING, None, 1)))
    harness.queue.bring(body("j1"), "j1", again=True, headers=ONCE)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
    again = kinds.assigned("j2", AT, "s1", 1, requested_at=AT - 21, replays=1, decision={})
    harness.read_events(parked("j2"), again)
    harness.queue.bring(body("j2"), "j2", again=True, headers=ONCE)
    await turns()
    assert harness.publisher.routed()[1:] == [("j2", "s1")]


async def test_core_sends_redelivered_replay_in_hand_once() -> None:
    """What was assigned before the replay does not count, though the log lacks the new decision."""
    harness = Harness(FakePublisher(), "s1", "s2")
    first = kinds.assigned("j1", AT - 20, "s1", 1, requested_at=AT - 21, replays=0, decision={})
    harness.read_events(first, parked("j1"))
    harness.shell.feed(ControlChanged("s1", Control("s1", Availability.DRAINING, None, 1)))
    harness.queue.bring(body("j1"), "j1", headers=ONCE)
    await turns()
    harness.publisher.answer(topology.EVENTS, Outcome.REFUSED)
    harness.queue.break_link()
    await turns()
    harness.queue.bring(body("j1"), "j1", again=True, headers=ONCE)
    await turns()
    harness.publisher.answer(SUBSTATIONS)
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]
