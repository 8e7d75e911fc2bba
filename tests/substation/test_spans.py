"""The spans of a substation: one for each sampled job, from its start to its end."""

from __future__ import annotations

from grid.cancellations import Cancellation
from grid.kinds import CANCELLED_BY_CLIENT
from grid.messages import ChargeRequest
from substation.worker import DEPARTED
from tests.substation.test_worker import AT, LONG, Bench, body, until

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


async def test_substation_records_span_of_a_session() -> None:
    """A child of the dispatcher's; a job that nobody records has none."""
    bench = Bench(seconds=LONG)
    for job, headers in (("j1", HEADERS), ("j2", {})):
        bench.queue.bring(body(job), job, headers=headers)
    bench.at, bench.elapsed = AT + 4, 3.0  # somebody sets the clock meanwhile
    for job in ("j1", "j2"):
        bench.worker.cancel(Cancellation(job, AT + 4))
    [span] = bench.spans
    assert (span.name, span.kind, span.error) == ("charge", "consumer", "")
    assert (span.trace.trace_id, span.trace.parent) == (TRACE, CALLER)
    assert (span.began, span.ended) == (AT + 1, AT + 4)
    energy = span.attributes["energy_kwh"]
    assert isinstance(energy, float)
    assert energy > 0
    assert span.attributes == {
        "job.id": "j1",
        "substation": "s1",
        "outcome": CANCELLED_BY_CLIENT,
        "energy_kwh": energy,
    }


async def test_substation_records_span_of_a_completed_session() -> None:
    bench = Bench()
    bench.queue.bring(body("j1"), "j1", headers=HEADERS)
    await until(lambda: bench.queue.acked == [1])
    assert [each.attributes["outcome"] for each in bench.spans] == ["charged"]


async def test_substation_records_span_of_a_job_that_comes_too_late() -> None:
    """It takes no time."""
    bench = Bench()
    bench.queue.bring(
        ChargeRequest("j1", AT - 1, departure_time=AT).encode(), "j1", headers=HEADERS
    )
    await until(lambda: bench.queue.acked == [1])
    [span] = bench.spans
    assert (span.began, span.ended, span.attributes["outcome"]) == (AT, AT, DEPARTED)
    assert span.attributes["energy_kwh"] == 0
