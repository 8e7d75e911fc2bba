"""What a service has done lately, as a line in its log."""

from __future__ import annotations

import asyncio
import logging

import pytest

from grid import summary
from grid.summary import Summary, summarise


def test_summary_names_what_was_counted_since_the_last_line() -> None:
    """The most first; what has not grown is left out."""
    one = Summary()
    assert (
        one.end_interval({"accepted": 3, "cancelled": 0}, "2 wait") == "in 10 s: 3 accepted; 2 wait"
    )
    totals = {"accepted": 4, "cancelled": 7}
    assert one.end_interval(totals, "none waits") == "in 10 s: 7 cancelled, 1 accepted; none waits"


def test_summary_says_nothing_where_nothing_happened() -> None:
    """An idle service would fill its log."""
    one = Summary()
    assert one.end_interval({"accepted": 0}, "none waits") is None
    one.end_interval({"accepted": 3}, "none waits")
    assert one.end_interval({"accepted": 3}, "none waits") is None


def test_summary_is_readable_with_very_many_counts() -> None:
    """Three hundred substations are no reason for a line of kilobytes."""
    totals = {f"sent to s{number}": number for number in range(300)}
    line = Summary().end_interval(totals, "none waits")
    assert line == (
        "in 10 s: 299 sent to s299, 298 sent to s298, 297 sent to s297, 296 sent to s296, "
        "295 sent to s295, 43365 others; none waits"
    )


async def test_summarise_logs_a_line_an_interval(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At the level info."""
    monkeypatch.setattr(summary, "INTERVAL_SECONDS", 0.001)
    counted = iter(range(1, 1_000_000))
    log = logging.getLogger("test")
    with caplog.at_level(logging.INFO):
        task = asyncio.create_task(
            summarise(log, lambda: {"accepted": next(counted)}, lambda: "none waits")
        )
        async with asyncio.timeout(10):
            while len(caplog.records) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        task.cancel()
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert caplog.records[1].getMessage().endswith("1 accepted; none waits")
