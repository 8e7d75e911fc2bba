"""The checks before the stack is reported as running, besides every program's own readiness.

Prometheus scrapes everything and has the rules, and every substation is eligible. A request is sent
through all of it after that: see ``trial.py``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from deploy import pages
from deploy.pages import NoAnswer

RULES_FILES: Final[tuple[str, ...]] = ("alerts.yml", "rules.yml")
# jobs of prometheus.yml: of one target each, named as the services are, and of one for each node
SINGLE_JOBS: Final[tuple[str, ...]] = ("api", "dispatcher", "prometheus")
BROKER_JOBS: Final[tuple[str, ...]] = ("rabbitmq", "rabbitmq-queues")
SUBSTATION_JOB: Final = "substation"
_SAMPLE: Final = re.compile(
    r'^dispatcher_substation_(eligible|drained)\{substation="([^"]*)"\} (\S+)$', re.MULTILINE
)


def prometheus(url: str, jobs: Mapping[str, int], substations: Collection[str]) -> str | None:
    """Return what Prometheus does not have yet; None if it has all.

    Args:
        url: of Prometheus.
        jobs: how many targets each scrape job must have that are up.
        substations: those whose target must be up.
    """
    try:
        targets = pages.ask_json(f"{url}/api/v1/targets?state=active")["data"]["activeTargets"]
        groups = pages.ask_json(f"{url}/api/v1/rules")["data"]["groups"]
        return _targets_problem(targets, jobs, substations) or _rules_problem(groups)
    except NoAnswer as error:
        return str(error)
    except (LookupError, TypeError, AttributeError):
        return f"{url}: another program than Prometheus answers there"


def _targets_problem(
    targets: list[Any], jobs: Mapping[str, int], substations: Collection[str]
) -> str | None:
    wanted: dict[tuple[str, str | None], int] = {(job, None): n for job, n in jobs.items()}
    wanted |= {(SUBSTATION_JOB, name): 1 for name in substations}
    for (job, substation), count in wanted.items():
        found = [
            each
            for each in targets
            if each["labels"]["job"] == job
            and (substation is None or each["labels"].get("substation") == substation)
        ]
        name = f"{job} {substation}" if substation else job
        for each in found:
            if each["health"] != "up":
                why = each["lastError"] or "not scraped yet"
                return f"its target {name} ({each['scrapeUrl']}) is {each['health']}: {why}"
        if len(found) < count:
            return f"it has {len(found)} of {count} targets of {name}: see its log"
    return None


def _rules_problem(groups: list[Any]) -> str | None:
    ours = [each for each in groups if each["file"].endswith(RULES_FILES)]
    for name in RULES_FILES:
        if not any(each["file"].endswith(name) for each in ours):
            return f"it has not loaded the rules of {name}"
    for rule in (rule for group in ours for rule in group["rules"]):
        if rule["health"] == "err":
            return f"its rule {rule['name']} fails: {rule.get('lastError')}"
    return None


def ineligible(
    metrics_url: str, substations: Collection[str], api_url: str, key: str | None
) -> dict[str, str]:
    """Return why each substation is not eligible; one that an operator drains is left out.

    The dispatcher's own page is asked, not the api's ``/substations``, which shows the last run's
    substations until the dispatcher has written its first snapshot. Only the reasons come from
    there.

    Args:
        metrics_url: of the dispatcher.
        substations: those that run here.
        api_url: of the api.
        key: of the api, if it needs one.
    """
    try:
        status, content = pages.ask(metrics_url)
    except NoAnswer as error:
        return {"dispatcher": str(error)}
    if status != pages.OK:
        return {"dispatcher": f"{metrics_url}: {status}"}
    figures = {(what, name): float(value) for what, name, value in _SAMPLE.findall(content)}
    found = [
        name
        for name in substations
        if figures.get(("eligible", name)) != 1 and figures.get(("drained", name)) != 1
    ]
    reasons = _reasons(api_url, key) if found else {}
    return {
        name: f"the dispatcher does not use it: {reasons.get(name) or 'no reason given yet'}"
        for name in found
    }


def _reasons(api_url: str, key: str | None) -> dict[str, str | None]:
    try:
        rows = pages.ask_json(f"{api_url}/substations", key)["substations"]
        return {row["id"]: row["reason"] for row in rows}
    except (NoAnswer, LookupError, TypeError):
        return {}
