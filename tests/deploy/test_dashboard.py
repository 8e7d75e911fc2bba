"""The dashboards and their provisioning, as far as they can be checked statically."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana import dashboard
from deploy.grafana.dashboard import Board
from tests.deploy import dashboards
from tests.deploy.promtool import run

GRAFANA = Path(dashboard.__file__).parent


@pytest.fixture(params=dashboards.committed())
def content(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return each of the committed dashboards."""
    return dashboards.committed()[request.param]


@pytest.mark.parametrize("board", dashboard.boards(), ids=lambda board: board.name)
def test_committed_dashboard_is_the_generators_output(board: Board) -> None:
    """The committed JSON is the generator's, to the byte: `python -m deploy.grafana.dashboard`."""
    text = board.file.read_text(encoding="utf-8")
    assert text == dashboard.as_json(dashboard.build(board))


def test_no_other_dashboard_is_committed() -> None:
    """Grafana shows every file of the folder."""
    files = {board.file for board in dashboard.boards()}
    assert {*dashboard.FOLDER.iterdir()} == files


def test_dashboard_keeps_to_the_schema(content: dict[str, Any]) -> None:
    """Grafana's model of a dashboard reads the JSON back with nothing lost or added.

    But for two fields of annotations, which only the Prometheus data source knows.
    """
    for each in content["annotations"]["list"]:
        assert (each.pop("step"), each.pop("titleFormat") != "") == ("10s", True)
    assert json.loads(dashboard.as_json(Dashboard.from_json(content))) == content


def test_dashboard_panels_do_not_overlap(content: dict[str, Any]) -> None:
    """No two panels share a cell of the grid, and none reaches beyond its 24 columns."""
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboards.panels(content):
        at = panel["gridPos"]
        columns, rows = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        assert columns.stop <= 24, panel["title"]
        for cell in itertools.product(columns, rows):
            assert taken.setdefault(cell, panel["title"]) == panel["title"]


def test_dashboard_rows_have_no_holes(content: dict[str, Any]) -> None:
    """The panels of each row fill its width, so that no hole is left."""
    across: dict[int, int] = {}
    for panel in dashboards.panels(content):
        at = panel["gridPos"]
        across[at["y"]] = across.get(at["y"], 0) + at["w"]
    assert set(across.values()) == {24}


def test_dashboard_panels_have_title_description_and_query(content: dict[str, Any]) -> None:
    """Every panel has a title of its own, a number of its own, a description and a query."""
    panels = list(dashboards.panels(content))
    assert (
        len({panel["title"] for panel in panels}) == len({p["id"] for p in panels}) == len(panels)
    )
    for panel in panels:
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
            assert panel["targets"], panel["title"]


def test_lines_of_histograms_have_exemplars(content: dict[str, Any]) -> None:
    """Once each: the lines of one panel would draw the same points on each other."""
    for panel in dashboards.panels(content):
        if panel["type"] == "timeseries":
            queries = [each for each in panel["targets"] if "_bucket[" in each["expr"]]
            assert sum(each.get("exemplar", False) for each in queries) == bool(queries)


def test_dashboard_queries_use_the_data_source_that_is_chosen(content: dict[str, Any]) -> None:
    """So that the dashboard can be imported where the data source has another name."""
    named = {"type": "prometheus", "uid": "${datasource}"}
    found = [
        *content["annotations"]["list"],
        *(each for each in content["templating"]["list"] if each["type"] == "query"),
    ]
    for panel in dashboards.panels(content):
        found += [panel] if "datasource" in panel else []
        found += panel.get("targets", ())
    assert all(each["datasource"] == named for each in found)
    assert len(found) > 20


def test_dashboard_begins_with_the_provisioned_data_source(content: dict[str, Any]) -> None:
    """So that the dashboards work at once where `make up` runs Grafana."""
    path = GRAFANA / "provisioning" / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]
    chosen = content["templating"]["list"][0]
    assert (chosen["name"], chosen["type"]) == ("datasource", "datasource")
    assert chosen["query"] == source["type"]
    assert chosen["current"] == {"text": source["name"], "value": source["uid"]}


def test_dashboard_chooses_jobs_and_substations_and_asks_for_addresses(
    content: dict[str, Any],
) -> None:
    """All of them are chosen at first; each that a query names is there."""
    variables = {each["name"]: each for each in content["templating"]["list"]}
    text = json.dumps([content["panels"], content["annotations"], content["links"]])
    used = set(re.findall(r"\$\{?([a-z]\w*)", text))
    assert used == variables.keys()
    assert {"substation", "page", "runbook"} <= used
    for each in variables.values():
        if each["type"] == "query":
            assert each["current"]["value"] == "$__all"
            assert (each["includeAll"], each["multi"], each["allValue"]) == (True, True, ".+")


def test_dashboard_shows_drains_ejections_and_failovers_and_links_page_and_runbook(
    content: dict[str, Any],
) -> None:
    """As regions over all graphs; and the other dashboard is one click away."""
    annotations = [each["name"] for each in content["annotations"]["list"]]
    assert annotations == ["Drain", "Ejection", "Failover"]
    links = {each["title"]: each for each in content["links"]}
    assert links["Page"]["url"] == "${page}"
    assert links["Runbook"]["url"] == "${runbook}"
    assert set(links["Dashboards"]["tags"]) <= set(content["tags"])


def test_provisioning_uses_plain_environment_variables() -> None:
    """Containers and processes differ only in environment variables, referenced by plain name.

    Grafana knows no default in ``${NAME:-default}``: it would look for a variable of that name.
    """
    files = sorted((GRAFANA / "provisioning").rglob("*.yml"))
    settings = [re.sub(r"#.*", "", file.read_text(encoding="utf-8")) for file in files]
    found = {name for text in settings for name in re.findall(r"\$\{([^}]*)\}", text)}
    assert found == {"GRAFANA_DASHBOARDS", "PROMETHEUS_URL"}


def test_dashboard_queries_parse_in_prometheus(
    promtool: str, tmp_path: Path, content: dict[str, Any]
) -> None:
    """Prometheus's own parser accepts every query of the dashboard."""
    queries = dashboards.panel_queries(content) + dashboards.annotation_queries(content)
    rules = [{"record": f"panel:{n}", "expr": query} for n, (_, query) in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    run(promtool, "check", "rules", str(file))


def test_metric_names_of_an_expression_are_found() -> None:
    """The metrics of an expression are found; names in label values are not taken for them."""
    expression = 'sum by (queue) (rabbitmq_queues{queue="api_x"}) > grid:api_y and on () up == 0'
    assert dashboards.metric_names(expression) == {"rabbitmq_queues", "up"}


@pytest.mark.parametrize("answer", [[], [{"metric": {}, "value": [0, "NaN"]}]])
def test_query_without_data_is_reported(
    monkeypatch: pytest.MonkeyPatch, answer: list[dict[str, Any]]
) -> None:
    """A query without series, or with nothing but NaN, counts as one without data."""
    monkeypatch.setattr(dashboards, "ask", lambda _url, _expression: answer)
    found = dashboards.queries_without_data("http://nowhere")
    queries = [
        each for one in dashboards.committed().values() for each in dashboards.panel_queries(one)
    ]
    assert len(found) == len(queries) > 60
    assert bool(dashboards.queries_with_nan("http://nowhere")) == bool(answer)
