"""The preview of the dashboards: what it asks Prometheus, and that every panel is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.deploy import dashboards, preview
from tests.deploy.preview import board_of, draw, page_of_board
from tests.deploy.served import pages
from tests.page.browser import chromium

NOW = 1_700_000_000.0
STEP = 4  # seconds, of 15 minutes
ANSWER: dict[str, Any] = {
    "data": {
        "result": [
            {
                "metric": {"substation": "north", "job": "api", "le": "</script>"},
                "values": [[NOW - 8, "NaN"], [NOW - 4, "0"], [NOW, "1.5"]],
            }
        ]
    }
}


@pytest.fixture(params=dashboards.committed())
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return each dashboard with data."""
    with pages(lambda *_: (200, ANSWER)) as url:
        return board_of(dashboards.committed()[request.param], url, 15, NOW)


def test_preview_has_each_panel_with_its_series(board: dict[str, Any]) -> None:
    """As many values as times; what is no number is a gap."""
    assert len(board["times"]) == 15 * 60 / STEP
    drawn = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert all(panel["series"] for panel in drawn)
    for panel in drawn:
        for series in panel["series"]:
            assert series["values"][-3:] == [None, 0, 1.5]
            assert len(series["values"]) == len(board["times"])
    names = {series["name"] for panel in drawn for series in panel["series"]}
    assert names & {"north", "api "}, "a legend has the labels of its series"
    assert [mark["times"] for mark in board["marks"]] == [[NOW - 8, NOW - 4, NOW]] * 3


@pytest.mark.integration
async def test_preview_draws_every_panel_and_says_that_it_is_one(
    board: dict[str, Any], tmp_path: Path
) -> None:
    """In a browser, without a request to any address; labels of others are no markup."""
    async with chromium() as browser:
        page = await browser.new_page()
        asked: list[str] = []
        page.on("request", lambda each: asked.append(each.url))
        await page.set_content(page_of_board(board))
        await page.wait_for_timeout(300)
        assert asked == []
        assert "a preview, drawn with uPlot; not Grafana" in await page.inner_text("h1")
        graphs = sum(panel["type"] == "timeseries" for panel in board["panels"])
        assert await page.locator("canvas").count() == graphs
        await draw(browser, board, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_preview_is_drawn_into_files_named_by_the_dashboards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command names them."""
    given: list[Any] = []

    async def drawn(url: str, folder: Path, minutes: float) -> list[Path]:
        given.extend([url, folder, minutes])
        return []

    monkeypatch.setattr(preview, "draw_all", drawn)
    monkeypatch.setattr("sys.argv", ["preview", str(tmp_path / "new"), "--minutes", "5"])
    preview.main()
    assert given == ["http://localhost:9090", tmp_path / "new", 5]
    assert (tmp_path / "new").is_dir()
