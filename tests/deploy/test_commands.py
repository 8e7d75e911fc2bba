"""What `make up` does in either mode, and what it leaves behind if it fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from deploy import commands, stack
from deploy.local.rabbitmq import COMMON_CONFIG
from deploy.rabbitmq.disk import FREE_LIMIT
from deploy.rabbitmq.live import OwnBroker
from deploy.ready import Look
from deploy.trial import Outcome
from grid.errors import GridError

READY = Look()
ENDED = Look({"api": "refused"}, ["api"])
GONE_THROUGH = Outcome()


class OldBroker(OwnBroker):
    """A broker of ours with a user that no service needs any more."""

    def load(self) -> None:
        """Do nothing."""

    def withdraw(self) -> list[str]:
        """Return that user's name, or fail where there is no port."""
        if not self.port:
            raise GridError("it stays")
        return ["substation"]


class Script:
    """A setup that records the calls of its methods."""

    def __init__(
        self,
        name: str,
        done: list[str],
        seen: Look = READY,
        failing: str | None = None,
        *,
        broker: OwnBroker | None = None,
        outcome: Outcome = GONE_THROUGH,
    ) -> None:
        self.name, self.done, self.seen, self.failing = name, done, seen, failing
        self.broker, self.outcome = broker, outcome

    def _do(self, what: str) -> None:
        self.done.append(f"{self.name} {what}")
        if what == self.failing:
            raise GridError(f"{what} failed")

    def stack_state(self) -> stack.StackState:
        """Return a stack state that is not written to a file."""
        script = self

        class Written(stack.StackState):
            def write(self) -> None:
                script._do("state")

        return Written("local", {})

    def write_files(self) -> None:
        """Record the call."""
        self._do("files")

    def declare_at_outside_broker(self) -> None:
        """Record the call."""
        self._do("declare")

    def own_broker(self) -> OwnBroker | None:
        """Return the test's broker."""
        return self.broker

    def start(self) -> None:
        """Record the call."""
        self._do("start")

    def look(self) -> Look:
        """Return the look that the test has set."""
        return self.seen

    def try_request(self) -> Outcome:
        """Return the outcome that the test has set, and record the call."""
        self._do("request")
        return self.outcome

    def explain(self, names: Iterable[str]) -> None:
        """Record the call."""
        self._do(f"explain {' '.join(names)}")

    def summary(self) -> str:
        """Return any text."""
        return "a summary"


def up(done: list[str], wanted: Script, before: Script | None) -> int:
    """Run ``commands.up``, and record stopping as well."""

    def stop() -> int:
        done.append("stop")
        return 0

    return commands.up(wanted, (lambda: before) if before else None, stop)


def test_up_prepares_the_broker_and_state_file_before_it_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is started before the broker has the topology and the stack state is written."""
    done: list[str] = []
    assert up(done, Script("new", done), None) == 0
    assert done == ["new files", "new declare", "new state", "new start", "new request"]
    assert "a summary" in capsys.readouterr().out


def test_up_restores_bindings_that_a_booting_broker_dropped() -> None:
    """Done at each look: a booting broker drops new bindings of old streams as it reads them."""
    done: list[str] = []

    class Booting(OldBroker):
        def complete(self) -> None:
            done.append("complete")
            raise GridError("it does not answer yet")

    assert up(done, Script("new", done, broker=Booting(1, {}, ())), None) == 0
    assert done == ["new files", "new declare", "new state", "new start", "complete", "new request"]


def test_up_warns_when_rabbitmqs_disk_is_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It warns at once, and gives this as the reason if something does not become ready."""
    done: list[str] = []

    class Short(OldBroker):
        def short_of_disk(self) -> str | None:
            return "the disk is short"

    monkeypatch.setattr("deploy.rabbitmq.disk.FREE_LIMIT", 10**18)
    broker = Short(1, {}, ())
    assert up(
        done, Script("new", done, Look({"api": "503"}, ["api", "rabbitmq"]), broker=broker), None
    )
    said = capsys.readouterr().out
    assert said.index("takes no messages while it is less than") < said.index("Waiting until")
    assert "rabbitmq is not ready: the disk is short" in said


def test_up_warns_at_rabbitmqs_configured_disk_limit() -> None:
    """The same figure stands in the configuration of every node."""
    assert f"disk_free_limit.absolute = {FREE_LIMIT // 10**6}MB\n" in COMMON_CONFIG.read_text()


def test_up_says_that_all_runs_only_after_a_request_has_gone_through(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """If none does, it says where the request stopped, and stops everything."""
    done: list[str] = []
    outcome = Outcome({"north": "no request goes through: assigned"})
    assert up(done, Script("new", done, outcome=outcome), None) == 1
    said = capsys.readouterr().out
    assert "north is not ready: no request goes through: assigned" in said
    assert "Everything runs" not in said
    assert done[-2:] == ["new explain north", "stop"]


def test_up_says_why_no_request_was_tried(capsys: pytest.CaptureFixture[str]) -> None:
    """A system that is full or drained counts as running."""
    assert up([], Script("new", [], outcome=Outcome(remark="all is full")), None) == 0
    assert "all is full\nEverything runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "Interrupted."),
        (PermissionError(13, "Permission denied", "/x/.run"), 1, "Permission denied: '/x/.run'"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 1, "invalid start byte"),
        (GridError("a path with \udcff in it"), 1, "a path with \\udcff in it"),
    ],
)
def test_failing_command_prints_one_sentence(
    error: BaseException,
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No traceback, whatever error the machine causes; the exit status is not 0."""

    def failing() -> int:
        raise error

    monkeypatch.setattr("sys.argv", ["deploy", "up"])
    assert commands.main("local", {"up": failing}) == status
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_up_removes_obsolete_users_once_all_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their passwords go as well; if a user cannot be removed, that is an error; all runs on."""
    monkeypatch.setattr(stack, "SECRETS", tmp_path)
    for name in ("substation", "api"):
        (tmp_path / name).write_text("a password")
    done: list[str] = []
    assert up(done, Script("new", done, ENDED, broker=OldBroker(1, {}, ())), None) == 1
    assert (tmp_path / "substation").exists()
    assert up(done, Script("new", done, broker=OldBroker(1, {}, ())), None) == 0
    assert "Removed RabbitMQ's user substation:" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["api"]
    done.clear()
    with pytest.raises(GridError, match="it stays"):
        up(done, Script("new", done, broker=OldBroker(0, {}, ())), None)
    assert done[-1] == "new request"


def test_failed_up_restores_the_previous_setup(capsys: pytest.CaptureFixture[str]) -> None:
    """Files, stack state and programs are those from before, and `make up` says so."""
    done: list[str] = []
    assert up(done, Script("new", done, ENDED), Script("old", done)) == 1
    assert done[-4:] == ["new explain api", "old files", "old state", "old start"]
    said = capsys.readouterr().out
    assert "api is not ready: refused" in said
    assert "with the previous settings" in said


def test_failed_up_removes_the_users_it_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not set up any more needs no user at RabbitMQ, and no password."""
    monkeypatch.setattr(stack, "SECRETS", tmp_path)
    (tmp_path / "substation").write_text("a password")
    done: list[str] = []
    old = Script("old", done, broker=OldBroker(1, {}, ()))
    assert up(done, Script("new", done, ENDED), old) == 1
    assert list(tmp_path.iterdir()) == []


def test_failed_up_says_when_it_cannot_restore_the_previous_setup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The output does not claim that the settings from before are in force."""
    done: list[str] = []
    assert up(done, Script("new", done, ENDED), Script("old", done, failing="start")) == 1
    assert "and the previous settings cannot be restored: start failed" in capsys.readouterr().out


def test_failed_first_up_stops_everything() -> None:
    """No program that was started is left running."""
    done: list[str] = []
    assert up(done, Script("new", done, ENDED), None) == 1
    assert done[-1] == "stop"


@pytest.mark.parametrize("failing", ["files", "declare", "start"])
def test_failed_up_restores_and_still_raises(failing: str) -> None:
    """An error in any step leads to the same restoration, and is still raised."""
    done: list[str] = []
    with pytest.raises(GridError, match=f"{failing} failed"):
        up(done, Script("new", done, failing=failing), Script("old", done))
    assert done[-3:] == ["old files", "old state", "old start"]


def test_up_goes_on_when_its_output_is_closed() -> None:
    """`make up | head -1` still starts everything, and its exit status says so."""
    program = (
        "from deploy import summary as s; s.say('1'); input(); s.say('2'); s.say('3'); exit(7)"
    )
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdin
        assert process.stderr
        assert process.stdout.readline() == b"1\n"
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 7
