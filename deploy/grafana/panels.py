"""The few kinds of panel that the dashboards use, each in this project's style.

A panel's lines are ``Line`` values: one PromQL expression and its legend. If a rate's window is
``$__rate_interval``, Grafana makes it four scrapes long, or four times the line's ``step``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboard_builders
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)

DATASOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")  # a variable
HIGHEST: Final = 99  # percentile that is drawn
LIMIT: Final = "limit of "  # a legend that starts so is drawn thin, dashed and red

Panel = timeseries.Panel | stat.Panel | statetimeline.Panel
Steps = Sequence[tuple[float | None, str]]  # the value from which a colour applies, first None
CALM: Final[Steps] = ((None, "text"),)
NONE_IS_GOOD: Final[Steps] = ((None, "green"), (1, "red"))
SOME_IS_GOOD: Final[Steps] = ((None, "red"), (1, "green"))


class Line(NamedTuple):
    """One query of a panel: PromQL, legend, and the least step between points (``15s``).

    With ``exemplar``, the traces that the query's metric names are drawn as points.
    """

    expr: str
    legend: str = ""
    step: str = ""
    exemplar: bool = False


def of_substations(metric: str, more: str = "") -> str:
    """Return a metric of the substations that are chosen; ``more`` are further matchers."""
    return f'{metric}{{substation=~"$substation"{more and ", " + more}}}'


def of_jobs(metric: str, more: str = "") -> str:
    """Return a metric of the services that are chosen; ``more`` are further matchers."""
    return f'{metric}{{job=~"$job"{more and ", " + more}}}'


def rate(counter: str, by: str = "") -> str:
    """Return the PromQL of a counter's events a second, one series for each value of ``by``."""
    grouping = f" by ({by}) " if by else ""
    return f"sum{grouping}(rate({counter}[$__rate_interval]))"


def quantiles(histogram: str, by: str = "") -> list[Line]:
    """Return the p50, p95 and p99 of a histogram of seconds, over at least a minute.

    At a few requests a second, a shorter window has too few observations for a 99th percentile.
    Where nothing was observed there is no line: a quantile of nothing would be no number. Only the
    highest line has exemplars: they are the same for all three.
    """
    labels, legend = ("le", "") if not by else (f"le, {by}", f" {{{{{by}}}}}")
    inner = f"sum by ({labels}) (rate({histogram}_bucket[$__rate_interval]))"
    return [
        Line(f"histogram_quantile({q / 100}, {inner}) >= 0", f"p{q}{legend}", "15s", q == HIGHEST)
        for q in (50, 95, HIGHEST)
    ]


def graph(
    title: str,
    description: str,
    lines: Sequence[Line],
    *,
    width: int,
    unit: str = "short",
    stacked: bool = False,
    limit: float | None = None,
) -> timeseries.Panel:
    """Return a panel of lines over time, upwards from zero, in ``unit``.

    ``limit`` draws a dashed red line at a fixed value; a line whose legend starts with ``LIMIT``
    is one that may move.
    """
    stacking = common.StackingMode.NORMAL if stacked else common.StackingMode.NONE
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([_query(line, index) for index, line in enumerate(lines)])
        .span(width)
        .height(8)
        .unit(unit)
        .min(0)
        .color_scheme(_coloured(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .line_width(1 if stacked else 2)
        .fill_opacity(60 if stacked else 5)
        .show_points(common.VisibilityMode.NEVER)
        .stacking(common_builders.StackingConfig().mode(stacking).group("A"))
        .legend(_legend())
        .tooltip(_tooltip())
        .override_by_regexp(f"/^{LIMIT}/", _as_limit())
    )
    return panel if limit is None else _limited(panel, limit)


def number(
    title: str, description: str, line: Line, *, unit: str = "short", steps: Steps = CALM
) -> stat.Panel:
    """Return a panel of one large number, coloured by ``steps``, over its last minutes."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([_query(line, 0)])
        .span(3)
        .height(4)
        .unit(unit)
        .min(0)
        .thresholds(_thresholds(steps))
        .color_scheme(_coloured(FieldColorModeId.THRESHOLDS))
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.AREA)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def states(
    title: str, description: str, lines: Sequence[Line], *, width: int, words: tuple[str, str]
) -> statetimeline.Panel:
    """Return a panel of when each series was 0 (red) or 1 (green); ``words`` name 0 and 1."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([_query(line, index) for index, line in enumerate(lines)])
        .span(width)
        .height(8)
        .mappings([_words(words)])
        .thresholds(_thresholds(SOME_IS_GOOD))
        .color_scheme(_coloured(FieldColorModeId.THRESHOLDS))
        .show_value(common.VisibilityMode.NEVER)
        .row_height(0.8)
        .line_width(0)
        .fill_opacity(80)
    )


def _query(line: Line, index: int) -> prometheus.Dataquery:
    query = prometheus.Dataquery().datasource(DATASOURCE).expr(line.expr).range()
    query = query.ref_id(chr(ord("A") + index))
    if line.legend:
        query = query.legend_format(line.legend)
    if line.exemplar:
        query = query.exemplar(True)  # noqa: FBT003  # the builder's own signature
    return query.interval(line.step) if line.step else query


def _limited(panel: timeseries.Panel, limit: float) -> timeseries.Panel:
    style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED)
    steps = ((None, "transparent"), (limit, "red"))
    return panel.thresholds(_thresholds(steps)).thresholds_style(style)


def _thresholds(steps: Steps) -> dashboard_builders.ThresholdsConfig:
    return (
        dashboard_builders.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for value, color in steps])
    )


def _coloured(mode: FieldColorModeId) -> dashboard_builders.FieldColor:
    return dashboard_builders.FieldColor().mode(mode)


def _words(words: tuple[str, str]) -> ValueMapping:
    colors = ("red", "green")
    return ValueMap(
        options={
            str(value): ValueMappingResult(text=word, color=color, index=value)
            for value, (word, color) in enumerate(zip(words, colors, strict=True))
        }
    )


def _legend() -> common_builders.VizLegendOptions:
    return (
        common_builders.VizLegendOptions()
        .show_legend(True)  # noqa: FBT003  # the builder's own signature
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "mean", "max"])
    )


def _tooltip() -> common_builders.VizTooltipOptions:
    mode, order = common.TooltipDisplayMode.MULTI, common.SortOrder.DESCENDING
    return common_builders.VizTooltipOptions().mode(mode).sort(order)


def _as_limit() -> list[DynamicConfigValue]:
    values: dict[str, object] = {
        "color": {"mode": "fixed", "fixedColor": "semi-dark-red"},
        "custom.lineStyle": {"fill": "dash", "dash": [10, 10]},
        "custom.lineWidth": 1,
        "custom.fillOpacity": 0,
        "custom.hideFrom": {"legend": True, "tooltip": False, "viz": False},
    }
    return [DynamicConfigValue(id_val=name, value=value) for name, value in values.items()]
