"""The views of a run in progress: plain lines, and the live one on a terminal."""

from __future__ import annotations

import io
import os
import pty
from contextlib import suppress

import pytest
from rich.console import Console

from grid.events import State
from load_test.view.plain import line
from load_test.view.progress import Progress
from load_test.view.terminal import LiveView, render, sparkline
from load_test.waits import Percentiles

PROGRESS = Progress(
    seconds=12.34,
    sending=True,
    requests=100,
    answered=60,
    refused=2,
    states={State.QUEUED: 5, State.CHARGING: 10, State.COMPLETED: 40, State.EXPIRED: 3},
    loads={"north": 7.0, "south": None},
    routed={"north": 30, "south": 23},
    answers=Percentiles(0.01, 0.02, 0.5),
    waiting=(0, 4, 8, 5),
)


def test_plain_line_has_what_was_sent_and_what_became_of_it() -> None:
    """States are left out until they were looked up, refusals where there are none."""
    assert line(PROGRESS) == (
        "   12.3 s  sent 60/100, refused 2, waiting 5, charging 10, ended 43/58"
    )
    assert line(PROGRESS._replace(refused=0, states={})) == "   12.3 s  sent 60/100"


def shown(progress: Progress) -> str:
    """Return the live view as text."""
    console = Console(file=io.StringIO(), width=90)
    with console.capture() as captured:
        console.print(render(progress))
    return captured.get()


def test_live_view_has_substations_states_and_latencies() -> None:
    """A load that nobody knows is called unknown, and never 0."""
    text = shown(PROGRESS)
    for part in (
        "60/100", "43/58", "load 7", "load unknown", "routed 30", "waiting 5, charging 10",
        "p99  500.0 ms", "▁▅█▅ 5", "sending",
    ):  # fmt: skip
        assert part in text
    assert "waiting for the ends" in shown(PROGRESS._replace(sending=False))


def test_live_view_shows_the_most_loaded_of_many_substations() -> None:
    """A thousand do not fit: the highest loads do."""
    loads = {f"s{number}": float(number) for number in range(1000)}
    text = shown(PROGRESS._replace(loads=loads))
    assert "load 999" in text
    assert "load 983" not in text
    assert "and 984 more" in text


def test_live_view_before_the_first_look_has_what_was_sent() -> None:
    """Nothing is known of the substations yet."""
    text = shown(PROGRESS._replace(states={}, loads={}, answers=None, waiting=()))
    assert "60/100" in text
    assert "load" not in text.replace("load test", "")


@pytest.mark.parametrize(("values", "text"), [((), "–"), ((0, 0), "▁▁ 0"), ((1, 8), "▂█ 8")])
def test_sparkline_is_relative_to_its_highest_value(values: tuple[int, ...], text: str) -> None:
    """Nothing but zeros is a flat line."""
    assert sparkline(values) == text


def test_live_view_draws_in_place_and_leaves_the_last_view() -> None:
    """On a terminal it moves the cursor back up; the lines of requests stand above it."""
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal:
        view, out = LiveView(terminal), io.StringIO()
        view.show(PROGRESS)
        view.write("[i] Routed to: north\n", terminal)
        view.write("to a file\n", out)
        view.show(PROGRESS._replace(answered=100))
        view.close()
    drawn = all_of(leader).decode()
    os.close(leader)
    assert "\x1b[1A" in drawn
    assert "[i] Routed to: north" in drawn
    assert out.getvalue() == "to a file\n"
    assert drawn.rindex("100/100") > drawn.rindex("60/100")


def all_of(leader: int) -> bytes:
    """Return what was written to a terminal, which is closed: it is read in several parts."""
    parts = []
    with suppress(OSError):  # at its end
        while part := os.read(leader, 100_000):
            parts.append(part)
    return b"".join(parts)
