"""What is printed, to the letter."""

import pytest

from load_test import text
from load_test.records import Answer


def test_text_of_a_request_has_the_established_lines() -> None:
    """Loads and routing are told in the form that readers of the first version know."""
    loads = {"substation10": 2.0, "substation2": 1, "substation1": 0.0}
    assert text.lines(Answer("a", 0.1, 0, "substation1", loads)) == (
        "[i] Substation Loads → [S1: 0.0, S2: 1.0, S10: 2.0]\n[i] Routed to: substation1"
    )


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (
            Answer("a", 0.1, routed_to="north", loads={"north": 0, "substation-x": 1}),
            "[i] Substation Loads → [north: 0.0, substation-x: 1.0]\n[i] Routed to: north",
        ),
        (Answer("a", 0.1), "[i] Routed to: waiting (no decision yet)"),
        (Answer("a", 0.1, reason="all are full"), "[i] Routed to: waiting (all are full)"),
        (Answer(None, 0.1, reason="422 priority: 11"), "[!] Refused: 422 priority: 11"),
    ],
)
def test_text_of_waiting_and_refused_requests_says_why(answer: Answer, line: str) -> None:
    """Other ids are shown as they are; what waits or was refused says why."""
    assert text.lines(answer) == line


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0123, "12.3 ms"), (1.5, "1.50 s"), (61, "61.00 s"), (0, "0.0 ms")]
)
def test_text_shows_times_in_ms_below_one_second(value: float, shown: str) -> None:
    """Milliseconds below one second, seconds above."""
    assert text.seconds(value) == shown
