"""The dispatcher's snapshots, written on changes, and its log, with each problem once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec import structs
from msgspec.structs import replace

from dispatcher import report
from dispatcher.report import ALIVE, LEAST_EVERY, Announcer, Snapshots, announce
from grid.controls import Availability, Control
from grid.events import MARKER, SUBSTATIONS
from scheduling.explain import RESERVED, Candidate
from scheduling.load_tracker import DRAINED, NO_BASELINE
from scheduling.power_limits import Step
from tests.dispatcher.harness import AT, Harness, confirming
from tests.fake_broker import FakePublisher, turns

STALE = "its load was read {} s ago: that is too old"


def candidate(
    problem: str | None = None, substation: str = "s1", *, reserved: bool = False
) -> Candidate:
    """Return a substation as a decision sees it."""
    return Candidate(
        substation,
        load=1.0,
        connectors=10.0,
        utilisation=0.1,
        gauge=1.0,
        gauge_age=0.5,
        outstanding=0.0,
        power_kw=7.4,
        background_kw=1.2,
        rated_power_kw=None,
        drained=False,
        limit=None,
        power_limit=None,
        power_limit_words=None,
        next_limit=None,
        next_limit_words=None,
        ejected=False,
        reserved=reserved,
        problem=problem,
        reason=problem or (RESERVED if reserved else None),
    )


class LogLines(logging.Handler):
    """A handler that keeps what is logged, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(f"{record.levelname} {record.getMessage()}")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Yield the lines of the dispatcher's log."""
    log, handler = logging.getLogger(report.__name__), LogLines()
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler.lines
    log.removeHandler(handler)
    log.setLevel(before)


def test_announcer_logs_problem_once_and_its_end_once(lines: list[str]) -> None:
    """A log that repeats itself every quarter of a second cannot be read."""
    announcer = Announcer()
    for problem in (None, None, "away", "away", None, None, "away"):
        announcer.look([candidate(problem)], blind=False)
    assert lines == [
        "WARNING substation s1 is not eligible: away",
        "INFO substation s1 is eligible again",
        "WARNING substation s1 is not eligible: away",
    ]


def test_announcer_logs_reserved_substation(lines: list[str]) -> None:
    """Otherwise it would be unclear why nothing goes where there is capacity."""
    announcer = Announcer()
    for reserved in (False, True, True, False):
        announcer.look([candidate(reserved=reserved)], blind=False)
    assert lines == [
        f"INFO substation s1 is not eligible: {RESERVED}",
        "INFO substation s1 is eligible again",
    ]


def test_announcer_logs_when_a_power_limit_begins_changes_and_ends(lines: list[str]) -> None:
    """Once each, with its words."""
    announcer = Announcer()
    one, other = Step(0, 9, 20.0, "dso", False), Step(9, 12, 30.0, "dso", False)  # noqa: FBT003
    for limit in (None, one, one, other, None, None):
        words = None if limit is None else limit.in_words(1.0)
        found = replace(candidate(), power_limit=limit, power_limit_words=words)
        announcer.look([found], blind=False)
    assert lines == [
        "INFO substation s1 is limited to 20 kW until 00:00:09 UTC by dso",
        "INFO substation s1 is limited to 30 kW from 00:00:09 UTC by dso",
        "INFO the power of substation s1 is not limited any more",
    ]


def test_announcer_logs_new_reason_but_not_new_figures(lines: list[str]) -> None:
    """The age of a load grows with each look; a page that is gone is another reason."""
    announcer = Announcer()
    for problem in (STALE.format(2.1), STALE.format(12), "its page is gone"):
        announcer.look([candidate(problem)], blind=False)
    assert lines == [
        f"WARNING substation s1 is not eligible: {STALE.format(2.1)}",
        "WARNING substation s1 is not eligible: its page is gone",
    ]


def test_announcer_logs_each_substation_separately(lines: list[str]) -> None:
    """A substation's line does not depend on the lines of another."""
    announcer = Announcer()
    announcer.look([candidate("away", "s1"), candidate("away", "s2")], blind=False)
    announcer.look([candidate(None, "s1"), candidate("away", "s2")], blind=False)
    assert lines[2:] == ["INFO substation s1 is eligible again"]


def test_announcer_does_not_log_missing_baseline(lines: list[str]) -> None:
    """It lasts for moments, while the depth of the queue is read."""
    announcer = Announcer()
    for problem in (NO_BASELINE, None, "away", NO_BASELINE, "away", NO_BASELINE, None):
        announcer.look([candidate(problem)], blind=False)
    assert lines == [
        "WARNING substation s1 is not eligible: away",
        "INFO substation s1 is eligible again",
    ]


def test_announcer_logs_once_that_no_gauge_is_current(lines: list[str]) -> None:
    """The load tracker alone decides then, which an operator should look into."""
    announcer = Announcer()
    for blind in (False, True, True, False, False):
        announcer.look([], blind=blind)
    assert lines == [
        "ERROR no substation's gauges are current: the load tracker alone decides",
        "INFO gauges are current again",
    ]


def test_announcer_logs_no_problem_of_a_start(lines: list[str]) -> None:
    """Nothing has been read yet, and substations start too: what works later was no problem."""
    announcer = Announcer()
    first = [candidate("no page yet"), candidate("no consumer yet", "s2")]
    announcer.look(first, blind=True, starting=True)
    announcer.look([candidate(), candidate("no consumer yet", "s2")], blind=False, starting=True)
    announcer.look([candidate(), candidate(None, "s2")], blind=False, starting=True)
    announcer.look([candidate(), candidate(None, "s2")], blind=False)
    assert lines == []


def test_announcer_logs_what_is_still_wrong_after_the_start(lines: list[str]) -> None:
    """Once the time for it is over, and not twice."""
    announcer = Announcer()
    for starting in (True, True, False, False):
        announcer.look([candidate("away")], blind=True, starting=starting)
    assert lines == [
        "ERROR no substation's gauges are current: the load tracker alone decides",
        "WARNING substation s1 is not eligible: away",
    ]


def test_announcer_logs_at_once_what_fails_while_it_starts(lines: list[str]) -> None:
    """A substation that worked, and gauges that were read, are gone: no part of a start."""
    announcer = Announcer()
    announcer.look([candidate()], blind=False, starting=True)
    announcer.look([candidate("away")], blind=True, starting=True)
    assert lines == [
        "ERROR no substation's gauges are current: the load tracker alone decides",
        "WARNING substation s1 is not eligible: away",
    ]


async def test_announcer_looks_regularly(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems are found without an event that causes a look."""
    monkeypatch.setattr(report, "CHECK_INTERVAL", 0)
    problems: list[str | None] = [None]
    task = asyncio.create_task(announce(lambda: [candidate(problems[0])], lambda: False))
    await turns()
    problems[0] = "away"
    await turns()
    task.cancel()
    assert lines == ["WARNING substation s1 is not eligible: away"]


class OverError(Exception):
    """The scripted looks are used up."""


def snapshots(harness: Harness, look: Callable[[], list[Candidate]]) -> Snapshots:
    """Make a writer of snapshots of what ``look`` returns."""
    return Snapshots(
        look,
        harness.tracker.former,
        harness.writer,
        harness.standby,
        kept_for=lambda: None,
        unsettled_since=harness.unsettled_since,
        clock=lambda: harness.at,
        now=lambda: harness.now,
    )


async def written(harness: Harness, *seen: list[Candidate]) -> list[dict[str, Any]]:
    """Show these looks, one an interval; return the details of the snapshots written."""
    looks = iter(seen)

    def look() -> list[Candidate]:
        if (found := next(looks, None)) is None:
            raise OverError
        return found

    with pytest.raises(OverError):
        await snapshots(harness, look).publish()
    await turns()
    return [dict(each.detail) for each in harness.publisher.events(SUBSTATIONS)]


@pytest.fixture
def _no_periods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "INTERVAL_SECONDS", 0)


@pytest.mark.usefixtures("_no_periods")
async def test_snapshot_has_a_row_for_each_substation() -> None:
    """It names its writer, and each substation's load, state, limit, and why it is not eligible."""
    harness = Harness(confirming())
    harness.tracker.keep({"s1": None, "s2": None})
    harness.arrive("s1", rated_power_kw=100.0)
    harness.arrive("s2")
    harness.tracker.control("s2", Control("s2", Availability.DRAINING, 4, 1))
    harness.tracker.dispatch("s1", harness.now, 11.0)
    (detail,) = await written(harness, harness.core.candidates(harness.now))
    assert detail["dispatcher"] == "this"
    one, two = detail["substations"]
    assert (one["substation"], one["state"], one["limit"]) == ("s1", "available", None)
    assert (one["load"], one["power_kw"], one["rated_power_kw"]) == (1, 11.0, 100.0)
    assert one["background_power_kw"] == 0
    assert (one["eligible"], one["reason"]) == (True, None)
    assert (two["substation"], two["state"], two["limit"]) == ("s2", "draining", 4)
    assert (two["eligible"], two["reason"]) == (False, DRAINED)
    assert detail["former"] == []
    (event,) = harness.publisher.events(SUBSTATIONS)
    assert event.at == AT


@pytest.mark.usefixtures("_no_periods")
async def test_snapshot_is_written_when_something_has_changed() -> None:
    """A gauge's age always changes, and does not count; its problem does."""
    harness = Harness(confirming())
    older = structs.replace(candidate(), gauge_age=1.5)
    looks = [[candidate()], [older], [candidate()], [candidate("away")], [candidate("away")]]
    assert len(await written(harness, *looks)) == 2


@pytest.mark.usefixtures("_no_periods")
async def test_snapshot_names_substations_that_left() -> None:
    """Jobs may be left in their queues when this dispatcher ends: the next one must look there."""
    harness = Harness(confirming())
    harness.tracker.recall(["s9", "s8"])
    (detail,) = await written(harness, [candidate()])
    assert detail["former"] == ["s8", "s9"]
    next_one = Harness(FakePublisher(), "s9")
    next_one.read_events(*harness.publisher.events(SUBSTATIONS))
    assert next_one.tracker.former == {"s1", "s8"}


@pytest.mark.usefixtures("_no_periods")
async def test_snapshot_is_written_regularly_without_changes() -> None:
    """A reader that starts in the middle of the log needs one, and a sign that its writer lives."""
    harness = Harness(confirming())
    assert len(await written(harness, *[[candidate()]] * (1 + 2 * LEAST_EVERY))) == 3


@pytest.mark.usefixtures("_no_periods")
async def test_dispatcher_writes_a_mark_where_nothing_changed() -> None:
    """A reader knows within seconds that it is silent; while disconnected it writes none."""
    harness = Harness(confirming())
    await written(harness, *[[candidate()]] * 4)
    assert [each.job for each in harness.publisher.events(MARKER)] == [ALIVE] * 3
    harness.publisher.up.clear()
    await written(harness, *[[candidate()]] * 3)
    assert len(harness.publisher.events(MARKER)) == 3


@pytest.mark.usefixtures("_no_periods")
async def test_snapshot_is_not_written_while_disconnected_or_on_standby() -> None:
    """An old snapshot is useless, and that of a dispatcher without requests is wrong."""
    harness = Harness(confirming())
    harness.publisher.up.clear()
    assert await written(harness, [candidate()], [candidate("away")]) == []
    harness.publisher.up.set()
    harness.standby.heard("other", harness.now)
    assert await written(harness, [candidate()]) == []
    harness.standby.on_delivery()
    assert len(await written(harness, [candidate()])) == 1


async def test_last_snapshot_of_a_dispatcher_ends_standby_of_another() -> None:
    """One that starts later, or is on standby, need not wait for its next snapshot."""
    harness, starting, standby = (Harness(confirming(), "s1") for _ in range(3))
    harness.standby.name = "the one that ends"
    ending = snapshots(harness, lambda: harness.core.candidates(harness.now))
    ending.write_last()
    await harness.shell.stop()
    await turns()
    (last,) = harness.publisher.events(SUBSTATIONS)
    assert [each["substation"] for each in last.detail["substations"]] == ["s1"]
    before = structs.replace(last, detail={**last.detail, "leaves": False})
    await standby.catch_up()
    for one in (starting, standby):
        one.read_events(before)
        assert one.standby.is_standby(one.now)
        one.read_events(last)
        assert not one.standby.is_standby(one.now)
    assert standby.standby.on_delivery(), "it takes over all the same"
    assert harness.standby.is_standby(harness.now), "it says nothing more"
    ending.write_last()
    await turns()
    assert len(harness.publisher.events(SUBSTATIONS)) == 1
