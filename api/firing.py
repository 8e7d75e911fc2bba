"""The firing alerts of Prometheus, as its ``GET /api/v1/alerts`` answers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

import msgspec

from grid.errors import GridError
from grid.messages import shown

FIRING: Final = "firing"
NO_SEVERITY: Final = "none"  # of an alert that always fires, to show that alerts arrive
MAX_TEXT: Final = 600  # characters of a text of a rule that are shown


class MalformedAnswer(GridError):
    """An answer is not a list of alerts as Prometheus writes it."""


class Firing(NamedTuple):
    """A firing alert: its name, what it says, and since when, in Unix seconds.

    ``job`` is the label of what was scraped; ``since`` is None if it is not known, ``runbook`` if
    the rule names no page about it: an address, or a file of the project.
    """

    name: str
    job: str
    severity: str
    summary: str
    description: str
    since: float | None
    runbook: str | None


class Observed(NamedTuple):
    """What Prometheus says: the alerts that fire, or why it cannot be asked for them."""

    firing: Sequence[Firing] = ()
    problem: str = ""


class _Alert(msgspec.Struct):
    labels: dict[str, str]
    state: str
    annotations: dict[str, str] = {}
    activeAt: str = ""  # noqa: N815  # Prometheus's name


class _Data(msgspec.Struct):
    alerts: list[_Alert]


class _Answer(msgspec.Struct):
    status: Literal["success"]
    data: _Data


_DECODER: Final = msgspec.json.Decoder(_Answer)


def parse(body: bytes) -> list[Firing]:
    """Return the alerts that fire, but those without any severity.

    Raise ``MalformedAnswer`` for any other answer.
    """
    try:
        answer = _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        start = shown(body[:60].decode("utf-8", "replace"))
        raise MalformedAnswer(f"{start} is no list of alerts: {error}"[:MAX_TEXT]) from error
    return [
        _firing(each)
        for each in answer.data.alerts
        if each.state == FIRING and each.labels.get("severity") != NO_SEVERITY
    ]


def _firing(alert: _Alert) -> Firing:
    labels, texts = alert.labels, alert.annotations
    return Firing(
        name=labels.get("alertname", "")[:MAX_TEXT],
        job=labels.get("job", ""),
        severity=labels.get("severity", ""),
        summary=texts.get("summary", "").strip()[:MAX_TEXT],
        description=texts.get("description", "").strip()[:MAX_TEXT],
        since=_moment(alert.activeAt),
        runbook=texts.get("runbook_url", "").strip()[:MAX_TEXT] or None,
    )


def _moment(text: str) -> float | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.timestamp() if found.tzinfo is not None else None
