"""What tests ask of the dashboards and the rules: their queries, and whether Prometheus has data.

``queries_without_data(url)`` names every panel's query that a Prometheus at ``url`` answers with
nothing. Ask it once the services have handled some requests and Prometheus has scraped them a few
times; rates look back 10 s (``RATE_WINDOW``), latencies a minute. Ask again until it is empty or
time is up.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from deploy.grafana import dashboard
from tests.deploy import alert_rules

RATE_WINDOW: Final = "10s"  # at least four scrapes, which are 2 s apart
CHOICES: Final = ("$substation", "$job")
SCRAPES_IN_WINDOW: Final = 4  # Grafana's factor for a query with a step of its own

_NAME: Final = re.compile(r"(?<![\w:])(?:up|(?:ev_charging|dispatcher|api|grid|rabbitmq)_\w+)\b")


def committed() -> dict[str, dict[str, Any]]:
    """Return the committed dashboards by name, as Grafana reads them."""
    return {
        board.name: json.loads(board.file.read_text(encoding="utf-8"))
        for board in dashboard.boards()
    }


def panels(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every panel of a dashboard's JSON, rows and the panels folded into them included."""
    for panel in content["panels"]:
        yield panel
        yield from panel.get("panels", ())


def panel_queries(
    content: Mapping[str, Any], rate_window: str = RATE_WINDOW
) -> list[tuple[str, str]]:
    """Return (panel's title, PromQL) for every query, with Grafana's variables replaced.

    ``$__rate_interval`` becomes ``rate_window``, or four steps where the query has a step of its
    own, as Grafana does; all jobs and substations are chosen. Raise ``AssertionError`` for an
    unknown variable.
    """
    return [
        (panel["title"], _filled(target, rate_window))
        for panel in panels(content)
        for target in panel.get("targets", ())
    ]


def metric_names(expression: str) -> set[str]:
    """Return the names of the project's and RabbitMQ's metrics that a PromQL expression reads."""
    return set(_NAME.findall(re.sub(r'"[^"]*"', '""', expression)))


def annotation_queries(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (name, PromQL) of a dashboard's annotations, with Grafana's variables replaced."""
    found = content["annotations"]["list"]
    return [(each["name"], _filled({"expr": each["expr"]}, RATE_WINDOW)) for each in found]


def exemplar_queries(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (title, PromQL) of each query that is drawn with exemplars."""
    return [
        (panel["title"], _filled(target, RATE_WINDOW))
        for panel in panels(content)
        for target in panel.get("targets", ())
        if target.get("exemplar")
    ]


def traces_named(url: str, expression: str) -> set[str]:
    """Return the traces that a query's exemplars name, as Prometheus at ``url`` has kept them."""
    asked = {"query": expression, "start": "0", "end": str(time.time() + 60)}
    found = _get(url, "query_exemplars", asked)
    return {each["labels"]["trace_id"] for series in found for each in series["exemplars"]}


def queries_without_data(url: str) -> list[str]:
    """Name the panels' queries that Prometheus at ``url`` answers with no series, or with NaN."""
    return [
        f"{title}: {expression}"
        for content in committed().values()
        for title, expression in panel_queries(content)
        if not any(_is_number(series) for series in ask(url, expression))
    ]


def queries_with_nan(url: str) -> list[str]:
    """Name the queries of panels and annotations that Prometheus at ``url`` answers with a NaN."""
    return [
        f"{title}: {expression}"
        for content in committed().values()
        for title, expression in [*panel_queries(content), *annotation_queries(content)]
        if not all(_is_number(series) for series in ask(url, expression))
    ]


def rules_without_data(url: str) -> list[str]:
    """Name the metrics that rules read and Prometheus at ``url`` does not have.

    An alert on a metric that nobody exports would stay silent for ever.
    """
    rules = (rule for group in alert_rules.groups() for rule in group["rules"])
    names = set[str]().union(*(metric_names(rule["expr"]) for rule in rules))
    return sorted(name for name in names if not ask(url, name))


def ask(url: str, expression: str) -> list[dict[str, Any]]:
    """Return the series that Prometheus at ``url`` (``http://host:port``) has at this moment."""
    result: list[dict[str, Any]] = _get(url, "query", {"query": expression})["result"]
    return result


def _get(url: str, what: str, asked: Mapping[str, str]) -> Any:  # noqa: ANN401  # JSON
    direct = build_opener(ProxyHandler({}))  # without the proxies that the environment may name
    with direct.open(f"{url}/api/v1/{what}?{urlencode(asked)}", timeout=10) as response:
        return json.load(response)["data"]


def _is_number(series: Mapping[str, Any]) -> bool:
    return not math.isnan(float(series["value"][1]))


def _filled(target: Mapping[str, Any], rate_window: str) -> str:
    step = target.get("interval")
    window = f"{int(step.removesuffix('s')) * SCRAPES_IN_WINDOW}s" if step else rate_window
    expression: str = target["expr"].replace("$__rate_interval", window)
    for variable in CHOICES:
        expression = expression.replace(variable, dashboard.ALL)
    assert "$" not in expression, f"a variable that the tests cannot fill in: {expression}"
    return expression
