"""What `make status` shows besides addresses: programs, jobs, drained substations, alerts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from deploy import pages
from deploy.pages import NoAnswer

JOBS: Final = re.compile(r'^api_jobs\{status="(\w+)"\} (\S+)$', re.MULTILINE)
DRAINED: Final = re.compile(
    r'^dispatcher_substation_drained\{substation="([^"]*)"\} 1(?:\.0)?$', re.MULTILINE
)
# states of jobs that have not ended well or at all, and what the table calls them
SHOWN: Final = {"queued": "wait", "assigned": "assigned", "charging": "charging"}
PARKED: Final = "parked"


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


def table(programs: Iterable[Program]) -> str:
    """Return a line for each program."""
    return "\n".join(
        f"  {each.name:<14} {each.state:<10} {each.pid or '-':>7}  {each.problem or 'ready'}"
        for each in programs
    )


def situation(urls: Pages) -> str:
    """Return what goes on, in lines; what cannot be asked is said to be unknown."""
    asked = [("Jobs", urls.api, _jobs), ("Drained", urls.dispatcher, _drained)]
    asked.append(("Alerts", urls.prometheus, _alerts))
    return "\n".join(
        line
        for name, url, ask in asked
        if url is not None
        for line in _lines(name, _answer(ask, url))
    )


def _lines(name: str, found: list[str]) -> list[str]:
    first, *others = found
    return [f"  {name:<14} {first}", *(f"  {'':<14} {each}" for each in others)]


def _answer(ask: Callable[[str], list[str]], url: str) -> list[str]:
    try:
        return ask(url)
    except NoAnswer as error:
        return [f"unknown: {error}"]
    except (LookupError, TypeError, ValueError):
        return [f"unknown: another program answers at {url}"]


def _jobs(url: str) -> list[str]:
    counts = {status: int(float(count)) for status, count in JOBS.findall(_page(url))}
    parts = [f"{counts.get(status, 0)} {word}" for status, word in SHOWN.items()]
    if parked := counts.get(PARKED, 0):
        parts.append(f"{parked} parked (make parked)")
    return [", ".join(parts)]


def _drained(url: str) -> list[str]:
    return [", ".join(sorted(DRAINED.findall(_page(url)))) or "none"]


def _alerts(url: str) -> list[str]:
    alerts = pages.ask_json(f"{url}/api/v1/alerts")["data"]["alerts"]
    firing = [each for each in alerts if each["state"] == "firing"]
    lines = {
        f"{each['labels']['alertname']} ({each['labels'].get('severity', '-')}): "
        f"{each['annotations'].get('summary', '')}"
        for each in firing
    }
    return sorted(lines) or ["none"]


def _page(url: str) -> str:
    status, content = pages.ask(f"{url}/metrics")
    if status != pages.OK:
        raise NoAnswer(f"{url}/metrics: {status}")
    return content
