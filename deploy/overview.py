"""What `make status` shows besides addresses: programs, jobs, drains, alerts, settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from deploy import environment as env
from deploy import pages
from deploy.pages import NoAnswer

JOBS: Final = re.compile(r'^api_jobs\{status="(\w+)"\} (\S+)$', re.MULTILINE)
DRAINED: Final = re.compile(
    r'^dispatcher_substation_drained\{substation="([^"]*)"\} 1(?:\.0)?$', re.MULTILINE
)
# states of jobs that have not ended well or at all, and what the table calls them
SHOWN: Final = {"queued": "wait", "assigned": "assigned", "charging": "charging"}
PARKED: Final = "parked"
CRITICAL: Final = "critical"
NO_SEVERITY: Final = "none"  # of the alert that always fires


@dataclass(frozen=True, slots=True)
class Program:
    """A program or container: its state, its process id, and what keeps it from working."""

    name: str
    state: str
    pid: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Pages:
    """The addresses of what is asked; None for a service that is not to run."""

    api: str | None
    dispatcher: str | None
    prometheus: str | None


class Finding(NamedTuple):
    """One line of what goes on."""

    text: str
    is_critical: bool = False


class Situation(NamedTuple):
    """What goes on, in lines, and whether a critical alert fires."""

    text: str
    is_critical: bool


def table(programs: Iterable[Program]) -> str:
    """Return a line for each program."""
    return "\n".join(
        f"  {each.name:<14} {each.state:<10} {each.pid or '-':>7}  {each.problem or 'ready'}"
        for each in programs
    )


def settings_in_force(settings: Mapping[str, str]) -> str:
    """Return the settings that are set, in lines; an address with a password is only named."""
    shown = [
        f"{name} (not shown)" if "@" in value or name == env.API_KEYS else f"{name}={value}"
        for name, value in sorted(settings.items())
    ]
    return "\n".join(_lines("Settings", shown or ["all defaults"]))


def situation(urls: Pages) -> Situation:
    """Return what goes on; what cannot be asked is said to be unknown."""
    asked = [("Jobs", urls.api, _jobs), ("Drained", urls.dispatcher, _drained)]
    asked.append(("Alerts", urls.prometheus, _alerts))
    found = [(name, _answer(ask, url)) for name, url, ask in asked if url is not None]
    lines = (
        line for name, findings in found for line in _lines(name, [each.text for each in findings])
    )
    critical = any(each.is_critical for _, findings in found for each in findings)
    return Situation("\n".join(lines), critical)


def _lines(name: str, found: list[str]) -> list[str]:
    first, *others = found
    return [f"  {name:<14} {first}", *(f"  {'':<14} {each}" for each in others)]


def _answer(ask: Callable[[str], list[Finding]], url: str) -> list[Finding]:
    try:
        return ask(url)
    except NoAnswer as error:
        return [Finding(f"unknown: {error}")]
    except (LookupError, TypeError, ValueError):
        return [Finding(f"unknown: another program answers at {url}")]


def _jobs(url: str) -> list[Finding]:
    counts = {status: int(float(count)) for status, count in JOBS.findall(_page(url))}
    parts = [f"{counts.get(status, 0)} {word}" for status, word in SHOWN.items()]
    if parked := counts.get(PARKED, 0):
        parts.append(f"{parked} parked (make parked)")
    return [Finding(", ".join(parts))]


def _drained(url: str) -> list[Finding]:
    return [Finding(", ".join(sorted(DRAINED.findall(_page(url)))) or "none")]


def _alerts(url: str) -> list[Finding]:
    alerts = pages.ask_json(f"{url}/api/v1/alerts")["data"]["alerts"]
    firing = (each for each in alerts if each["state"] == "firing")
    lines = {_alert(each) for each in firing if each["labels"].get("severity") != NO_SEVERITY}
    return sorted(lines) or [Finding("none")]


def _alert(alert: Mapping[str, Any]) -> Finding:
    """Return what is wrong, since when, and where it says what to do."""
    labels, said = alert["labels"], alert["annotations"]
    since = alert.get("activeAt", "").partition(".")[0].replace("T", " ")
    head = (
        f"{labels['alertname']} ({labels.get('severity', '-')}{since and f', since {since} UTC'})"
    )
    runbook = said.get("runbook_url")
    text = f"{head}: {said.get('summary', '')}" + (f"; see {runbook}" if runbook else "")
    return Finding(text, labels.get("severity") == CRITICAL)


def _page(url: str) -> str:
    status, content = pages.ask(f"{url}/metrics")
    if status != pages.OK:
        raise NoAnswer(f"{url}/metrics: {status}")
    return content
