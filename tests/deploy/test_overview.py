"""What `make status` shows of programs, jobs, drained substations and alerts."""

from __future__ import annotations

from typing import Any

import pytest

from deploy import commands, overview
from deploy.overview import Pages, Program
from tests.deploy.served import pages
from tests.ports import free_ports

METRICS = """\
api_jobs{status="queued"} 3.0
api_jobs{status="charging"} 12.0
api_jobs{status="completed"} 1e+06
api_jobs{status="parked"} 2.0
dispatcher_substation_drained{substation="north"} 1.0
dispatcher_substation_drained{substation="south"} 0.0
dispatcher_substation_drained{substation="east"} 1.0
"""
ALERTS = {
    "data": {
        "alerts": [
            {
                "state": "firing",
                "labels": {"alertname": "RequestsParked", "severity": "warning"},
                "annotations": {"summary": "2 messages are parked"},
            },
            {"state": "pending", "labels": {"alertname": "DispatcherDown"}, "annotations": {}},
        ]
    }
}


def served(metrics: str, alerts: Any) -> Any:  # noqa: ANN401
    """Serve these on one address."""
    return pages(lambda _, path, __: (200, metrics if path == "/metrics" else alerts))


def test_status_shows_jobs_drains_and_firing_alerts() -> None:
    """A pending alert is no alert yet; completed jobs are no work."""
    with served(METRICS, ALERTS) as url:
        lines = overview.situation(Pages(url, url, url)).text.splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        ["Jobs", "3 wait, 0 assigned, 12 charging, 2 parked (make parked)"],
        ["Drained", "east, north"],
        ["Alerts", "RequestsParked (warning): 2 messages are parked"],
    ]


def test_status_shows_since_when_an_alert_fires_and_where_it_says_what_to_do() -> None:
    """The one that always fires, to show that alerts work, is left out."""
    firing = {
        "state": "firing",
        "labels": {"alertname": "ApiDown", "severity": "critical"},
        "annotations": {"summary": "No api answers", "runbook_url": "docs/runbook.md#apidown"},
        "activeAt": "2026-01-01T10:20:30.123456789Z",
    }
    watchdog = {**firing, "labels": {"alertname": "Watchdog", "severity": "none"}}
    with served("", {"data": {"alerts": [watchdog, firing]}}) as url:
        [line] = overview.situation(Pages(None, None, url)).text.splitlines()
    assert line.split(maxsplit=1)[1] == (
        "ApiDown (critical, since 2026-01-01 10:20:30 UTC): No api answers; "
        "see docs/runbook.md#apidown"
    )
    with served("", {"data": {"alerts": [watchdog]}}) as url:
        assert overview.situation(Pages(None, None, url)).text.split() == ["Alerts", "none"]


def test_status_says_that_nothing_is_drained_and_no_alert_fires() -> None:
    with served("", {"data": {"alerts": []}}) as url:
        lines = overview.situation(Pages(url, url, url)).text.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "0 wait, 0 assigned, 0 charging",
        "none",
        "none",
    ]


def test_status_says_what_it_cannot_know() -> None:
    """A service that is down, another program at its port, one that is not to run."""
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with served("", []) as other:
        lines = overview.situation(Pages(url, None, other)).text.splitlines()
    assert lines[0].startswith(f"  Jobs           unknown: {url}/metrics: ")
    assert lines[1] == f"  Alerts         unknown: another program answers at {other}"
    assert len(lines) == 2


@pytest.mark.parametrize(("problem", "status"), [(None, 0), ("refused", 1)])
def test_status_fails_when_something_is_down(
    problem: str | None, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its state and process id, on the line of its name."""
    programs = [Program("api", "RUNNING", 4711), Program("north", "FATAL", None, problem)]
    assert commands.show_status(programs, Pages(None, None, None), {}) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  api            RUNNING       4711  ready"
    assert lines[1] == f"  north          FATAL            -  {problem or 'ready'}"


def test_status_shows_the_settings_that_are_set() -> None:
    """An address with a password in it is only named."""
    settings = {"TENANT_WEIGHTS": "fleet=3,public=1", "AMQP_URL": "amqp://admin:secret@rabbit/"}
    assert overview.settings_in_force(settings).splitlines() == [
        "  Settings       AMQP_URL (not shown)",
        "                 TENANT_WEIGHTS=fleet=3,public=1",
    ]
    assert overview.settings_in_force({}) == "  Settings       all defaults"


@pytest.mark.parametrize(("severity", "status"), [("critical", 1), ("warning", 0)])
def test_status_fails_while_a_critical_alert_fires(severity: str, status: int) -> None:
    labels = {"alertname": "NoSubstationEligible", "severity": severity}
    firing = {"state": "firing", "labels": labels, "annotations": {}}
    with served("", {"data": {"alerts": [firing]}}) as url:
        assert commands.show_status([Program("api", "RUNNING")], Pages(None, None, url), {}) == (
            status
        )
