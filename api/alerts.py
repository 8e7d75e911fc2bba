"""What is wrong, as far as the api knows it, and what to do about it. Pure.

Prometheus has more alerts, and need not run for these. Where both have the same one, it has the
same name (``deploy/prometheus/alerts.yml``), and only that of the api is shown: it comes earlier,
and names all that it is about.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from api.firing import Firing, Observed
from api.last_heard import DISPATCHER_TIMEOUT, LastHeard
from grid.controls import Availability

LONG_WAIT: Final = 60.0  # seconds in which a request usually finds its substation
MAX_NAMED: Final = 5  # substations that one alert names
MAX_FROM_PROMETHEUS: Final = 20  # alerts of it that are shown, each with all that have its name
SETTLING: Final = 15.0  # seconds in which Prometheus notices, too, that something is over
# alerts of Prometheus that have another name here
SAME_AS: Final[Mapping[str, str]] = {
    "DispatcherDown": "DispatcherSilent",
    "NoActiveDispatcher": "DispatcherSilent",
    "SubstationEjected": "SubstationIneligible",
    "RequestsBacklogGrowing": "RequestsWaitLong",
    "EventLogNotCaughtUp": "ApiNotReady",
    "RabbitMQDown": "BrokerConnectionLost",
}
TARGET_DOWN: Final = "TargetDown"
# the same for a page that cannot be read, by the job that reads it
DOWN_AS: Final[Mapping[str, str]] = {
    "substation": "SubstationIneligible",
    "dispatcher": "DispatcherSilent",
    "rabbitmq": "BrokerConnectionLost",
    "rabbitmq-queues": "BrokerConnectionLost",
}


class Severity(StrEnum):
    """How bad it is, as in Prometheus: ``critical`` is when requests stop or may be refused."""

    CRITICAL = "critical"
    WARNING = "warning"


class Source(StrEnum):
    """Who found it."""

    API = "api"
    PROMETHEUS = "prometheus"


class Alert(NamedTuple):
    """Something that is wrong: what, and what to do; no two have the same name.

    ``runbook`` names a page about it, if there is one, an address or a file; ``since`` are Unix
    seconds, None if its source does not say.
    """

    name: str
    severity: Severity
    summary: str
    action: str
    source: Source = Source.API
    runbook: str | None = None
    since: float | None = None


class Facts(NamedTuple):
    """What alerts are derived from.

    ``problems`` keep the api from being ready; ``silent`` is for how many seconds the dispatcher
    was not heard, ``snapshot_age`` how long ago its last snapshot was read (``api.last_heard``);
    ``is_excused`` says that the link is up since a moment ago. ``rows`` are the substations of the
    last snapshot, None if there is none. ``recent`` are the names of alerts of the api that ended
    less than ``SETTLING`` seconds ago.
    """

    problems: Sequence[str]
    blocked: str  # why RabbitMQ blocks publishers; empty if it does not
    silent: float
    has_left: bool
    rows: Sequence[Mapping[str, Any]] | None
    waiting: int
    oldest: float
    parked: int
    prometheus: Observed = Observed()
    recent: Collection[str] = ()
    snapshot_age: float = 0.0
    is_excused: bool = False


def alerts(facts: Facts) -> list[Alert]:
    """Return what is wrong, the worst first."""
    found = [*_broker(facts), *_dispatcher(facts), *_substations(facts), *_jobs(facts)]
    found += _prometheus(facts.prometheus, {*facts.recent, *(each.name for each in found)})
    return sorted(found, key=lambda each: each.severity is not Severity.CRITICAL)


def is_silent(facts: Facts) -> bool:
    """Return whether what the dispatcher said is old."""
    return _heard(facts).is_silent


def _heard(facts: Facts) -> LastHeard:
    return LastHeard(facts.silent, facts.snapshot_age, facts.has_left)


def is_cut_off(problems: Sequence[str]) -> bool:
    """Return whether a link to RabbitMQ is down, so that nobody can be heard."""
    return any("is down" in each for each in problems)


def _broker(facts: Facts) -> list[Alert]:
    found = []
    if facts.blocked:
        full = "disk" in facts.blocked
        what = "disk" if full else "memory" if "memory" in facts.blocked else "memory or disk"
        action = (
            "Free disk space where RabbitMQ keeps its data; do not lower its limit. Accepted "
            "requests are safe."
            if full
            else "Let consumers catch up, or give RabbitMQ more. Accepted requests are safe."
        )
        found.append(
            Alert(
                f"RabbitMQ{'Disk' if full else 'Memory'}Alarm",
                Severity.CRITICAL,
                f"RabbitMQ is out of {what} and accepts no messages",
                action,
            )
        )
    down = [each for each in facts.problems if "is down" in each]
    if down:
        found.append(
            Alert(
                "BrokerConnectionLost",
                Severity.CRITICAL,
                "The api is not connected to RabbitMQ: no request is accepted",
                "Check that RabbitMQ runs, the network and the password; the api connects again "
                "by itself.",
            )
        )
    told = (*down, *(each for each in facts.problems if "blocks publishers" in each))
    if others := [each for each in facts.problems if each not in told]:
        found.append(_not_ready(others))
    return found


def _not_ready(problems: Sequence[str]) -> Alert:
    """Return one alert of all problems, as bad as the worst of them."""
    parts = [each.partition(": ") for each in problems]
    actions = [f"{_capital(action)}." for _, _, action in parts if action]
    if not all(action for _, _, action in parts):
        actions.append("This ends once it has read all.")
    return Alert(
        "ApiNotReady",
        Severity.CRITICAL
        if any("queue" in summary for summary, _, _ in parts)
        else Severity.WARNING,
        _capital("; ".join([summary for summary, _, _ in parts])),
        " ".join(dict.fromkeys(actions)),
    )


def _dispatcher(facts: Facts) -> list[Alert]:
    heard = _heard(facts)
    if not heard.is_silent or facts.blocked or is_cut_off(facts.problems):
        return []  # while RabbitMQ is away, nobody is heard
    if facts.is_excused and not heard.has_left:
        return []
    if heard.has_left:
        what = "has stopped"
    elif heard.seconds > DISPATCHER_TIMEOUT:
        what = f"was not heard for {_duration(heard.seconds)}"
    else:
        what = "lives, but does not describe the substations"
    return [
        Alert(
            "DispatcherSilent",
            Severity.CRITICAL,
            f"The dispatcher {what}: requests are accepted and wait",
            "Start it, or see its log (make status, make logs). What is shown of the substations "
            "is old.",
        )
    ]


def _substations(facts: Facts) -> list[Alert]:
    rows = facts.rows
    if rows is None or is_silent(facts):
        return []
    if not rows:
        return [
            Alert(
                "NoSubstation",
                Severity.CRITICAL,
                "The dispatcher knows no substation",
                "Put the substations into its target file; its log says which file that is.",
            )
        ]
    is_usable, broken = False, []
    for row in rows:  # once each: there may be 10,000, and this is done each second
        if row.get("eligible") or row.get("reason") == "full":
            is_usable = True
        elif row.get("state") != Availability.DRAINING:
            broken.append(row)
    found = []
    if not is_usable:
        found.append(
            Alert(
                "NoSubstationEligible",
                Severity.CRITICAL,
                f"All {len(rows)} substations are drained: requests wait"
                if not broken
                else "No substation can be used: requests wait",
                "Resume a substation in the table below."
                if not broken
                else "The table below has the reasons; check the substations and their network.",
            )
        )
    if broken:
        names = ", ".join(str(row.get("substation")) for row in broken[:MAX_NAMED])
        more = len(broken) - MAX_NAMED
        reasons = {str(row.get("reason")) for row in broken}
        why = f": {reasons.pop()}" if len(reasons) == 1 else ""
        found.append(
            Alert(
                "SubstationIneligible",
                Severity.WARNING,
                f"{names}{f' and {more} more' if more > 0 else ''} cannot be used{why}",
                "Check the substation's process and its metrics page; the table has the reason.",
            )
        )
    return found


def _jobs(facts: Facts) -> list[Alert]:
    found = []
    if facts.waiting and facts.oldest > LONG_WAIT and not is_silent(facts):
        found.append(
            Alert(
                "RequestsWaitLong",
                Severity.WARNING,
                f"{facts.waiting} requests wait, the oldest for {_duration(facts.oldest)}",
                "If every substation is full, demand is above capacity: add substations. Open the "
                "job to see what it needs.",
            )
        )
    if facts.parked:
        several = facts.parked != 1
        found.append(
            Alert(
                "RequestsParked",
                Severity.WARNING,
                f"{facts.parked} {'requests are' if several else 'request is'} parked: "
                f"{'they' if several else 'it'} could not be processed",
                "Open one to see why. When the cause is fixed, replay it there, or discard it; or "
                "use make parked.",
            )
        )
    return found


def _prometheus(observed: Observed, known: Collection[str]) -> list[Alert]:
    """Return what Prometheus adds to what is known, by name."""
    if observed.problem:
        return [
            Alert(
                "PrometheusUnreachable",
                Severity.WARNING,
                f"Prometheus cannot be asked for its alerts: {observed.problem}",
                "Start it, or see its log (make status, make logs). What the api itself finds is "
                "shown without it.",
            )
        ]
    by_name = defaultdict(list)
    for each in observed.firing:
        same = DOWN_AS.get(each.job) if each.name == TARGET_DOWN else SAME_AS.get(each.name)
        if each.name not in known and same not in known:
            by_name[each.name].append(each)
    found = [_of_prometheus(name, firing) for name, firing in sorted(by_name.items())]
    found.sort(key=lambda each: each.severity is not Severity.CRITICAL)
    shown, left = found[:MAX_FROM_PROMETHEUS], found[MAX_FROM_PROMETHEUS:]
    if left:
        shown.append(
            Alert(
                "MoreAlerts",
                left[0].severity,
                f"{len(left)} more alerts of other names fire",
                "Open Prometheus's page /alerts.",
                Source.PROMETHEUS,
            )
        )
    return shown


def _of_prometheus(name: str, firing: Sequence[Firing]) -> Alert:
    """Return one alert of all that have the same name: what differs is told of one of the worst."""
    first = min(firing, key=lambda each: (_is_mild(each), each.summary, each.description))
    others = f" (and {len(firing) - 1} more)" if len(firing) > 1 else ""
    return Alert(
        name,
        Severity.WARNING if _is_mild(first) else Severity.CRITICAL,
        (first.summary or name or "An alert without a name") + others,
        first.description,
        Source.PROMETHEUS,
        first.runbook,
        min((each.since for each in firing if each.since is not None), default=None),
    )


def _is_mild(each: Firing) -> bool:
    return each.severity != Severity.CRITICAL


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _duration(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"  # noqa: PLR2004
