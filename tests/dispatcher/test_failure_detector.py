from __future__ import annotations

import pytest

from dispatcher.failure_detector import (
    DEAD,
    UNREACHABLE,
    UNSERVED,
    Evacuation,
    FailureDetector,
    Look,
)

AFTER = 10.0
FINE = Look(reachable=True, consumers=1)
UNSEEN = Look(reachable=False, consumers=1)  # alive, and only the dispatcher cannot reach it
UNSEEN_UNKNOWN = Look(reachable=False, consumers=None)
GONE = Look(reachable=False, consumers=0)
IDLE = Look(reachable=True, consumers=0)
IDLE_UNKNOWN = Look(reachable=True, consumers=None)

LONG_UNREACHABLE = UNREACHABLE.format(AFTER)
LONG_UNSERVED = UNSERVED.format(AFTER)


def evacuations(
    looks: list[Look], other: Look = FINE, failure_detector: FailureDetector | None = None
) -> list[str]:
    """Return the judgement's reason at each look, a second apart; "" where there is none."""
    judge = failure_detector or FailureDetector(AFTER)
    found = [
        judge.observe({"s": look, "other": other}, second) for second, look in enumerate(looks)
    ]
    return [each["s"].why if "s" in each else "" for each in found]


@pytest.mark.parametrize(
    ("looks", "due_from", "why"),
    [
        ([FINE] * 20, None, ""),
        ([UNSEEN] * 12, 10, LONG_UNREACHABLE),
        ([UNSEEN_UNKNOWN] * 12, 10, LONG_UNREACHABLE),
        ([UNSEEN] * 9 + [FINE] + [UNSEEN] * 10, None, ""),
        ([UNSEEN] * 9 + [IDLE_UNKNOWN] + [UNSEEN] * 10, None, ""),
        ([GONE] * 3, 1, DEAD),
        ([FINE, GONE, GONE], 2, DEAD),
        ([GONE, FINE, GONE, UNSEEN, GONE, IDLE], None, ""),
        ([GONE, UNSEEN_UNKNOWN] * 4, None, ""),
        ([IDLE] * 12, 10, LONG_UNSERVED),
        ([IDLE] * 9 + [FINE] + [IDLE] * 10, None, ""),
        ([IDLE] * 9 + [IDLE_UNKNOWN] + [IDLE] * 10, None, ""),
        ([IDLE_UNKNOWN] * 20, None, ""),
        ([IDLE] * 9 + [GONE] + [IDLE] * 2, 10, LONG_UNSERVED),
    ],
)
def test_failure_detector_reports_queue_that_is_due(
    looks: list[Look], due_from: int | None, why: str
) -> None:
    """A dead substation at the second look; in doubt, only after an uninterrupted timeout."""
    expected = [why if due_from is not None and n >= due_from else "" for n in range(len(looks))]
    assert evacuations(looks) == expected


@pytest.mark.parametrize("last", [FINE, UNSEEN])
def test_failure_detector_stops_when_substation_is_back(last: Look) -> None:
    """A substation that is back keeps its jobs from then on."""
    assert evacuations([GONE, GONE, last, last]) == ["", DEAD, "", ""]


@pytest.mark.parametrize("look", [UNSEEN, UNSEEN_UNKNOWN])
def test_failure_detector_judges_nobody_while_no_page_can_be_read(look: Look) -> None:
    """If no page can be read at all, the dispatcher is cut off; not every substation is dead."""
    assert evacuations([look] * 30, other=look) == [""] * 30


def test_failure_detector_finds_dead_substation_by_its_queue_alone() -> None:
    """Without any page, the missing consumer shows that the last or only substation is dead."""
    assert evacuations([GONE] * 3, other=UNSEEN) == ["", DEAD, DEAD]
    assert FailureDetector(AFTER).observe({"s": GONE}, 0) == {}


def test_failure_detector_does_not_count_time_in_which_no_page_was_read() -> None:
    """When the first page can be read again, the others' timeout starts from then."""
    failure_detector = FailureDetector(AFTER)
    for second in range(60):
        assert failure_detector.observe({"s": UNSEEN, "other": UNSEEN}, second) == {}
    for second in range(60, 70):
        assert failure_detector.observe({"s": UNSEEN, "other": FINE}, second) == {}
    assert set(failure_detector.observe({"s": UNSEEN, "other": FINE}, 70)) == {"s"}


def test_failure_detector_waits_for_consumers_after_rabbitmq_was_away() -> None:
    """A missing consumer counts only after a while; a page that cannot be read counts at once."""
    failure_detector = FailureDetector(AFTER)
    failure_detector.begin_grace(0)
    assert evacuations([GONE] * 12, failure_detector=failure_detector) == [""] * 10 + [
        LONG_UNREACHABLE,
        DEAD,
    ]
    failure_detector = FailureDetector(AFTER)
    failure_detector.begin_grace(0)
    assert (
        evacuations([IDLE] * 22, failure_detector=failure_detector)
        == [""] * 20 + [LONG_UNSERVED] * 2
    )


@pytest.mark.parametrize(
    ("look", "alive"), [(UNSEEN, True), (UNSEEN_UNKNOWN, True), (GONE, False), (IDLE, True)]
)
def test_failure_detector_says_which_substation_may_be_alive(look: Look, *, alive: bool) -> None:
    """One that answers, or whose consumer is there or may be, can have sessions in progress."""
    failure_detector = FailureDetector(1)
    found: dict[str, Evacuation] = {}
    for second in range(3):
        found = failure_detector.observe({"s": look, "other": FINE}, second)
    assert found["s"].alive is alive


def test_failure_detector_forgets_removed_substation() -> None:
    """A substation that returns under the same name has no earlier failures."""
    failure_detector = FailureDetector(AFTER)
    failure_detector.observe({"s": GONE, "other": FINE}, 0)
    failure_detector.observe({"other": FINE}, 1)
    assert failure_detector.observe({"s": GONE, "other": FINE}, 2) == {}
