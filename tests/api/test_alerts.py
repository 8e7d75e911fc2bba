"""What is wrong, from what the api knows itself: each with what to do."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from api.alerts import (
    DOWN_AS,
    MAX_FROM_PROMETHEUS,
    SAME_AS,
    TARGET_DOWN,
    Alert,
    Facts,
    Severity,
    Source,
    alerts,
)
from api.firing import Firing, Observed
from api.queue_watch import MISSING
from deploy.local.prometheus import FOLDER
from grid.errors import STILL_READING

FINE = Facts(
    problems=(), blocked="", silent=0.5, has_left=False, rows=(), waiting=0, oldest=0, parked=0
)


def row(name: str, reason: str | None = None, state: str = "available") -> dict[str, Any]:
    """Return a substation's row."""
    return {"substation": name, "reason": reason, "state": state, "eligible": reason is None}


USABLE = [row("s1"), row("s2", "full")]
DRAINED = row("s3", "drained by an operator", "draining")


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"rows": USABLE}, []),
        ({"rows": [*USABLE, DRAINED]}, []),
        ({"rows": None}, []),
        ({"rows": []}, [("NoSubstation", "target file")]),
        ({"silent": 2.6}, [("DispatcherSilent", "Start it")]),
        ({"has_left": True}, [("DispatcherSilent", "Start it")]),
        ({"rows": [*USABLE, row("s4", "away")]}, [("SubstationIneligible", "s4 cannot")]),
        (
            {"rows": [row(f"s{number}", "away") for number in range(7)]},
            [("NoSubstationEligible", "reasons"), ("SubstationIneligible", "s4 and 2 more")],
        ),
        ({"rows": [DRAINED]}, [("NoSubstationEligible", "Resume")]),
        ({"blocked": "low on disk"}, [("RabbitMQDiskAlarm", "Free disk space")]),
        ({"blocked": "low on memory"}, [("RabbitMQMemoryAlarm", "memory")]),
        (
            {"problems": ["RabbitMQ link api-requests is down"], "silent": 60},
            [("BrokerConnectionLost", "RabbitMQ runs")],
        ),
        (
            {"problems": ["the queue charge.requests is missing: run `make up` again"]},
            [("ApiNotReady", "Run `make up`")],
        ),
        ({"parked": 1}, [("RequestsParked", "1 request is parked")]),
        ({"parked": 2, "rows": USABLE}, [("RequestsParked", "make parked")]),
        (
            {"waiting": 3, "oldest": 90},
            [("RequestsWaitLong", "3 requests wait, the oldest for 90 s")],
        ),
        ({"waiting": 3, "oldest": 30}, []),
    ],
)
def test_alerts_name_what_is_wrong_and_what_to_do(
    facts: dict[str, Any], found: list[tuple[str, str]]
) -> None:
    """Of a RabbitMQ that is away or full, nothing is said of a dispatcher that cannot be heard."""
    known = {"rows": USABLE, **facts}
    alerted = alerts(FINE._replace(**known))
    assert [each.name for each in alerted] == [name for name, _ in found]
    for each, (_, words) in zip(alerted, found, strict=True):
        assert words in f"{each.summary} {each.action}"
        assert each.action.endswith(".")


def test_each_of_many_substations_is_looked_at_once() -> None:
    """The rows are never compared with each other: that would take seconds."""

    class Row(dict[str, Any]):
        def __eq__(self, _: object) -> bool:
            raise AssertionError

        __hash__ = None

    rows = [Row(row(f"s{number}", "away")) for number in range(4)]
    (found,) = alerts(FINE._replace(rows=[*rows, Row(row("s9", "full")), Row(DRAINED)]))
    assert found.name == "SubstationIneligible"


def test_worst_alert_comes_first() -> None:
    found = alerts(FINE._replace(parked=1, silent=10))
    assert [each.severity for each in found] == [Severity.CRITICAL, Severity.WARNING]


def firing(name: str, **more: Any) -> Firing:  # noqa: ANN401
    """Return a firing alert of Prometheus."""
    known = {"job": "", "severity": "warning", "summary": "", "description": "See its log."}
    return Firing(name=name, **{**known, "since": None, "runbook": None, **more})


def with_prometheus(*found: Firing, **more: Any) -> list[Alert]:  # noqa: ANN401
    """Return the alerts where these fire in Prometheus."""
    return alerts(FINE._replace(**{"rows": USABLE, "prometheus": Observed(found), **more}))


def test_alerts_of_prometheus_follow_those_of_the_api_by_severity() -> None:
    runbook = "https://runbooks.example/queue"
    queue = firing("QueueFull", severity="critical", summary="It is full", since=5.0)
    lost = firing("EventsLost", severity="info", summary="Lost", runbook=runbook)
    assert with_prometheus(lost, queue, parked=1)[::2] == [
        Alert(
            *("QueueFull", Severity.CRITICAL, "It is full", "See its log."),
            source=Source.PROMETHEUS,
            since=5.0,
        ),
        Alert(
            *("EventsLost", Severity.WARNING, "Lost", "See its log."),
            source=Source.PROMETHEUS,
            runbook=runbook,
        ),
    ]


def test_alerts_of_prometheus_with_one_name_are_one() -> None:
    """It is as bad as the worst, and as old as the oldest of them."""
    found = with_prometheus(
        firing("TargetDown", summary="b does not answer", since=9.0),
        firing("TargetDown", summary="a does not answer", since=7.0, severity="critical"),
    )
    (one,) = found
    assert (one.summary, one.severity) == ("a does not answer (and 1 more)", Severity.CRITICAL)
    assert one.since == 7.0


def test_alert_of_one_name_says_what_the_worst_of_them_says() -> None:
    """The text of a warning, shown as critical, would send somebody to the wrong place."""
    (one,) = with_prometheus(
        firing("ErrorBudgetBurnsFast", summary="A: slowly", description="Wait."),
        firing("ErrorBudgetBurnsFast", summary="B: fast", description="Act.", severity="critical"),
    )
    assert (one.summary, one.action) == ("B: fast (and 1 more)", "Act.")
    assert one.severity is Severity.CRITICAL


def test_no_two_alerts_have_the_same_name() -> None:
    """A page keeps one of each: what keeps the api from being ready is joined, as the worst."""
    problems = [*map(MISSING.format, ("charge.events", "charge.requests")), STILL_READING]
    found = alerts(FINE._replace(rows=[DRAINED, row("s4", "away")], parked=1, problems=problems))
    names = [each.name for each in found]
    assert len(names) == len(set(names))
    (one,) = (each for each in found if each.name == "ApiNotReady")
    assert one.severity is Severity.CRITICAL
    for words in ("charge.events is", "charge.requests is", STILL_READING):
        assert words in one.summary
    assert one.action.count("make up") == 1
    assert one.action.endswith("`python -m grid declare`. This ends once it has read all.")


@pytest.mark.parametrize(
    ("facts", "name", "job"),
    [
        ({"silent": 60}, "DispatcherDown", ""),
        ({"silent": 60}, "NoActiveDispatcher", ""),
        ({"silent": 60}, "TargetDown", "dispatcher"),
        ({"rows": [*USABLE, row("s4", "away")]}, "SubstationIneligible", ""),
        ({"rows": [*USABLE, row("s4", "ejected")]}, "SubstationEjected", ""),
        ({"rows": [*USABLE, row("s4", "away")]}, "TargetDown", "substation"),
        ({"problems": ["RabbitMQ link api-requests is down"]}, "BrokerConnectionLost", "api"),
        ({"blocked": "low on disk"}, "RabbitMQDiskAlarm", "rabbitmq"),
        ({"waiting": 3, "oldest": 90}, "RequestsBacklogGrowing", ""),
        ({"parked": 1}, "RequestsParked", ""),
    ],
)
def test_same_condition_is_shown_once(facts: dict[str, Any], name: str, job: str) -> None:
    """As the api finds it, and until Prometheus has noticed that it is over, too."""
    found = firing(name, job=job)
    (own,) = with_prometheus(found, **facts)
    assert own.source is Source.API
    assert [each.source for each in with_prometheus(found)] == [Source.PROMETHEUS]
    assert with_prometheus(found, recent=[own.name]) == []


def test_targets_that_are_down_are_told_apart() -> None:
    broken = [*USABLE, row("s4", "away")]
    found = with_prometheus(firing("TargetDown", job="api"), rows=broken)
    assert [each.name for each in found] == ["SubstationIneligible", "TargetDown"]


def test_alerts_of_prometheus_are_not_without_end() -> None:
    """A status is sent each second; the worst are shown, and how many are not."""
    many = [firing(f"Mine{number:02}") for number in range(40)]
    found = with_prometheus(*many, firing("Worse", severity="critical"))
    assert len(found) == MAX_FROM_PROMETHEUS + 1
    assert found[0].name == "Worse"
    assert found[-1].summary == "21 more alerts of other names fire"


def test_prometheus_that_cannot_be_asked_is_an_alert() -> None:
    unreachable = Observed(problem="Connection refused")
    (found,) = alerts(FINE._replace(rows=USABLE, prometheus=unreachable))
    assert found.severity is Severity.WARNING
    assert found.summary == "Prometheus cannot be asked for its alerts: Connection refused"


def test_names_that_are_compared_are_those_of_the_rules() -> None:
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    names = {rule["alert"] for group in rules for rule in group["rules"]}
    assert {*SAME_AS, TARGET_DOWN} <= names
    jobs = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    assert DOWN_AS.keys() == {each["job_name"] for each in jobs} - {"api", "prometheus"}
