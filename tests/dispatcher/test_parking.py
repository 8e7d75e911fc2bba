"""Messages that cannot be processed are parked with the reason, and recorded after that."""

from __future__ import annotations

import pytest

from dispatcher.lifecycle import MALFORMED
from grid import topology
from grid.amqp import Outcome
from grid.events import State
from grid.messages import MAX_BODY_BYTES
from grid.parking import REASON_HEADER
from scheduling.reasons import NO_SUCH_SUBSTATION, TOO_POWERFUL
from tests.dispatcher.harness import Harness, body, confirming
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")


def recording() -> FakePublisher:
    """Make a publisher whose broker takes every event, and leaves the rest to be answered."""
    return FakePublisher(charge_events=Outcome.CONFIRMED)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not JSON"),
        (b"\xff\x00", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"version":2,"id":"j1","requested_at":1}', "version is 2, this reader knows 1"),
        (b'{"version":1,"id":"j1","requested_at":1,"priority":"high"}', "priority"),
        (b'{"version":1,"requested_at":1}', "id is missing"),
        (b" " * (MAX_BODY_BYTES + 1), f"{MAX_BODY_BYTES + 1} bytes"),
    ],
)
async def test_core_parks_message_that_it_cannot_process(text: bytes, why: str) -> None:
    """It goes to charge.parked with the reason, and is acknowledged once it is there."""
    harness = Harness(recording(), "s1")
    harness.queue.bring(text, "bad")
    await turns()
    (parked,) = harness.publisher.to(topology.PARKED)
    assert parked.body == text
    assert why in harness.publisher.headers["bad"][REASON_HEADER]
    assert harness.queue.acked == []
    harness.publisher.answer(topology.PARKED)
    await turns()
    assert harness.queue.acked == [1]
    (event,) = harness.publisher.events(State.PARKED)
    assert event.job == "bad"
    assert why in event.reason
    assert harness.count("parked_total", reason=MALFORMED) == 1
    harness.queue.bring(body("good"), "good")
    await turns()
    assert harness.publisher.routed() == [("good", "s1")]


@pytest.mark.parametrize("id", [None, "", "not an id", "x" * 65])
async def test_parked_message_has_an_id(id: str | None) -> None:
    """A message without a usable id is given one, so that the event log can name it."""
    harness = Harness(confirming(), "s1")
    harness.queue.bring(b"?", id)
    await turns()
    (event,) = harness.publisher.events(State.PARKED)
    assert event.job.startswith("unnamed-")
    assert harness.queue.acked == [1]


async def test_parking_is_retried_until_confirmed() -> None:
    """While charge.parked refuses the message, it is neither lost nor acknowledged."""
    harness = Harness(recording(), "s1")
    harness.queue.bring(b"?", "bad")
    for _ in range(3):
        harness.publisher.answer(topology.PARKED, Outcome.REFUSED)
        await turns()
    assert len(harness.publisher.to(topology.PARKED)) == 4
    assert harness.queue.acked == []
    harness.publisher.answer(topology.PARKED)
    await turns()
    assert harness.queue.acked == [1]


async def test_parking_acknowledges_nothing_after_its_link_broke() -> None:
    """The delivery tag means another message on the new link."""
    harness = Harness(recording(), "s1")
    harness.queue.bring(b"?", "bad")
    harness.queue.break_link()
    harness.queue.bring(body("j1"), "j1")  # it has the same tag
    harness.publisher.answer(topology.PARKED)
    await turns()
    assert harness.queue.acked == []


async def test_parking_is_recorded_only_after_message_is_parked() -> None:
    """A redelivered request that the log has as parked is dropped, so it must be there."""
    harness = Harness(recording(), "s1")
    harness.queue.bring(body("j1", "s9"), "j1")
    await turns()
    harness.read_events(*harness.publisher.events())
    harness.publisher.answer(topology.PARKED, Outcome.REFUSED)
    harness.queue.break_link()
    harness.queue.bring(body("j1", "s9"), "j1", again=True)
    await turns()
    assert harness.queue.acked == []
    harness.publisher.answer(topology.PARKED)
    await turns()
    assert harness.queue.acked == [1]
    assert [each.kind for each in harness.publisher.events()] == [State.PARKED]


async def test_parked_message_is_acknowledged_once_recorded() -> None:
    """If the link breaks meanwhile, it is recorded, and recognised when redelivered."""
    harness = Harness(FakePublisher(charge_parked=Outcome.CONFIRMED), "s1")
    harness.queue.bring(body("j1", "s9"), "j1")
    await turns()
    assert harness.queue.acked == []
    harness.queue.break_link()
    harness.publisher.answer(topology.EVENTS)
    harness.read_events(*harness.publisher.events())
    harness.queue.bring(body("j1", "s9"), "j1", again=True)
    await turns()
    assert harness.queue.acked == [1]
    assert len(harness.publisher.to(topology.PARKED)) == 1


async def test_parking_record_is_retried_when_log_refuses_it() -> None:
    """If it were acknowledged without it, the log would have no end of the job."""
    harness = Harness(FakePublisher(charge_parked=Outcome.CONFIRMED), "s1")
    harness.queue.bring(b"?", "bad")
    await turns()
    for _ in range(3):
        harness.publisher.answer(topology.EVENTS, Outcome.REFUSED)
        await turns()
        assert harness.queue.acked == []
    harness.publisher.answer(topology.EVENTS)
    await turns()
    assert harness.queue.acked == [1]
    assert len(harness.publisher.to(topology.PARKED)) == 1


async def test_parking_record_refused_after_link_broke_is_counted() -> None:
    """RabbitMQ redelivers the message, and it is parked again."""
    harness = Harness(FakePublisher(charge_parked=Outcome.CONFIRMED), "s1")
    harness.queue.bring(b"?", "bad")
    await turns()
    harness.queue.break_link()
    harness.publisher.answer(topology.EVENTS, Outcome.REFUSED)
    await turns()
    assert harness.publisher.waiting == []
    assert harness.count("events_lost_total") == 1


async def test_core_parks_request_that_allows_no_existing_substation() -> None:
    """It could wait for ever."""
    harness = Harness(confirming(), "s1", "s2")
    harness.queue.bring(body("j1", "s9", "s8"), "j1")
    await turns()
    (event,) = harness.publisher.events()
    assert (event.kind, event.job) == (State.PARKED, "j1")
    assert event.reason == f"{NO_SUCH_SUBSTATION}: s9, s8"
    assert harness.count("parked_total", reason=NO_SUCH_SUBSTATION) == 1
    assert harness.queue.acked == [1]
    assert harness.publisher.routed() == []
    harness.queue.bring(body("j2", "s9", "s2"), "j2")
    await turns()
    assert harness.publisher.routed() == [("j2", "s2")]


async def test_parking_reason_names_only_some_of_many_substations() -> None:
    """A request may name a hundred, and its reason goes into a header."""
    harness = Harness(confirming(), "s1")
    harness.queue.bring(body("j1", *(f"x{number}" for number in range(100))), "j1")
    await turns()
    (event,) = harness.publisher.events()
    assert event.reason == f"{NO_SUCH_SUBSTATION}: x0, x1, x2, x3, x4 and 95 more"


async def test_core_parks_nothing_before_substations_are_known() -> None:
    """Before its target file is read, the dispatcher holds requests that name substations."""
    harness = Harness(confirming())
    harness.queue.bring(body("j1", "s1", requested_power_kw=300.0), "j1")
    harness.shell.tick()
    await turns()
    assert harness.core.waiting == 1
    harness.tracker.keep({"s1": None})
    harness.arrive("s1", rated_power_kw=500.0)
    await turns()
    assert harness.publisher.routed() == [("j1", "s1")]


async def test_core_parks_request_for_more_power_than_any_substation_has() -> None:
    """It could wait for ever; the reason names the largest rated power."""
    harness = Harness(confirming(), "s1", "s2")
    harness.arrive("s1", rated_power_kw=100.0)
    harness.arrive("s2", rated_power_kw=50.0)
    harness.queue.bring(body("j1", requested_power_kw=150.0), "j1")
    harness.queue.bring(body("j2", "s2", requested_power_kw=60.0), "j2")
    await turns()
    one, two = harness.publisher.events(State.PARKED)
    assert one.reason == f"{TOO_POWERFUL}: 150 kW, the largest has 100 kW"
    assert two.reason == f"{TOO_POWERFUL}: 60 kW, the largest has 50 kW"
    assert harness.count("parked_total", reason=TOO_POWERFUL) == 2
    assert harness.queue.acked == [1, 2]
    harness.queue.bring(body("j3", requested_power_kw=100.0), "j3")
    harness.queue.bring(body("j4", "s2", requested_power_kw=50.0), "j4")
    await turns()
    assert harness.publisher.routed() == [("j3", "s1"), ("j4", "s2")], "exactly that much fits"


async def test_core_parks_nothing_for_power_while_a_rated_power_is_unknown() -> None:
    """The substation that does not report its rated power may have enough."""
    harness = Harness(confirming(), "s1", "s2")
    harness.arrive("s1", rated_power_kw=100.0)
    harness.queue.bring(body("j1", requested_power_kw=150.0), "j1")
    await turns()
    assert harness.publisher.routed() == [("j1", "s2")]


async def test_core_parks_waiting_request_when_its_substations_are_gone() -> None:
    """It waited for a full substation, which was removed from the target file."""
    harness = Harness(confirming(), "s1", "s2", connectors=1)
    harness.arrive("s1", rated_power_kw=50.0)
    harness.arrive("s2", rated_power_kw=400.0)
    harness.read("s2", load=1)
    harness.queue.bring(body("named", "s2"), "named")
    harness.queue.bring(body("strong", requested_power_kw=300.0), "strong")
    harness.shell.tick()
    await turns()
    assert harness.core.waiting == 2
    harness.tracker.keep({"s1": None})
    harness.shell.tick()
    await turns()
    reasons = {each.job: each.reason for each in harness.publisher.events(State.PARKED)}
    assert reasons == {
        "named": f"{NO_SUCH_SUBSTATION}: s2",
        "strong": f"{TOO_POWERFUL}: 300 kW, the largest has 50 kW",
    }
    assert harness.queue.acked == [1, 2]
    assert harness.core.waiting == 0
