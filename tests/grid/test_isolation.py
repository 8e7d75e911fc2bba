"""One item that fails does not stop the others, and is told of once."""

from __future__ import annotations

import asyncio
import logging

import pytest
from prometheus_client import CollectorRegistry

from grid.isolation import Isolation


def test_isolation_logs_an_error_with_its_traceback_when_it_begins_changes_and_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each error is counted; one that goes on is in the log once."""
    caplog.set_level(logging.INFO)
    registry = CollectorRegistry()
    isolation = Isolation(registry)
    reported: list[str] = []
    for error in [ValueError("x"), ValueError("x"), KeyError("y"), None, None, ValueError("x")]:
        with isolation.of("the page of a", reported.append):
            if error is not None:
                raise error
    assert reported == ["ValueError: x", "ValueError: x", "KeyError: 'y'", "ValueError: x"]
    lines = [(each.levelno, each.message) for each in caplog.records]
    assert lines == [
        (logging.ERROR, "the page of a failed and is skipped: ValueError: x"),
        (logging.ERROR, "the page of a failed and is skipped: KeyError: 'y'"),
        (logging.INFO, "the page of a works again"),
        (logging.ERROR, "the page of a failed and is skipped: ValueError: x"),
    ]
    assert all(each.exc_info for each in caplog.records if each.levelno == logging.ERROR)
    assert registry.get_sample_value("grid_unforeseen_errors_total") == 4


def test_isolation_tells_one_item_from_another(caplog: pytest.LogCaptureFixture) -> None:
    """The same error over another item is logged separately."""
    isolation = Isolation(CollectorRegistry())
    for item in "aab":
        with isolation.of(item):
            raise ValueError
    assert len(caplog.records) == 2


@pytest.mark.parametrize("end", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_isolation_does_not_catch_cancellation(end: type[BaseException]) -> None:
    """A cancelled task still ends."""
    isolation = Isolation(CollectorRegistry())
    with pytest.raises(end), isolation.of("a"):
        raise end
