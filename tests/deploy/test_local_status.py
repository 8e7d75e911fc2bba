"""What `make status` shows without Docker."""

from __future__ import annotations

import pytest

from deploy import stack
from deploy.local import __main__ as local
from deploy.local.setup import Setup
from grid.errors import ConfigurationError


class Running:
    """A supervisor that runs two programs."""

    def runs(self) -> bool:
        """Return that it does."""
        return True

    def states(self) -> dict[str, str]:
        """Return what runs."""
        return {"api": "RUNNING", "dispatcher": "RUNNING"}


def test_status_works_with_a_wrong_target_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stack runs on with what it read before, and an operator needs the status then."""

    def refuse(*_: object) -> Setup:
        raise ConfigurationError("SUBSTATIONS_FILE=x.json: entry 3 is wrong")

    monkeypatch.setattr(local, "Supervisor", Running)
    monkeypatch.setattr(stack.StackState, "read", lambda: stack.StackState("local", {}))
    monkeypatch.setattr(Setup, "decide", refuse)
    assert local.status() == 1
    said = capsys.readouterr().out
    assert "api            RUNNING" in said
    assert "dispatcher     RUNNING" in said
    assert "SUBSTATIONS_FILE=x.json: entry 3 is wrong" in said
