"""The audit of the lock files' versions for known vulnerabilities."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from deploy import audit
from deploy.stack import ROOT

GOOD = {"name": "pika", "version": "1.3.2", "vulns": []}
BAD = {"name": "h11", "version": "0.1", "vulns": [{"id": "X-1", "fix_versions": ["0.16"]}]}
UNKNOWN = {"name": "lost", "skip_reason": "not found"}


def answering(*packages: dict[str, Any]) -> str:
    """Return pip-audit's report on these packages."""
    return json.dumps({"dependencies": packages, "fixes": []})


@pytest.mark.parametrize(
    ("output", "status", "words"),
    [
        (answering(GOOD), 0, "nothing known"),
        (answering(GOOD, BAD), 1, "h11 0.1: X-1, mended in 0.16"),
        (answering(GOOD, UNKNOWN), 2, "out of reach: 1"),
        (answering(BAD, UNKNOWN), 1, "X-1"),
        ("", 2, "no answer"),
        ("{}", 2, "no answer"),
        (answering(), 2, "no answer"),
    ],
)
def test_audit_exit_status_tells_found_clean_and_unknown(
    output: str,
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """0: no known vulnerability; 1: at least one is known; 2: pip-audit could not tell."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, output, "")

    monkeypatch.setattr(subprocess, "run", run)
    assert audit.main() == status
    said = capsys.readouterr().out
    assert words in said
    assert all(name in said for name in audit.LOCK_FILES)


@pytest.mark.installs
def test_audit_reads_the_lock_files() -> None:
    """pip-audit accepts the lock files, and answers in the form that is parsed, online or not."""
    for name in audit.LOCK_FILES:
        answer = audit.ask(ROOT / name)
        assert answer.packages > 20
