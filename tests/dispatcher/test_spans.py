"""The spans of the dispatcher: one for each sampled job, when it leaves the dispatcher."""

from __future__ import annotations

import pytest

from dispatcher.lifecycle import DEPARTED
from grid import topology
from grid.amqp import Outcome
from tests.dispatcher.harness import AT, Harness, body, confirming
from tests.fake_broker import FakePublisher, turns

pytestmark = pytest.mark.usefixtures("no_pauses")

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


async def test_dispatcher_records_span_from_delivery_to_confirm() -> None:
    """A child of the api's, and the parent of what the substation does."""
    harness = Harness(FakePublisher(charge_events=Outcome.CONFIRMED), "s1")
    harness.queue.bring(body("j1"), "j1", headers=HEADERS)
    harness.queue.bring(body("j2"), "j2")
    await turns()
    assert harness.spans == [], "RabbitMQ has not confirmed them"
    harness.at += 5
    harness.now += 5
    for _ in range(2):
        harness.publisher.answer(topology.SUBSTATIONS_EXCHANGE)
    [span] = harness.spans
    assert (span.name, span.kind, span.error) == ("dispatch", "consumer", "")
    assert (span.trace.trace_id, span.trace.parent) == (TRACE, CALLER)
    assert (span.began, span.ended) == (AT, AT + 5)
    assert span.attributes == {"job.id": "j1", "outcome": "sent to s1", "substation": "s1"}
    sent = harness.publisher.headers["j1"]["traceparent"]
    assert sent == f"00-{TRACE}-{span.trace.span_id}-01"


async def test_dispatcher_records_span_of_a_request_that_expires() -> None:
    harness = Harness(confirming(), "s1", connectors=1)
    harness.read("s1", load=1)
    harness.queue.bring(body("j1", departure_time=AT + 60), "j1", headers=HEADERS)
    await turns()
    harness.at += 60
    harness.now += 60
    harness.shell.tick()
    await turns()
    [span] = harness.spans
    assert (span.began, span.ended) == (AT, AT + 60)
    assert span.attributes == {"job.id": "j1", "outcome": DEPARTED}


async def test_dispatcher_records_no_span_of_a_copy() -> None:
    """It is dropped at once; the log has why."""
    harness = Harness(confirming(), "s1")
    for _ in range(2):
        harness.queue.bring(body("j1"), "j1", headers=HEADERS)
        await turns()
    assert len(harness.spans) == 1
