"""What is wrong, from what the api knows itself: each with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from api.alerts import Facts, Severity, alerts

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
