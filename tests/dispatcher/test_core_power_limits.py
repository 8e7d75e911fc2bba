"""A limit of power begins and ends by the clock on the wall, whatever the tracker's says."""

from __future__ import annotations

from dispatcher.inputs import ControlChanged, Tick
from grid.controls import Availability, Control, PowerBlock, PowerLimits
from tests.dispatcher.harness import AT, Harness, body, confirming
from tests.fake_broker import turns


def limited(harness: Harness, start: float, end: float, kw: float) -> None:
    """Limit the power of s1, in seconds from ``AT``."""
    limits = PowerLimits((PowerBlock(AT + start, AT + end, kw),), "dso", AT)
    control = Control("s1", Availability.AVAILABLE, None, 1, limits)
    harness.shell.feed(ControlChanged("s1", control))


async def test_core_sends_what_waits_when_a_limit_ends() -> None:
    """By a tick alone; the decision then says nothing of the limit."""
    harness = Harness(confirming(), "s1")
    limited(harness, -1, 10, 10.0)
    for job in ("one", "two"):
        harness.queue.bring(body(job, requested_power_kw=7.0), job)
    await turns()
    assert (harness.core.waiting, harness.tracker.substations["s1"].power_kw) == (1, 7.0)
    harness.at, harness.now = AT + 9.9, harness.now + 100  # the clocks are apart
    harness.shell.feed(Tick(connected=True))
    assert harness.core.waiting == 1
    harness.at += 0.1
    harness.shell.feed(Tick(connected=True))
    assert harness.core.waiting == 0


async def test_core_follows_a_clock_that_is_set() -> None:
    """A limit that was still to come holds at once."""
    harness = Harness(confirming(), "s1")
    limited(harness, 1000, 2000, 5.0)
    harness.at += 1000
    harness.shell.feed(Tick(connected=True))
    harness.queue.bring(body("job", requested_power_kw=7.0), "job")
    await turns()
    assert harness.core.waiting == 1


async def test_core_does_not_refuse_a_request_for_a_limit() -> None:
    """A limit passes; a rating that is too small does not."""
    harness = Harness(confirming(), "s1")
    harness.arrive("s1", rated_power_kw=50.0)
    limited(harness, -1, 10, 0.0)
    harness.queue.bring(body("job", requested_power_kw=7.0), "job")
    await turns()
    harness.shell.feed(Tick(connected=True))
    assert (harness.core.waiting, harness.count("parked", reason="no such substation")) == (1, 0)
