"""The account of a fault, without the system: lost jobs, duplicates, and when all is normal."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import nan

import pytest

from grid.events import Event, State
from tests.faults.accounts import (
    Answer,
    Histories,
    accepted,
    is_accepted,
    is_normal,
    recovery,
)
from tests.faults.report import BEGIN, END, HEADINGS, Row, table, with_table
from tests.faults.witness import charged

RATE = 10  # requests a second


def histories(*events: tuple[str, str, str, float]) -> Histories:
    """Return the histories of a log of (kind, job, substation, at), each read as it happened."""
    found = Histories()
    for kind, job, substation, at in events:
        found.take(Event(kind, at, job, substation), at)
    return found


def test_what_has_no_end_is_lost() -> None:
    """Whatever else is known of it; the others are counted by how they ended."""
    log = histories(
        (State.CHARGING, "a", "s1", 1),
        (State.COMPLETED, "a", "s1", 2),
        (State.PARKED, "b", "", 2),
        (State.CHARGING, "c", "s1", 2),
        (State.COMPLETED, "nobodys", "s1", 3),
    )
    account = log.account(["a", "b", "c"])
    assert account.ends == {State.COMPLETED: 1, State.PARKED: 1}
    assert account.lost == {"c"}
    assert not account.balanced
    assert log.account(["a", "b"]).balanced


def test_one_that_ends_in_two_ways_has_not_one_end() -> None:
    """The same end read twice is one; being both parked and completed is two."""
    log = histories(
        (State.COMPLETED, "a", "s1", 2),
        (State.COMPLETED, "a", "s1", 2),
        (State.COMPLETED, "b", "s1", 2),
        (State.PARKED, "b", "", 3),
    )
    assert log.account(["a", "b"]).several == {"b"}
    assert not log.account(["a", "b"]).balanced
    assert log.account(["a"]).balanced


def test_a_second_session_is_double_and_a_second_word_is_not() -> None:
    """An event may be read again; another session means that a vehicle was charged twice."""
    log = histories(
        (State.CHARGING, "a", "s1", 1),
        (State.CHARGING, "a", "s1", 1),
        (State.CHARGING, "b", "s1", 1),
        (State.CHARGING, "b", "s1", 5),
        (State.CHARGING, "b", "s2", 6),
    )
    assert log.account([]).duplicates == 2
    log.take(Event(State.CHARGING, 7, "a", "s2"), 7)
    assert log.account([], counted=2).duplicates == 1, "late, and once"


def test_a_substations_log_tells_what_it_charged_by_then() -> None:
    """Only the lines of completed sessions count, each with the job and the time."""
    lines = [
        "not JSON: a library's own words",
        '{"time": "1970-01-01T00:00:10+00:00", "message": "charging", "job": "a"}',
        '{"time": "1970-01-01T00:00:11+00:00", "message": "charged", "job": "b"}',
        '{"time": "1970-01-01T00:00:12+00:00", "message": "charged", "job": "c"}',
    ]
    assert charged("\n".join(lines), until=11.5) == {"b"}


def answers(until: float, *, refused: tuple[float, float] = (0, 0)) -> list[Answer]:
    """Return an answer every tenth of a second, 503 between two times."""
    found = []
    for number in range(int(until * RATE)):
        at = number / RATE
        bad = refused[0] <= at < refused[1]
        found.append(Answer(at, at, 503 if bad else 202, "" if bad else f"j{number}", 1.0))
    return found


def back(found: list[Answer], since: float, *, slow: float = 0.0, silent: int = 0) -> float | None:
    """Return when service was normal; ``slow`` seconds to a session, ``silent`` unanswered."""
    sent = [each.sent for each in found]
    charging = {each.job: each.sent + slow for each in found if each.status == 202}
    is_well = partial(is_normal, charging=charging)
    return recovery(sent, found[silent:], is_well, since=since, now=sent[-1])


@pytest.mark.parametrize(("end", "expected"), [(0.0, 0.0), (2.0, 2.0), (2.2, 2.5), (9.5, None)])
def test_service_is_normal_once_all_are_accepted(end: float, expected: float | None) -> None:
    """From the first of two half seconds in a row in which no request was refused."""
    assert back(answers(10, refused=(0.0, end)), 0.0) == expected


def test_an_accepted_request_must_also_charge_soon() -> None:
    """An api that accepts all is not enough if nothing is charged."""
    assert back(answers(10), 0.0, slow=1.5) is None
    assert back(answers(10), 0.0, slow=0.9) == 0.0


def test_when_all_are_accepted_again_is_told_too() -> None:
    """That may be earlier than when what was accepted has been charged."""
    found = answers(10, refused=(0.0, 2.0))
    sent = [each.sent for each in found]
    assert recovery(sent, found, is_accepted, since=0.0, now=sent[-1]) == 2.0


def test_a_request_without_an_answer_counts_against_it() -> None:
    """What is still waiting for its answer is not normal service."""
    assert back(answers(10), 0.0, silent=3) == 0.5


def test_what_was_accepted_is_what_was_answered_so() -> None:
    """A 503 or no answer promises nothing."""
    assert accepted(answers(1, refused=(0.0, 0.8))) == {"j8", "j9"}


def test_the_table_is_kept_between_its_marks() -> None:
    """The text around it stays; a document without the marks is refused."""
    log = histories((State.COMPLETED, "a", "s1", 1))
    row = Row("a fault", log.account(["a"]), 3, None, 5, ("a figure",))
    content = table([row])
    first, rule, line = content.splitlines()
    assert [cell.strip() for cell in first.strip("|").split("|")] == list(HEADINGS)
    assert set(rule) <= set("|-: ")
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "a fault; a figure", "1", "1", "0", "0", "0", "3", "never", "5 s",
    ]  # fmt: skip
    assert replace(row, within=None).cells()[-1] == "-"
    assert replace(row, recovered=nan).cells()[-2] == "-"
    kept = with_table(f"before\n{BEGIN}\nold\n{END}\nafter\n", content)
    assert kept == f"before\n{BEGIN}\n{content}\n{END}\nafter\n"
    with pytest.raises(ValueError, match="no lines"):
        with_table("nothing", content)
