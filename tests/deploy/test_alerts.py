"""The rules of Prometheus, what each alert says, and the runbook that they link."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from grid.topology import REQUESTS_MAX_LENGTH
from tests.deploy import alert_rules
from tests.deploy.promtool import run

RUNBOOK = Path(__file__).parents[2] / alert_rules.RUNBOOK
RULES = [rule for group in alert_rules.groups() for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
PARTS = ("Symptom", "Confirm", "Do", "Over when")
LINK = "{{ $externalLabels.runbook }}#"
CALLED = re.compile(r'(?:query|printf) "((?:[^"\\]|\\.)*)"')


def sections() -> dict[str, str]:
    """Return the runbook's sections of alerts, by name."""
    text = RUNBOOK.read_text(encoding="utf-8")
    found = re.findall(r"^### (\w+)$\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(dict(found)) == len(found), "a section stands there twice"
    return dict(found)


@pytest.mark.parametrize("name", alert_rules.FILES)
def test_rules_are_valid(promtool: str, name: str) -> None:
    """Prometheus accepts each file of rules, and the templates in it."""
    run(promtool, "check", "rules", str(alert_rules.RULES / name))


@pytest.mark.parametrize("length", [False, True], ids=["short", "long"])
def test_alerts_fire_exactly_as_expected(promtool: str, tmp_path: Path, length: bool) -> None:  # noqa: FBT001
    """On the series of each case exactly the alerts that are expected fire, and none early."""
    file = tmp_path / "cases.yml"
    file.write_text(yaml.safe_dump([*alert_rules.as_promtool()][length], width=1000))
    run(promtool, "test", "rules", str(file))


def test_every_alert_fires_in_some_case() -> None:
    """Every alert fires in one of the cases, with each of its severities, or always."""
    fired = {(each.name, each.severity) for each in alert_rules.fired()}
    always = {(alert_rules.ALWAYS, "none")}
    assert fired | always == {(rule["alert"], rule["labels"]["severity"]) for rule in ALERTS}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert_says_what_is_wrong_since_when_and_with_which_figure(rule: dict[str, Any]) -> None:
    """And it links the section of the runbook that says what to do."""
    name, said = rule["alert"], rule["annotations"]
    assert rule["labels"]["severity"] in {"warning", "critical", "none"}
    assert set(said) == {"summary", "description", "runbook_url"}
    assert len(re.sub(r"\{\{.*?\}\}", "", said["summary"])) < 80
    assert said["description"].startswith(("Since {{ with ", "In the 10 minutes before {{ with "))
    assert f"ALERTS_FOR_STATE{{alertname='{name}'" in said["description"]
    _, _, rest = said["description"].partition("{{ end }}")
    assert "$value" in rest or "query" in rest, "it has no figure"
    assert said["runbook_url"] == LINK + name.lower()


def test_queries_in_annotations_parse(promtool: str, tmp_path: Path) -> None:
    """They are templates, so that Prometheus itself would find a mistake only when they fire."""
    texts = [text for rule in ALERTS for text in rule["annotations"].values()]
    found = {each for text in texts for each in CALLED.findall(text) if "%." not in each}
    rules = [
        {"record": f"said:{n}", "expr": each.replace("%s", "x")} for n, each in enumerate(found)
    ]
    assert len(rules) > len(ALERTS)
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "said", "rules": rules}]}))
    run(promtool, "check", "rules", str(file))


def test_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    """Whoever follows a link finds its section, and no section is of an alert that is gone."""
    assert set(sections()) == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("name", sections())
def test_runbook_says_how_to_confirm_what_to_do_and_when_it_is_over(name: str) -> None:
    """Each section has the same parts, and the commands that confirm."""
    text = sections()[name]
    found = re.findall(r"^\*\*([A-Z][\w ]*)\.\*\* (.*?)(?=^\*\*[A-Z]|\Z)", text, re.M | re.S)
    assert tuple(part for part, _ in found) == PARTS
    assert all(content.strip() for _, content in found)
    assert "```bash\n" in dict(found)["Confirm"], "no command confirms it"


def test_prometheus_is_configured_with_the_runbook_and_all_rules() -> None:
    """Every alert's link begins with this label."""
    config = yaml.safe_load((alert_rules.RULES / "prometheus.yml").read_text(encoding="utf-8"))
    assert config["global"]["external_labels"] == {"runbook": alert_rules.RUNBOOK}
    assert tuple(config["rule_files"]) == alert_rules.FILES


def test_fullness_alerts_use_the_declared_limit() -> None:
    """One fires at four fifths of the limit that the queue is declared with, the other at it."""
    rules = {rule["alert"]: rule for rule in ALERTS}
    nearly, full = rules["RequestsQueueNearlyFull"], rules["RequestsQueueFull"]
    limit = REQUESTS_MAX_LENGTH
    assert nearly["expr"].endswith(f"> {limit * 4 // 5} < {limit}")
    assert full["expr"].endswith(f">= {limit}")
    assert all(f" {limit} " in each["annotations"]["description"] for each in (nearly, full))


def test_alertmanager_example_sends_each_severity_to_a_receiver_of_its_own() -> None:
    """And no secret stands in it."""
    text = (alert_rules.RULES / "alertmanager.example.yml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    receivers = [each["name"] for each in config["receivers"]]
    root = config["route"]
    used = [root["receiver"], *(each["receiver"] for each in root["routes"])]
    assert sorted(used) == sorted(receivers)
    matchers = [each["matchers"] for each in root["routes"]]
    assert matchers == [['severity="critical"'], [f'alertname="{alert_rules.ALWAYS}"']]
    assert not re.search(r"(password|url|secret|token): ", text)
