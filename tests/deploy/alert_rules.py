"""The rules of Prometheus, and the cases of its alerts as files for `promtool test rules`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.alert_cases import CASES
from tests.deploy.alert_series import HEALTHY, Case, Firing, Said

STEP: Final = "15s"
LONG_STEP: Final = "1m"
RULES: Final = Path(__file__).parents[2] / "deploy" / "prometheus"
FILES: Final = ("rules.yml", "alerts.yml")
ALWAYS: Final = "Watchdog"
RUNBOOK: Final = "docs/runbook.md"


def groups() -> list[dict[str, Any]]:
    """Return the groups of rules, in the order in which one uses another's."""
    texts = ((RULES / name).read_text(encoding="utf-8") for name in FILES)
    return [group for text in texts for group in yaml.safe_load(text)["groups"]]


def as_promtool() -> Iterator[dict[str, Any]]:
    """Yield files for promtool; in that of the long cases the rules are evaluated less often."""
    for interval, is_long in ((STEP, False), (LONG_STEP, True)):
        yield {
            "rule_files": [str(RULES / name) for name in FILES],
            "evaluation_interval": interval,
            "group_eval_order": [each["name"] for each in groups()],  # else it is random
            "tests": [_test(case) for case in CASES if case.is_long is is_long],
        }


def _test(case: Case) -> dict[str, Any]:
    series = {**HEALTHY, **case.series}
    asked = f'ALERTS{{alertstate="firing", alertname!="{ALWAYS}"}}'
    return {
        "name": case.name,
        "interval": STEP,
        "external_labels": {"runbook": RUNBOOK},
        "input_series": [
            {"series": name, "values": values}
            for name, values in series.items()
            if values is not None
        ],
        "promql_expr_test": [
            {
                "expr": asked,
                "eval_time": time,
                "exp_samples": [{"labels": each.series(), "value": 1} for each in firing],
            }
            for time, firing in case.fires.items()
        ],
        "alert_rule_test": [
            {
                "alertname": name,
                "eval_time": time,
                "exp_alerts": [
                    _alert(each, said) for each in case.fires[time] if each.name == name
                ],
            }
            for (name, time), said in case.says.items()
        ],
    }


def _alert(firing: Firing, said: Said) -> dict[str, Any]:
    return {
        "exp_labels": {"severity": firing.severity, **dict(firing.labels)},
        "exp_annotations": {**said._asdict(), "runbook_url": f"{RUNBOOK}#{firing.name.lower()}"},
    }


def fired() -> Iterator[Firing]:
    """Yield every alert that fires in some case."""
    for case in CASES:
        for firing in case.fires.values():
            yield from firing
