"""The dashboard "Smart grid dispatcher", and the program that writes its JSON.

``python -m deploy.grafana.dashboard`` writes ``dashboards/smart-grid.json``, which Grafana reads.
Every query of it has a result while the system runs: the tests ask a running Prometheus.
A gauge that several dispatchers or apis export is counted once, by ``max``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard, DashboardCursorSync

from deploy.grafana import flow, health, load

TARGET: Final = Path(__file__).parent / "dashboards" / "smart-grid.json"


def build() -> Dashboard:
    """Return the dashboard: rows of panels, laid out by the builder, numbered in their order."""
    board = (
        builders.Dashboard("Smart grid dispatcher")
        .uid("smart-grid")
        .description("Charge requests, the substations that charge them, and what lies between.")
        .tags(["ev-charging", "rabbitmq"])
        .time("now-15m", "now")
        .refresh("5s")  # the shortest that Grafana allows unless told otherwise
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    rows = {
        "Now": load.now(),
        "Substations": load.substations(),
        "Requests": flow.requests(),
        "Queues": flow.queues(),
        "Health": health.health(),
    }
    for title, panels in rows.items():
        board = board.with_row(builders.Row(title))
        for panel in panels:
            board = board.with_panel(panel)
    return _numbered(board.build())


def as_json(board: Dashboard) -> str:
    """Return the text of the dashboard's file; the same dashboard always has the same text."""
    text = json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
    return text + "\n"


def main() -> None:
    """Write the dashboard's file."""
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(as_json(build()), encoding="utf-8")


def _numbered(board: Dashboard) -> Dashboard:
    for number, panel in enumerate(board.panels or (), start=1):
        panel.id_val = number
    return board


if __name__ == "__main__":
    main()
