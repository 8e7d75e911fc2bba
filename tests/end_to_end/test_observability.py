from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.broker import VirtualHost
from tests.deploy.dashboards import queries_with_nan, queries_without_data, rules_without_data
from tests.observed import running_prometheus
from tests.system import QUICK, System

pytestmark = pytest.mark.e2e

SECONDS = 90
RULES_SECONDS = 30  # some rules are evaluated that often


def test_every_panel_and_alert_has_data(vhost: VirtualHost, tmp_path: Path) -> None:
    """Each query of the dashboards, and each metric a rule reads, is there in a running system.

    While it is idle, a panel may be empty, and shows nothing that is no number.
    """
    with (
        System(vhost, tmp_path, environment=QUICK) as system,
        running_prometheus(system, vhost, tmp_path) as url,
    ):
        deadline = time.monotonic() + SECONDS
        missing: list[str] = ["not asked yet"]
        while missing and time.monotonic() < deadline:
            time.sleep(1)  # Prometheus scrapes on its own clock
            missing = _asked(url, rules_without_data)
        assert missing == []
        time.sleep(RULES_SECONDS)
        assert queries_with_nan(url) == []
        deadline, missing = time.monotonic() + SECONDS, ["not asked yet"]
        while missing and time.monotonic() < deadline:
            assert system.post()[0] == 202
            time.sleep(1)
            missing = _asked(url, queries_without_data)
        assert missing == []
        assert queries_with_nan(url) == []


def _asked(url: str, missing: Callable[[str], list[str]]) -> list[str]:
    try:
        return missing(url)
    except OSError as error:
        return [f"Prometheus does not answer yet: {error}"]
