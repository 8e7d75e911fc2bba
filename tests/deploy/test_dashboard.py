"""The dashboard and its provisioning, as far as they can be checked statically."""

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
from tests.deploy import dashboards
from tests.deploy.promtool import run

GRAFANA = Path(dashboard.__file__).parent


def test_committed_dashboard_is_the_generators_output() -> None:
    """The committed JSON is the generator's, to the byte: `python -m deploy.grafana.dashboard`."""
    assert dashboard.TARGET.read_text(encoding="utf-8") == dashboard.as_json(dashboard.build())


def test_dashboard_keeps_to_the_schema() -> None:
    """Grafana's model of a dashboard reads the JSON back with nothing lost or added."""
    content = dashboards.committed()
    assert json.loads(dashboard.as_json(Dashboard.from_json(content))) == content


def test_dashboard_panels_do_not_overlap() -> None:
    """No two panels share a cell of the grid, and none reaches beyond its 24 columns."""
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboards.panels(dashboards.committed()):
        at = panel["gridPos"]
        columns, rows = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        assert columns.stop <= 24, panel["title"]
        for cell in itertools.product(columns, rows):
            assert taken.setdefault(cell, panel["title"]) == panel["title"]


def test_dashboard_rows_have_no_holes() -> None:
    """The panels of each row fill its width, so that no hole is left."""
    across: dict[int, int] = {}
    for panel in dashboards.panels(dashboards.committed()):
        at = panel["gridPos"]
        across[at["y"]] = across.get(at["y"], 0) + at["w"]
    assert set(across.values()) == {24}


def test_dashboard_panels_have_title_description_and_query() -> None:
    """Every panel has a title of its own, a number of its own, a description and a query."""
    panels = list(dashboards.panels(dashboards.committed()))
    assert (
        len({panel["title"] for panel in panels}) == len({p["id"] for p in panels}) == len(panels)
    )
    for panel in panels:
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
            assert panel["targets"], panel["title"]


def test_dashboard_queries_use_the_provisioned_data_source() -> None:
    """Panels and queries name the data source that is provisioned, so the board works at once."""
    path = GRAFANA / "provisioning" / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]
    named = {"type": source["type"], "uid": source["uid"]}
    for panel in dashboards.panels(dashboards.committed()):
        asked = [panel["datasource"]] if "datasource" in panel else []
        for reference in asked + [target["datasource"] for target in panel.get("targets", ())]:
            assert reference == named, panel["title"]


def test_provisioning_uses_plain_environment_variables() -> None:
    """Containers and processes differ only in environment variables, referenced by plain name.

    Grafana knows no default in ``${NAME:-default}``: it would look for a variable of that name.
    """
    files = sorted((GRAFANA / "provisioning").rglob("*.yml"))
    settings = [re.sub(r"#.*", "", file.read_text(encoding="utf-8")) for file in files]
    found = {name for text in settings for name in re.findall(r"\$\{([^}]*)\}", text)}
    assert found == {"GRAFANA_DASHBOARDS", "PROMETHEUS_URL"}


def test_dashboard_queries_parse_in_prometheus(promtool: str, tmp_path: Path) -> None:
    """Prometheus's own parser accepts every query of the dashboard."""
    queries = dashboards.panel_queries(dashboards.committed())
    rules = [{"record": f"panel:{n}", "expr": query} for n, (_, query) in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    run(promtool, "check", "rules", str(file))


def test_metric_names_of_an_expression_are_found() -> None:
    """The metrics of an expression are found; names in label values are not taken for them."""
    expression = 'sum by (queue) (rabbitmq_queues{queue="api_x"}) > 0 and on () up == 0'
    assert dashboards.metric_names(expression) == {"rabbitmq_queues", "up"}


@pytest.mark.parametrize("answer", [[], [{"metric": {}, "value": [0, "NaN"]}]])
def test_query_without_data_is_reported(
    monkeypatch: pytest.MonkeyPatch, answer: list[dict[str, Any]]
) -> None:
    """A query without series, or with nothing but NaN, counts as one without data."""
    monkeypatch.setattr(dashboards, "ask", lambda _url, _expression: answer)
    content = dashboards.committed()
    found = dashboards.queries_without_data("http://nowhere", content)
    assert len(found) == len(dashboards.panel_queries(content)) > 30
