"""What `make status` shows without Docker."""

from __future__ import annotations

import pytest

from deploy import commands, stack
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

    def restart(self, names: list[str], seconds: float) -> None:
        """Restart nothing."""


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


def test_restart_says_after_how_long_a_program_is_killed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that hangs takes that long, and would seem to hang the command."""
    monkeypatch.setattr(local, "Supervisor", Running)
    state = stack.StackState("local", {}, {"GRACE_SECONDS": "5"})
    monkeypatch.setattr(stack.StackState, "read", lambda: state)
    monkeypatch.setattr(Setup, "decide", lambda *_: None)
    monkeypatch.setattr(commands, "wait_again", lambda _: 0)
    monkeypatch.setenv("SERVICE", "dispatcher")
    assert local.restart() == 0
    said = capsys.readouterr().out
    assert said.startswith("Restarting dispatcher: ")
    assert said.endswith("what has not ended after 20 s is killed\n")
