"""The live view of a run on a terminal. The one module that needs rich."""

from __future__ import annotations

from typing import Final, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from grid.events import State
from load_test import text
from load_test.view.progress import Progress

INTERVAL_SECONDS: Final = 0.2
_BAR: Final = 40  # columns
_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_SHOWN_SUBSTATIONS: Final = 16  # of more, those with the highest loads are shown
_STATES: Final = {
    State.QUEUED: "waiting",
    State.ASSIGNED: "assigned",
    State.CHARGING: "charging",
    State.COMPLETED: "completed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "expired",
    State.PARKED: "parked",
}


class LiveView:
    """A view that is drawn in place on a terminal."""

    interval = INTERVAL_SECONDS

    def __init__(self, err: TextIO) -> None:
        self._console = Console(file=err)
        # no thread of its own: the view changes when the run says so
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._live.start()

    def show(self, progress: Progress) -> None:
        """Draw it in the place of what was drawn before."""
        self._live.update(render(progress), refresh=True)

    def write(self, lines: str, out: TextIO) -> None:
        """Write lines above the view, or to an output that is no terminal as they are."""
        if out.isatty():
            self._console.print(Text(lines.removesuffix("\n")), soft_wrap=True)
        else:
            out.write(lines)

    def close(self) -> None:
        """Leave the last view on the terminal."""
        self._live.stop()


def render(progress: Progress) -> RenderableType:
    """Return the view of one moment."""
    parts: list[RenderableType] = [_bars(progress)]
    if progress.loads:
        parts.append(_substations(progress))
    parts.append(_figures(progress))
    title = "sending" if progress.sending else "waiting for the ends"
    return Panel(Group(*parts), title=f"load test · {progress.seconds:.0f} s · {title}", width=78)


def _bars(progress: Progress) -> RenderableType:
    bars = Table.grid(padding=(0, 1))
    rows = [("sent", progress.answered, progress.requests)]
    if progress.states:
        rows.append(("ended", progress.ended, progress.accepted))
    for name, done, total in rows:
        bar = _bar(done, total)
        bars.add_row(name, bar, f"{done}/{total}")
    return bars


def _bar(done: float, total: float) -> ProgressBar:
    """Return a bar that has the same colour when it is full."""
    return ProgressBar(
        total=max(total, 1.0),
        completed=done,
        width=_BAR,
        complete_style="cyan",
        finished_style="cyan",
    )


def _substations(progress: Progress) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    loads = progress.loads
    names = sorted(loads, key=lambda name: (-(loads[name] or 0.0), text.natural(name)))
    highest = max(1.0, *(load or 0.0 for load in loads.values()))
    for name in sorted(names[:_SHOWN_SUBSTATIONS], key=text.natural):
        load, routed = loads[name], progress.routed.get(name, 0)
        bar = _bar(load or 0.0, highest)
        shown = "unknown" if load is None else f"{load:g}"
        grid.add_row(name, bar, f"load {shown}", f"routed {routed}")
    if len(names) > _SHOWN_SUBSTATIONS:
        grid.add_row(f"and {len(names) - _SHOWN_SUBSTATIONS} more", "", "", "")
    return grid


def _figures(progress: Progress) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    states = ", ".join(
        f"{word} {progress.states[state]}"
        for state, word in _STATES.items()
        if progress.states.get(state)
    )
    grid.add_row("jobs", states or "–")
    if progress.refused:
        grid.add_row("refused", str(progress.refused))
    grid.add_row("answers", text.percentiles(progress.answers))
    grid.add_row("waiting", sparkline(progress.waiting[-_BAR:]))
    return grid


def sparkline(values: tuple[int, ...]) -> str:
    """Return values as a row of blocks, the last value after them."""
    if not values:
        return "–"
    highest = max(*values, 1)
    last = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round(last * each / highest)] for each in values) + f" {values[-1]}"
