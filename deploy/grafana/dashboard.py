"""The dashboards "Grid" and "Services", and the program that writes their JSON.

``python -m deploy.grafana.dashboard`` writes ``dashboards/*.json``, which Grafana reads. They can
be imported elsewhere: the data source is a variable, and so are the addresses of the page and of
the runbook. Every query has a result while the system runs, and none of them is NaN while it is
idle: the tests ask a running Prometheus. A gauge that several dispatchers or apis export is counted
once, by ``max``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    AnnotationContainer,
    AnnotationQuery,
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from deploy.grafana import flow, health, load
from deploy.grafana.panels import DATASOURCE, Panel, of_substations

FOLDER: Final = Path(__file__).parent / "dashboards"
TAG: Final = "smart-grid"
PAGE: Final = "http://localhost:7000/"
RUNBOOK: Final = "http://localhost:8000/runbook.html"  # by `make docs`
ALL: Final = ".+"


class Board(NamedTuple):
    """A dashboard: its file's name, its rows, and the variables that choose what it shows."""

    name: str
    uid: str
    title: str
    description: str
    rows: dict[str, list[Panel]]
    variables: tuple[tuple[str, str, str], ...]  # name, label, query

    @property
    def file(self) -> Path:
        """Return the file that Grafana reads."""
        return FOLDER / f"{self.name}.json"


class Annotation(AnnotationQuery):
    """An annotation of the Prometheus data source, which has a title of its own."""

    def __init__(self, name: str, color: str, expr: str, title: str) -> None:
        super().__init__(name, DATASOURCE, icon_color=color, expr=expr)
        self._title = title

    def to_json(self) -> dict[str, object]:
        """Return its JSON, with the fields that the SDK's model of an annotation lacks."""
        return {**super().to_json(), "step": "10s", "titleFormat": self._title}


def boards() -> Sequence[Board]:
    """Return both dashboards."""
    substation = ("substation", "Substation", "label_values(ev_charging_load, substation)")
    job = ("job", "Job", "label_values(up, job)")
    return (
        Board(
            "grid",
            "smart-grid",
            "Grid",
            "Charge requests, and the substations that charge them.",
            {
                "Now": load.now(),
                "Substations": load.substations(),
                "What can be used": load.operated(),
                "Requests": flow.requests(),
            },
            (substation,),
        ),
        Board(
            "services",
            "smart-grid-services",
            "Services",
            "The services behind the grid: objectives, the api, queues, health.",
            {
                "Objectives": health.objectives(),
                "Api": flow.api(),
                "Queues": flow.queues(),
                "Health": health.health(),
            },
            (job, substation),
        ),
    )


def build(board: Board) -> Dashboard:
    """Return a dashboard: rows of panels, laid out by the builder, numbered in their order."""
    builder = (
        builders.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG, "ev-charging", "rabbitmq"])
        .time("now-15m", "now")
        .refresh("5s")  # the shortest that Grafana allows unless told otherwise
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .variables([_source(), *(_choice(*each) for each in board.variables), *_addresses()])
    )
    for link in _links():
        builder = builder.link(link)
    for title, panels in board.rows.items():
        builder = builder.with_row(builders.Row(title))
        for panel in panels:
            builder = builder.with_panel(panel)
    built = builder.build()
    built.annotations = AnnotationContainer(list_val=list(_annotations()))
    return _numbered(built)


def as_json(board: Dashboard) -> str:
    """Return the text of the dashboard's file; the same dashboard always has the same text."""
    text = json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
    return text + "\n"


def main() -> None:
    """Write the dashboards' files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for board in boards():
        board.file.write_text(as_json(build(board)), encoding="utf-8")


def _source() -> builders.DatasourceVariable:
    default = VariableOption(text="Prometheus", value="prometheus")
    variable = builders.DatasourceVariable("datasource").label("Data source").type("prometheus")
    return variable.current(default)


def _choice(name: str, label: str, query: str) -> builders.QueryVariable:
    """Return a variable for some or all of what a query finds."""
    return (
        builders.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(DATASOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)  # noqa: FBT003  # the builder's own signature
        .include_all(True)  # noqa: FBT003
        .all_value(ALL)
        .current(VariableOption(text="All", value="$__all"))
    )


def _addresses() -> list[builders.ConstantVariable]:
    """Return what a dashboard that is imported elsewhere is asked for."""
    return [
        builders.ConstantVariable("page").label("Address of the page").value(PAGE),
        builders.ConstantVariable("runbook").label("Address of the runbook").value(RUNBOOK),
    ]


def _links() -> list[builders.DashboardLink]:
    def link(title: str) -> builders.DashboardLink:
        return builders.DashboardLink(title).target_blank(True)  # noqa: FBT003

    kind = DashboardLinkType
    return [
        link("Dashboards").type(kind.DASHBOARDS).tags([TAG]).keep_time(True),  # noqa: FBT003
        link("Page").type(kind.LINK).icon("external link").url("${page}"),
        link("Runbook").type(kind.LINK).icon("doc").url("${runbook}"),
    ]


def _annotations() -> list[Annotation]:
    drained = of_substations("dispatcher_substation_drained")
    ejected = of_substations("dispatcher_substation_ejected")
    return [
        Annotation(
            "Drain", "blue", f"max by (substation) ({drained}) == 1", "{{substation}} is drained"
        ),
        Annotation(
            "Ejection",
            "orange",
            f"max by (substation) ({ejected}) == 1",
            "{{substation}} is ejected",
        ),
        Annotation(
            "Failover",
            "purple",
            "sum by (instance) (increase(dispatcher_takeovers_total[30s])) > 0"
            # one that starts again counts from its start
            " or sum by (instance) "
            '(changes(process_start_time_seconds{job="dispatcher"}[30s])) > 0',
            "The dispatcher at {{instance}} takes over",
        ),
    ]


def _numbered(board: Dashboard) -> Dashboard:
    for number, panel in enumerate(board.panels or (), start=1):
        panel.id_val = number
    return board


if __name__ == "__main__":
    main()
