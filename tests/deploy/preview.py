"""``python -m tests.deploy.preview FOLDER``: draw the dashboards, as a preview without Grafana.

It takes the committed dashboards, asks a Prometheus for the data of each panel as Grafana would,
and draws them with uPlot in a headless Chromium. It shows whether the panels say something, not how
Grafana looks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from playwright.async_api import Browser

from deploy.grafana.panels import LIMIT
from tests.deploy import dashboards
from tests.page.browser import chromium

UPLOT: Final = Path(__file__).parents[2] / "api" / "page" / "uplot"
SCRIPT: Final = Path(__file__).with_suffix(".js")
POINTS: Final = 240
LEAST_STEP: Final = 2  # seconds: Prometheus reads the pages that often
WIDTH: Final = 1600
STYLE: Final = """
body {margin: 0; background: #111217; color: #d8d9da; font: 13px sans-serif}
main {padding: 12px 20px} h1 {font-size: 17px; color: #ff9830} .grid {position: relative}
section {position: absolute; overflow: hidden; background: #181b1f; border: 1px solid #2c3235}
section.row {background: none; border: none} section.row h2 {font-size: 15px}
h2 {font-size: 13px; margin: 5px 8px}
.number {font-size: 32px; text-align: center; margin-top: 26px}
.line {display: flex; gap: 8px; padding: 3px 8px} .name {width: 31%; overflow: hidden;
white-space: nowrap; font-size: 11px} .bar {flex: 1; display: flex; height: 14px} .bar i {flex: 1}
.legend {display: flex; flex-wrap: wrap; gap: 2px 12px; padding: 0 8px; font-size: 11px}
"""


def board_of(content: Mapping[str, Any], url: str, minutes: float, now: float) -> dict[str, Any]:
    """Return a dashboard with the data of the last ``minutes``, ready to be drawn.

    Args:
        content: the dashboard's JSON.
        url: of Prometheus.
        minutes: how far back it goes.
        now: the end, in Unix seconds.
    """
    step = max(LEAST_STEP, math.ceil(minutes * 60 / POINTS))
    end = now // step * step
    times = [end - step * each for each in reversed(range(int(minutes * 60 // step)))]

    def ask(expression: str) -> list[dict[str, Any]]:
        query = {"query": expression, "start": times[0], "end": times[-1], "step": step}
        direct = build_opener(ProxyHandler({}))  # without the proxies that the environment may name
        with direct.open(f"{url}/api/v1/query_range?{urlencode(query)}", timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    marks = [
        {
            "name": each["name"],
            "color": each["iconColor"],
            "times": sorted({at for series in ask(expression) for at, _ in series["values"]}),
        }
        for each, (_, expression) in zip(
            content["annotations"]["list"], dashboards.annotation_queries(content), strict=True
        )
    ]
    panels = []
    for panel in dashboards.panels(content):
        queries = dashboards.panel_queries({"panels": [panel]})
        series = [
            _series(found, target.get("legendFormat", ""), times)
            for target, (_, expression) in zip(panel.get("targets", ()), queries, strict=True)
            for found in ask(expression)
        ]
        panels.append(_panel(panel, series))
    return {
        "title": content["title"],
        "times": times,
        "step": step,
        "marks": marks,
        "panels": panels,
    }


def page_of_board(board: Mapping[str, Any]) -> str:
    """Return a page that draws a dashboard, and needs nothing else."""
    data = json.dumps(board).replace("<", "\\u003c")
    uplot = (UPLOT / "uPlot.esm.js").read_text(encoding="utf-8")
    # in a block: uPlot has names of its own
    script = f"{uplot}\n{{\nconst board = {data};\n{SCRIPT.read_text(encoding='utf-8')}\n}}"
    style = (UPLOT / "uPlot.min.css").read_text(encoding="utf-8") + STYLE
    return (
        f"<!doctype html><meta charset=utf-8><style>{style}</style><body><main></main>"
        f'<script type="module">{script}</script>'
    )


async def draw(browser: Browser, board: Mapping[str, Any], file: Path) -> None:
    """Save the picture of a dashboard. Raise ``AssertionError`` if it cannot be drawn."""
    page = await browser.new_page(viewport={"width": WIDTH, "height": 900})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    await page.set_content(page_of_board(board))
    await page.wait_for_timeout(500)
    assert problems == []
    assert await page.evaluate("document.body.dataset.drawn") == "yes"
    await page.screenshot(path=file, full_page=True)
    await page.close()


async def draw_all(url: str, folder: Path, minutes: float) -> list[Path]:
    """Draw all dashboards by the data of Prometheus at ``url``; return the files.

    The folder must be there.
    """
    files = []
    async with chromium() as browser:
        for name, content in dashboards.committed().items():
            board = board_of(content, url, minutes, time.time())
            files.append(folder / f"dashboard-{name}-preview.png")
            await draw(browser, board, files[-1])
    return files


def _series(found: Mapping[str, Any], legend: str, times: Iterable[float]) -> dict[str, Any]:
    values = {at: float(value) for at, value in found["values"]}
    labels = found["metric"]
    name = re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend)
    finite = (values.get(at) for at in times)
    return {
        "name": name,
        "values": [None if each is None or not math.isfinite(each) else each for each in finite],
    }


def _panel(panel: Mapping[str, Any], series: list[dict[str, Any]]) -> dict[str, Any]:
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    custom, steps = defaults.get("custom", {}), defaults.get("thresholds", {}).get("steps", [])
    mappings = [each["options"] for each in defaults.get("mappings", ())]
    limits = [each["value"] for each in steps if each["value"] is not None]
    return {
        "type": panel["type"],
        "title": panel["title"],
        "at": panel["gridPos"],
        "unit": defaults.get("unit", "short"),
        "steps": steps,
        "words": [mappings[0][key]["text"] for key in ("0", "1")] if mappings else [],
        "limit": limits[0] if limits and panel["type"] == "timeseries" else None,
        "stacked": custom.get("stacking", {}).get("mode") == "normal",
        # limits last: what is stacked is stacked without them
        "series": sorted(series, key=lambda each: each["name"].startswith(LIMIT)),
    }


def main() -> None:
    """Draw the dashboards into a folder."""
    parser = argparse.ArgumentParser(description="draw the dashboards, as a preview")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--prometheus", default="http://localhost:9090", help="its address")
    parser.add_argument("--minutes", type=float, default=15, help="how far back")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for file in asyncio.run(draw_all(given.prometheus.rstrip("/"), given.folder, given.minutes)):
        print(file)  # noqa: T201


if __name__ == "__main__":
    main()
