from __future__ import annotations

from pathlib import Path

import pytest

from tests.broker import VirtualHost
from tests.system import System

pytestmark = pytest.mark.e2e


def test_a_request_is_routed_charged_and_explained(vhost: VirtualHost, tmp_path: Path) -> None:
    """A request without a body names its substation at once, is completed, and says why there."""
    quick = {"CHARGE_SECONDS_MIN": "0.1", "CHARGE_SECONDS_MAX": "0.2"}
    with System(vhost, tmp_path, environment=quick) as system:
        status, answer = system.post()
        assert status == 202, answer
        assert answer["details"]["routed_to"] in system.substations
        job = system.wait_completed({answer["id"]})[0]
        assert list(job["times"]) == ["queued", "assigned", "charging", "completed"]
        assert job["substation"] == answer["details"]["routed_to"]
        _, full = system.get("api", f"/charge/{answer['id']}")
        assert len(full["decision"]["candidates"]) == 3
