"""Whatever is broken, the right alert fires, in time, and no other one.

The long form breaks the running system in every way; the short form in one that takes little time.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from deploy import pages
from tests.broker import Broker, VirtualHost
from tests.deploy import alert_rules
from tests.faults.breakages import BREAKAGES, Breakage, Scene, shown, table, traffic, write_table
from tests.faults.form import Form
from tests.observed import running_prometheus
from tests.operators import operated
from tests.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

IS_LONG: Final = Form.asked_for(os.environ).is_long
CHOSEN: Final = [each for each in BREAKAGES if IS_LONG or each.is_quick]
RUNBOOK: Final = Path(__file__).parents[2] / alert_rules.RUNBOOK
ENVIRONMENT: Final = {"CHARGE_SECONDS_MIN": "0.4", "CHARGE_SECONDS_MAX": "0.6"}
CALM_SECONDS: Final = 120.0  # until no alert is pending, on a busy machine
ALONE_SECONDS: Final = 45.0 if IS_LONG else 5.0  # in which no other alert follows
OVER_SECONDS: Final = 90.0
TARGETS: Final = 8  # api, dispatcher, three substations, RabbitMQ twice, Prometheus itself


@pytest.fixture(scope="module")
def rows() -> Iterator[list[tuple[Breakage, float]]]:
    """Yield the rows of the table, which is kept if it is complete."""
    found: list[tuple[Breakage, float]] = []
    yield found
    print(f"\n{table(found)}")  # noqa: T201
    if len(found) == len(BREAKAGES):
        write_table(RUNBOOK, found)


@pytest.fixture(scope="module")
def vhost_of_module(broker_of_session: Broker) -> Iterator[VirtualHost]:
    """Yield a virtual host for all breakages."""
    broker_of_session.start()
    with broker_of_session.vhost() as one:
        yield one


@pytest.fixture(scope="module")
def scene(
    vhost_of_module: VirtualHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """Yield the running system, with some traffic."""
    folder = tmp_path_factory.mktemp("breakages")
    environment = {**ENVIRONMENT, **operated(folder)}
    with System(vhost_of_module, folder, environment=environment) as system, traffic(system):
        targets = folder / "prometheus-targets.json"
        shutil.copy(system.targets, targets)
        yield Scene(system, vhost_of_module, targets)


@pytest.mark.parametrize("breakage", CHOSEN, ids=lambda each: each.name)
def test_right_alert_fires_and_no_other(
    breakage: Breakage, scene: Scene, tmp_path: Path, rows: list[tuple[Breakage, float]]
) -> None:
    """In time, it says what is wrong with figures, and it is over once the cause is."""
    with running_prometheus(scene.system, scene.vhost, tmp_path, scene.targets) as url:
        _until(lambda: _is_calm(url), CALM_SECONDS, "nothing is wrong before", url)
        with breakage.broken(scene):
            began = time.monotonic()
            _until(lambda: breakage.alert in _firing(url), breakage.within, breakage.alert, url)
            after = time.monotonic() - began
            alone_until = time.monotonic() + ALONE_SECONDS
            while time.monotonic() < alone_until:
                assert _firing(url).keys() == {breakage.alert}, _all_shown(url)
                time.sleep(1)
            said = shown(_firing(url)[breakage.alert])
            print(f"\n{breakage.name}: after {after:.0f} s\n{said}")  # noqa: T201
            assert "<error" not in said
            assert "<no value>" not in said
        _until(lambda: breakage.alert not in _firing(url), OVER_SECONDS, "it is over", url)
    rows.append((breakage, after))


def _alerts(url: str) -> list[dict[str, Any]]:
    found = pages.ask_json(f"{url}/api/v1/alerts")["data"]["alerts"]
    return [each for each in found if each["labels"]["alertname"] != alert_rules.ALWAYS]


def _firing(url: str) -> dict[str, dict[str, Any]]:
    return {each["labels"]["alertname"]: each for each in _alerts(url) if each["state"] == "firing"}


def _is_calm(url: str) -> bool:
    """Return whether all is read, and no alert is pending."""
    try:
        targets = pages.ask_json(f"{url}/api/v1/targets?state=active")["data"]["activeTargets"]
        groups = pages.ask_json(f"{url}/api/v1/rules")["data"]["groups"]
        is_read = len(targets) == TARGETS and all(each["health"] == "up" for each in targets)
        is_evaluated = all(not each["lastEvaluation"].startswith("0001") for each in groups)
        return is_read and is_evaluated and not _alerts(url)
    except pages.NoAnswer:
        return False


def _all_shown(url: str) -> str:
    return "\n".join(f"{each['state']}: {shown(each)}" for each in _alerts(url))


def _until(holds: Callable[[], bool], seconds: float, what: str, url: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{_all_shown(url)}"
        time.sleep(0.5)
