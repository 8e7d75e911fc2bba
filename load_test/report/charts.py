"""Charts as inline SVG: lines over time, percentiles, bars. Pure.

Colours are variables of the page's style, so that they suit light and dark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, inf, log10
from typing import Final

WIDTH, HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 14, 40
_TICKS: Final = 5
_COLOURS: Final = 8  # --c0 … --c7 of the page's style
_BAR_HEIGHT: Final = 22
_LABEL: Final = 170  # width of the names of bars

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart; a floor is dashed. ``steps`` holds each value until the next."""

    name: str
    points: Sequence[tuple[float, float]]
    is_floor: bool = False
    steps: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar, and the mark of its floor."""

    name: str
    value: float
    floor: float | None = None


def plain(value: float) -> str:
    """Return a number without needless digits."""
    return f"{value:,.4g}"


def lines(
    title: str,
    drawn: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    y_format: Format = plain,
    logarithmic: bool = False,
    x_ticks: Sequence[tuple[float, str]] | None = None,
) -> str:
    """Return a chart of lines, with its legend.

    ``x_ticks`` are places with their labels, where even steps will not do.
    """
    shown = [each for each in drawn if each.points]
    if not shown:
        return _empty(title)
    xs = [x for line in shown for x, _ in line.points]
    ys = [y for line in shown for _, y in line.points]
    across = _Axis(min(xs), max(xs), _LEFT, WIDTH - _RIGHT)
    up = _scale(ys, logarithmic=logarithmic)
    parts = [_grid(up, y_format)]
    ticks = x_ticks or [(each, plain(each)) for each in across.ticks()]
    parts += [_x_tick(across(x), label) for x, label in ticks if across.low <= x <= across.high]
    parts.append(_axis_labels(x_label, y_label))
    colours = _colours(shown)
    for line, colour in zip(shown, colours, strict=True):
        path = _path([(across(x), up(y)) for x, y in line.points], steps=line.steps)
        kind = "floor" if line.is_floor else "line"
        parts.append(
            f'<path class="{kind}" style="stroke:{colour}" d="{path}">'
            f"<title>{escape(line.name)}</title></path>"
        )
    legend = "".join(
        f'<li><i class="{"floor" if line.is_floor else "line"}" style="border-color:{colour}"></i>'
        f"{escape(line.name)}</li>"
        for line, colour in zip(shown, colours, strict=True)
    )
    return _figure(title, HEIGHT, "".join(parts), f'<ul class="legend">{legend}</ul>')


def bars(title: str, drawn: Sequence[Bar], y_format: Format = plain) -> str:
    """Return a chart of horizontal bars; a mark shows the floor of each."""
    if not drawn:
        return _empty(title)
    most = max(max(each.value, each.floor or 0.0) for each in drawn) or 1.0
    across = _Axis(0.0, most, _LABEL, WIDTH - 90)
    parts = []
    for number, each in enumerate(drawn):
        y = _TOP + number * _BAR_HEIGHT
        end = across(each.value)
        parts.append(
            f'<text class="name" x="{_LABEL - 8}" y="{y + 12}">{escape(each.name)}</text>'
            f'<rect class="bar" x="{_LABEL}" y="{y}" width="{end - _LABEL:.1f}" height="15"/>'
            f'<text class="value" x="{max(end, across(each.floor or 0.0)) + 6:.1f}" y="{y + 12}">'
            f"{escape(y_format(each.value))}</text>"
        )
        if each.floor is not None:
            x = across(each.floor)
            parts.append(f'<path class="floor" style="stroke:var(--ink)" d="M{x:.1f} {y - 2}v19"/>')
    height = 2 * _TOP + len(drawn) * _BAR_HEIGHT
    return _figure(title, height, "".join(parts), "")


class _Axis:
    """From values to places along an axis."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self.low, self.high = low, high if high > low else low + 1.0
        self._begin, self._end = begin, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self._begin + share * (self._end - self._begin)

    def ticks(self) -> list[float]:
        step = _nice((self.high - self.low) / _TICKS)
        first = ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, floor(self.high / step + 1e-9) + 1)]


class _LogAxis(_Axis):
    """The same, by the logarithm of values."""

    def __call__(self, value: float) -> float:
        share = log10(max(value, self.low) / self.low) / log10(self.high / self.low)
        return self._begin + share * (self._end - self._begin)

    def ticks(self) -> list[float]:
        powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
        return [10.0**power for power in powers if self.low <= 10.0**power <= self.high]


def _scale(ys: Sequence[float], *, logarithmic: bool) -> _Axis:
    """Return the vertical axis: from 0, or over whole powers of ten."""
    bottom, top = HEIGHT - _BOTTOM, float(_TOP)
    least = min((each for each in ys if each > 0), default=inf)
    if logarithmic and least < inf:
        low = 10.0 ** floor(log10(least))
        return _LogAxis(low, max(10.0 ** ceil(log10(max(ys))), 10 * low), bottom, top)
    high = max(ys)
    step = _nice(high / _TICKS) if high > 0 else 1.0
    return _Axis(0.0, step * max(1, ceil(high / step - 1e-9)), bottom, top)


def _nice(step: float) -> float:
    """Return the next of 1, 2, 5 × a power of ten."""
    power = 10.0 ** floor(log10(step)) if step > 0 else 1.0
    return next(each * power for each in (1, 2, 5, 10) if each * power >= step - 1e-12)


def _grid(up: _Axis, y_format: Format) -> str:
    return "".join(
        f'<path class="grid" d="M{_LEFT} {up(each):.1f}H{WIDTH - _RIGHT}"/>'
        f'<text class="y" x="{_LEFT - 6}" y="{up(each) + 4:.1f}">{escape(y_format(each))}</text>'
        for each in up.ticks()
    )


def _x_tick(x: float, label: str) -> str:
    return f'<text class="x" x="{x:.1f}" y="{HEIGHT - _BOTTOM + 16}">{escape(label)}</text>'


def _axis_labels(x_label: str, y_label: str) -> str:
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    return (
        f'<text class="x label" x="{middle}" y="{HEIGHT - 6}">{escape(x_label)}</text>'
        f'<text class="label" x="{_LEFT}" y="{_TOP - 4}">{escape(y_label)}</text>'
    )


def _path(points: Sequence[tuple[float, float]], *, steps: bool) -> str:
    first, *rest = points
    parts = [f"M{first[0]:.1f} {first[1]:.1f}"]
    for x, y in rest:
        parts.append(f"H{x:.1f}V{y:.1f}" if steps else f"L{x:.1f} {y:.1f}")
    return "".join(parts)


def _colours(drawn: Sequence[Line]) -> list[str]:
    found, used = [], 0
    for line in drawn:
        found.append("var(--ink)" if line.is_floor else f"var(--c{used % _COLOURS})")
        used += not line.is_floor
    return found


def _empty(title: str) -> str:
    return f'<figure><figcaption>{escape(title)}</figcaption><p class="none">no data</p></figure>'


def _figure(title: str, height: int, content: str, legend: str) -> str:
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{content}</svg>{legend}</figure>"
    )
