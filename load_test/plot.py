"""The comparison as a picture. An edge: the one module that needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from load_test.simulate.compare import Comparison
from scheduling.policies import LeastLoaded

_INCHES: Final = (8.0, 4.8)
_DOTS_PER_INCH: Final = 200  # sharp where it is shown 800 wide
_MARGIN: Final = 0.1  # inches
_INK, _PALE, _FAINT = "#222222", "#666666", "#e4e4e4"
_OURS: Final = "#0072b2"
_OTHERS: Final = ("#d55e00", "#009e73", "#cc79a7", "#a57c00", "#56b4e9")  # colour-blind safe
_FLOOR: Final = "floor"
_WIDE: Final = 5  # ratio of the longest wait to the shortest from which the scale is logarithmic
_LABEL_GAP: Final = 0.055  # of the height, between two labels' middles


def write(comparison: Comparison, about: str, path: Path) -> None:
    """Draw it into a PNG file; ``about`` describes what was simulated."""
    figure(comparison, about).savefig(path, format="png")  # by Agg: no display is needed


def figure(comparison: Comparison, about: str) -> Figure:
    """Draw a line for each policy, mean wait over the period, and the floor as a dashed one."""
    drawn = Figure(_INCHES, _DOTS_PER_INCH, facecolor="white")
    drawn.set_layout_engine("constrained", w_pad=_MARGIN, h_pad=_MARGIN)
    axes = drawn.add_subplot()
    periods = sorted({run.period for run in comparison.runs})
    lines = _lines(comparison, periods)
    colours = dict(zip(lines, _colours(list(lines)), strict=True))
    for name, waits in lines.items():
        ours = name == LeastLoaded.name
        axes.plot(
            waits,
            label=name,
            color=colours[name],
            marker="o",
            markersize=6 if ours else 4.5,
            linewidth=3 if ours else 1.7,
            zorder=4 if ours else 3,
        )
    least = comparison.floor.mean_wait
    axes.axhline(least, label=_FLOOR, color=_INK, linestyle=(0, (4, 3)), linewidth=1.3, zorder=5)
    _dress(axes, periods, about)
    _scale(axes, [least, *(wait for waits in lines.values() for wait in waits)])
    ends = {name: waits[-1] for name, waits in lines.items()} | {_FLOOR: least}
    _label(axes, ends, colours | {_FLOOR: _INK})
    return drawn


def _lines(comparison: Comparison, periods: Sequence[float]) -> dict[str, list[float]]:
    """Return the mean waits of each policy, in the order of the periods."""
    names = dict.fromkeys(run.policy for run in comparison.runs)
    waits = {(run.policy, run.period): run.mean_wait for run in comparison.runs}
    return {name: [waits[name, period] for period in periods] for name in names}


def _colours(names: Sequence[str]) -> list[str]:
    others = [name for name in names if name != LeastLoaded.name]
    return [
        _OURS if name == LeastLoaded.name else _OTHERS[others.index(name) % len(_OTHERS)]
        for name in names
    ]


def _dress(axes: Axes, periods: Sequence[float], about: str) -> None:
    """Add titles and axes; periods have even distances, so that 0 has a place among them."""
    axes.set_title("How long a request waits", loc="left", color=_INK, fontsize=13, pad=24)
    axes.text(0, 1.03, about, transform=axes.transAxes, color=_PALE, fontsize=8.5)
    axes.set_xlabel("T, from one reading of a substation's page to the next, in mean session times")
    axes.set_ylabel("mean wait, in mean session times")
    axes.set_xticks(range(len(periods)), [f"{period:.3g}" for period in periods])
    axes.set_xlim(-0.25, max(len(periods) - 0.9, 0.25))
    axes.tick_params(which="both", length=0, colors=_PALE, labelsize=9)
    axes.grid(axis="y", which="major", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_PALE)


def _scale(axes: Axes, waits: Sequence[float]) -> None:
    """Make the scale logarithmic; or linear from 0, if a wait is 0 or all are much the same."""
    if 0 < _WIDE * min(waits) < max(waits):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, 1.1 * max(waits) or 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def _label(axes: Axes, ends: Mapping[str, float], colours: Mapping[str, str]) -> None:
    """Name each line at its right end, labels moved apart where they would overlap."""
    low, high = axes.get_ylim()
    scale = log if axes.get_yscale() == "log" else float
    heights = {
        name: (scale(end) - scale(low)) / (scale(high) - scale(low)) for name, end in ends.items()
    }
    for name, height in apart(heights, _LABEL_GAP).items():
        axes.text(
            1.01,
            height,
            name,
            transform=axes.transAxes,
            color=colours[name],
            fontsize=10,
            fontweight="bold" if name == LeastLoaded.name else "normal",
            verticalalignment="center",
        )


def apart(heights: Mapping[str, float], gap: float) -> dict[str, float]:
    """Move heights as little as needed so that no two are nearer than ``gap``."""
    groups: list[list[str]] = []
    middles: list[float] = []
    for name in sorted(heights, key=lambda name: heights[name]):
        group, middle = [name], heights[name]
        while groups and middle - middles[-1] < gap * (len(groups[-1]) + len(group)) / 2:
            below, lower = groups.pop(), middles.pop()
            middle = (lower * len(below) + middle * len(group)) / (len(below) + len(group))
            group = below + group
        groups.append(group)
        middles.append(middle)
    return {
        name: middle + gap * (place - (len(group) - 1) / 2)
        for group, middle in zip(groups, middles, strict=True)
        for place, name in enumerate(group)
    }
