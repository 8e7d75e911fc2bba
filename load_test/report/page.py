"""The report as one self-contained HTML page: no script, nothing that is loaded. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from math import log10
from typing import Final

from load_test import text
from load_test.measures import sessions_over_time, span, waiting_over_time, waits_of
from load_test.records import Answer, Job
from load_test.report import charts
from load_test.report.charts import Bar, Line
from load_test.report.figures import Figure, Floors
from load_test.report.run_file import Recorded
from load_test.report.style import STYLE
from load_test.steps import Steps
from load_test.truth import judge

_POINTS: Final = 240  # of a line over time
_PIECES: Final = 60  # of a rate over time
_MAX_LINES: Final = 12  # substations that have a line each
_MAX_BARS: Final = 40
_PERCENTILES: Final = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)
_TICKS: Final = (0.0, 0.5, 0.9, 0.99, 0.999)
_SHORTEST: Final = 0.001  # seconds that are drawn
_LAST: Final = 0.9999  # where the highest value is drawn
_NOTES: Final = {
    "floor": "the best that is possible: for vehicles, one first-come-first-served queue in front "
    "of all connectors, for the same arrivals and sessions; for substations, one who knows every "
    "load as it truly is, routing the same jobs at the same times, and for their shares, the "
    "connectors. For demands and energy it is an upper bound in hindsight, by linear programming, "
    "where vehicles leave and scipy is installed; else an order that is not first come, first "
    "served can meet more demands than the floor, at the price of longer waits",
    "due": "when the schedule wanted a request to be sent; latencies count from then, however "
    "late it was sent, so no wait is left out because the one before it was long",
    "demand met": "less than 0.1 kWh, and less than 1 %, of the energy requested was missing "
    "when the vehicle left",
    "fairness": "Jain's index: 1 if all have the same, 1/n if one of n has everything",
    "spread": "the highest less the lowest load, just after a request was routed, in sessions of "
    "a substation of mean size",
}


@dataclass(frozen=True, slots=True)
class Material:
    """What a page is made of: the run as it is written, its jobs at best, and when it began."""

    run: Recorded
    floors: Floors
    started_at: float


def page(material: Material) -> str:
    """Return the whole page."""
    run = material.run
    kind = "partial" if run.interrupted else "kept" if run.kept else "failed"
    body = "".join(
        (
            "<header><h1>Load test</h1>",
            f'<p class="conclusion {kind}">{escape(run.conclusion)}</p>',
            f"<p>{_about(run)}</p><pre>{escape(run.command)}</pre>",
            f"<details><summary>plan</summary><pre>{escape(_plan(run))}</pre></details></header>",
            f'<section class="charts">{"".join(_charts(material))}</section>',
            f"<section><h2>Figures</h2>{_table(run.figures)}</section>",
            f"<section><h2>Words</h2><dl>{_notes()}</dl></section>",
        )
    )
    title = f"Load test of {run.started_at}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _about(run: Recorded) -> str:
    connectors = sum(each.connectors or 0 for each in run.substations)
    speed = f", at {run.speed:g} times the speed of time" if run.speed != 1 else ""
    sites = len(run.substations)
    return escape(
        f"Started {run.started_at}, took {text.duration(run.seconds)}{speed}. "
        f"{len(run.own):,} jobs, {sites} substation{'s' * (sites != 1)} with {connectors:g} "
        "connectors together."
    )


def _plan(run: Recorded) -> str:
    return json.dumps(run.plan, indent=2, ensure_ascii=False)


def _notes() -> str:
    return "".join(
        f"<dt>{escape(word)}</dt><dd>{escape(note)}</dd>" for word, note in _NOTES.items()
    )


def _table(figures: Sequence[Figure]) -> str:
    rows = [_row("figure", "this run", "floor", "col")]
    for group, members in groupby(figures, key=lambda figure: figure.group):
        rows.append(f'<tr><th colspan="3" scope="colgroup">{escape(group)}</th></tr>')
        rows += [
            _row(each.label, each.shown(each.value), each.shown(each.floor)) for each in members
        ]
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _row(name: str, value: str, floor: str, scope: str = "row") -> str:
    kind = "th" if scope == "col" else "td"
    cells = "".join(f"<{kind}>{escape(each)}</{kind}>" for each in (value, floor))
    return f'<tr><th scope="{scope}">{escape(name)}</th>{cells}</tr>'


def _charts(material: Material) -> list[str]:
    run, floors = material.run, material.floors
    own = frozenset(run.own)
    clock = _Clock(run.jobs, material.started_at)
    return [
        _loads(run, clock),
        charts.lines(
            "Waiting: jobs that wait to begin",
            [
                Line("waiting", clock.along(waiting_over_time(run.jobs), Steps.highest)),
                Line(
                    "floor: one central queue",
                    clock.along(waiting_over_time(floors.central), Steps.highest),
                    is_floor=True,
                ),
            ],
            x_label=clock.label,
            y_label="jobs",
        ),
        charts.lines(
            "Spread: the highest less the lowest load",
            [
                Line("spread", clock.along(_spread(run.jobs, run), Steps.highest)),
                Line(
                    "floor: every load known",
                    clock.along(_spread(floors.even, run), Steps.highest),
                    is_floor=True,
                ),
            ],
            x_label=clock.label,
            y_label="sessions",
        ),
        _latencies(run, floors, own),
        _rates(run, clock),
        _decisions(run),
    ]


class _Clock:
    """Places along a time axis, in the unit that suits the length of the run."""

    def __init__(self, jobs: Sequence[Job], started_at: float) -> None:
        first, last = span(jobs)
        self._since, self._until = min(first, started_at) if jobs else started_at, last
        is_long = self._until - self._since > 600  # noqa: PLR2004  # ten minutes
        self._unit = 60.0 if is_long else 1.0
        self.label = f"{'minutes' if is_long else 'seconds'} since the start"

    def along(
        self, steps: Steps, of: Callable[[Steps, float, float], float]
    ) -> list[tuple[float, float]]:
        """Return the points of a line, each the value of a piece of the time."""
        width = (self._until - self._since) / _POINTS
        if width <= 0 or not steps.times:
            return []
        begins = (self._since + number * width for number in range(_POINTS))
        return [((at - self._since) / self._unit, of(steps, at, at + width)) for at in begins]

    def rates(self, times: Sequence[float | None]) -> list[tuple[float, float]]:
        """Return how many of the times lie in each piece of the time, as a rate a second."""
        width = (self._until - self._since) / _PIECES
        if width <= 0:
            return []
        counts = [0] * _PIECES
        for time in times:
            if time is not None and time >= self._since:
                counts[min(_PIECES - 1, int((time - self._since) / width))] += 1
        return [(number * width / self._unit, count / width) for number, count in enumerate(counts)]


def _loads(run: Recorded, clock: _Clock) -> str:
    sessions = sessions_over_time(run.jobs)
    names = sorted(sessions, key=text.natural)
    points = {name: clock.along(sessions[name], Steps.mean) for name in names}
    if len(names) <= _MAX_LINES:
        drawn = [Line(name, points[name]) for name in names]
    else:
        across = list(zip(*points.values(), strict=True))
        drawn = [
            Line("highest", [(each[0][0], max(y for _, y in each)) for each in across]),
            Line("mean", [(each[0][0], sum(y for _, y in each) / len(each)) for each in across]),
            Line("lowest", [(each[0][0], min(y for _, y in each)) for each in across]),
        ]
    return charts.lines(
        "Load: sessions of each substation", drawn, x_label=clock.label, y_label="sessions"
    )


def _spread(jobs: Sequence[Job], run: Recorded) -> Steps:
    """Return the spread of the load just after each job was routed."""
    known = {each.id: each.connectors for each in run.substations if each.connectors}
    judged = judge(jobs, known)
    routed = sorted(
        (each.assigned or 0.0, judged[each.id].spread) for each in jobs if each.id in judged
    )
    return Steps([time for time, _ in routed], [spread for _, spread in routed])


def _latencies(run: Recorded, floors: Floors, own: frozenset[str]) -> str:
    due = {each.job: each.due for each in run.answers if each is not None and each.job is not None}
    jobs = [each for each in run.jobs if each.id in own]
    begun = [
        each.charging - at
        for each in jobs
        if each.charging is not None and (at := due.get(each.id)) is not None
    ]
    answered = [each.seconds for each in run.answers if _is_accepted(each)]  # type: ignore[union-attr]
    central = [each for each in floors.central if each.id in own]
    return charts.lines(
        "Latency percentiles",
        [
            Line("due to answer", _percentiles(answered)),
            Line("due to charging", _percentiles(begun)),
            Line("wait, queued to charging", _percentiles(list(waits_of(jobs)))),
            Line("floor of the wait", _percentiles(list(waits_of(central))), is_floor=True),
        ],
        x_label="percentile",
        y_label="time",
        y_format=_time,
        logarithmic=True,
        x_ticks=[(_place(each), f"{100 * each:g} %") for each in _TICKS] + [(_place(1.0), "max")],
    )


def _rates(run: Recorded, clock: _Clock) -> str:
    """Return the chart of arrivals, decisions and ends, as rates."""
    times = {
        "requests": [each.queued for each in run.jobs],
        "decisions": [each.assigned for each in run.jobs],
        "ends": [each.ended for each in run.jobs],
    }
    return charts.lines(
        "Rates: requests, decisions and ends",
        [Line(name, clock.rates(known), steps=True) for name, known in times.items()],
        x_label=clock.label,
        y_label="a second",
    )


def _is_accepted(answer: Answer | None) -> bool:
    return answer is not None and answer.job is not None


def _percentiles(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return the values at each percentile; none where all are 0, which has no logarithm."""
    ordered = sorted(values)
    if not ordered or ordered[-1] <= 0:
        return []
    last = len(ordered) - 1
    found = ((_place(q), ordered[round(q * last)]) for q in _PERCENTILES)
    return [(x, max(y, _SHORTEST)) for x, y in found]


def _place(quantile: float) -> float:
    """Return where a quantile stands: each further nine takes as much room as the one before."""
    return -log10(1.0 - min(quantile, _LAST))


def _decisions(run: Recorded) -> str:
    connectors = sum(each.connectors or 0.0 for each in run.substations)
    ideal = {each.id: (each.connectors or 0.0) / (connectors or 1.0) for each in run.substations}
    known: dict[str, float] = {each.id: 0.0 for each in run.substations}
    known |= run.summary["share_per_substation"]
    names = sorted(known, key=text.natural)
    drawn = [Bar(name, known[name], ideal.get(name)) for name in names[:_MAX_BARS]]
    more = f", the first {_MAX_BARS} of {len(names)}" if len(names) > _MAX_BARS else ""
    return charts.bars(f"Decisions: share of the jobs, and its floor{more}", drawn, _percent)


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _time(value: float) -> str:
    return f"{1000 * value:g} ms" if value < 1 else f"{value:g} s"
