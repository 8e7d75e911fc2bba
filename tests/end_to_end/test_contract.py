from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from deploy.local.ports import HOST
from tests.broker import VirtualHost
from tests.examples import AT_LEAST
from tests.system import QUICK, ROOT, System

pytestmark = pytest.mark.e2e

KEY = "the-depots-key"
LINE = f"depot operator {sha256(KEY.encode()).hexdigest()}"
EXAMPLES = str(max(10, AT_LEAST))  # of each kind, for each operation
SECONDS = 150


def test_the_running_api_keeps_its_own_document(vhost: VirtualHost, tmp_path: Path) -> None:
    """Asked everything its OpenAPI document allows and forbids, it answers as that says.

    All checks of schemathesis are on: no server error, every status, header and body as documented,
    wrong input refused, right input taken, and nothing without the key.
    """
    special = {"api": {"API_KEYS": LINE, "RATE_LIMIT": "100000"}}
    with System(vhost, tmp_path, environment=QUICK, special=special) as system:
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"http://{HOST}:{system.ports['api']}/openapi.json",
            "--checks=all",
            # limits are a setting of a substation: removed, they are empty, and nothing is missing
            "--exclude-checks=use_after_free",
            "--exclude-path=/events",  # its answer never ends: tests/api/test_events.py
            f"--header=Authorization: Bearer {KEY}",
            f"--max-examples={EXAMPLES}",
            "--seed=1",
            "--continue-on-failure",
            "--generation-database=none",
            "--no-color",
        ]
        done = subprocess.run(  # noqa: S603
            command,
            cwd=tmp_path,  # where it leaves files
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SCHEMATHESIS_HOOKS": "tests.end_to_end.contract",
            },
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert system.get("api", "/readyz")[0] == 200
