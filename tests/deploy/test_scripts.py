"""The scripts under whatever people export in their shells."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.copies import copy_project
from tests.examples import ARE_FEW

NOBODY: Final = 65534
PIP: Final = {
    "PIP_USER": "1",
    "PIP_TARGET": "{hostile}/target",
    "PIP_PREFIX": "{hostile}/prefix",
    "PIP_ROOT": "{hostile}/root",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PIP_DRY_RUN": "1",
    "PIP_NO_DEPS": "1",
    "PIP_CONSTRAINT": "{hostile}/nothing",
    "PIP_REQUIREMENT": "{hostile}/nothing",
    "PIP_EDITABLE": "{hostile}",
    "PIP_PYTHON": "/bin/false",
    "PIP_PLATFORM": "win32",
    "PIP_LOG": "{hostile}",
    "PIP_REPORT": "{hostile}",
}
HOSTILE: Final[Mapping[str, Mapping[str, str]]] = {
    "CDPATH": {"CDPATH": "{decoy}"},
    "CDPATH without a folder": {"CDPATH": ".:{decoy}"},
    "BASH_ENV": {"BASH_ENV": "{hostile}/bash_env"},
    "ENV": {"ENV": "{hostile}/bash_env"},
    "a function": {"BASH_FUNC_cd%%": "() { builtin cd {decoy}; }"},
    "functions": {"BASH_FUNC_rm%%": "() { :; }", "BASH_FUNC_printf%%": "() { false; }"},
    "SHELLOPTS": {"SHELLOPTS": "noexec:noglob:nounset:posix:xtrace"},
    "BASHOPTS": {"BASHOPTS": "failglob:nocasematch:cdable_vars:dotglob"},
    "POSIXLY_CORRECT": {"POSIXLY_CORRECT": "1"},
    "GLOBIGNORE": {"GLOBIGNORE": "*"},
    "IFS": {"IFS": "/e"},
    "GREP_OPTIONS": {"GREP_OPTIONS": "--invert-match --count", "GREP_COLORS": "nonsense"},
    "LC_ALL": {"LC_ALL": "xx_YY.ISO-8859-1", "LANG": "xx_YY"},
    "LC_ALL=C": {"LC_ALL": "C", "LANG": "C"},
    "TMPDIR": {"TMPDIR": "/nonexistent", "TEMP": "/nonexistent"},
    "PYTHONHOME": {"PYTHONHOME": "/nonexistent"},
    "PYTHONPATH": {"PYTHONPATH": "{hostile}/modules"},
    "PYTHONSAFEPATH": {"PYTHONSAFEPATH": "1"},
    "PYTHONSTARTUP": {"PYTHONSTARTUP": "{hostile}/modules/json.py", "PYTHONINSPECT": "1"},
    "PYTHONWARNINGS": {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"},
    "PYTHONIOENCODING": {"PYTHONIOENCODING": "utf-16", "PYTHONUTF8": "0"},
    "PYTHON": {"PYTHON": "/bin/false", "PYTHONEXECUTABLE": "/bin/false"},
    "MAKEFLAGS": {"MAKEFLAGS": "e", "PYTHON": "/bin/false", "SHELL": "/bin/false"},
    "VIRTUAL_ENV": {"VIRTUAL_ENV": "/nonexistent", "CONDA_PREFIX": "/nonexistent"},
    "GIT": {"GIT_DIR": "/nonexistent", "GIT_WORK_TREE": "/nonexistent"},
    "proxies": dict.fromkeys(
        ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
        "http://127.0.0.1:9",
    ),
    "RabbitMQ and Erlang": {
        "RABBITMQ_NODENAME": "other@nowhere",
        "RABBITMQ_CONFIG_FILE": "/nonexistent",
        "RABBITMQ_SERVER_START_ARGS": "-nonsense",
        "ERL_FLAGS": "-nonsense",
        "ERL_AFLAGS": "-nonsense",
        "ERL_EPMD_PORT": "1",
    },
    "pip": PIP,
}
# one that cannot be set beside the others, since it ends them
ALONE: Final = {"CDPATH without a folder", "ENV", "LC_ALL=C", "PYTHON"}
ALL: Final = {
    name: value
    for kind, variables in HOSTILE.items()
    if kind not in ALONE
    for name, value in variables.items()
}
TOGETHER: Final = "all together"
CASES: Final = {**HOSTILE, TOGETHER: ALL}


class Place:
    """A copy of the project, and beside it what must stay as it is."""

    def __init__(self, folder: Path) -> None:
        self.project = copy_project(folder / "project")
        self.decoy, self.hostile = folder / "decoy", folder / "hostile"
        for path in (self.project, self.decoy):
            for name in (".run", ".secrets"):
                (path / name).mkdir(parents=True)
                (path / name / "kept").write_text("mine")
        (self.decoy / ".venv").mkdir()
        (self.project / ".venv" / "bin").mkdir(parents=True)
        (self.project / ".venv" / "bin" / "python").symlink_to(sys.executable)
        # a folder of this name is where CDPATH leads
        (self.decoy / "deploy" / "local").mkdir(parents=True)
        (self.decoy / ".ci").mkdir()
        modules = self.hostile / "modules"
        modules.mkdir(parents=True)
        (self.hostile / "bash_env").write_text(f"cd {self.decoy}; set +e; exit 0\n")
        for name in ("json.py", "deploy.py", "typing.py", "sitecustomize.py"):
            (modules / name).write_text("raise SystemExit('a module of the caller')\n")

    def run(self, *command: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy, as somebody who has exported these."""
        known = {"decoy": str(self.decoy), "hostile": str(self.hostile)}
        given = dict(variables)
        for name, text in known.items():
            given = {each: value.replace(f"{{{name}}}", text) for each, value in given.items()}
        return subprocess.run(  # noqa: S603
            command,
            cwd=self.project,
            env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **given},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=100,
        )

    def untouched(self) -> bool:
        """Return whether all is there that is not the project's."""
        names = {".run/kept", ".secrets/kept", ".venv"}
        return all((self.decoy / name).exists() for name in names)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a copy of the project and what is beside it."""
    return Place(tmp_path)


@pytest.mark.parametrize("kind", [*sorted(ALONE), TOGETHER] if ARE_FEW else CASES)
def test_scripts_ignore_exported_shell_settings(kind: str, place: Place) -> None:
    """Nothing runs, says status; clean removes what is the project's, and nothing else."""
    variables = CASES[kind]
    status = place.run("make", "status", variables=variables)
    assert "Nothing runs: start it with  make up" in status.stderr
    assert "Traceback" not in status.stderr
    assert status.returncode == 2  # make's own
    clean = place.run("make", "clean", variables=variables)
    assert clean.returncode == 0, clean.stderr
    assert place.untouched()
    left = {each.name for each in place.project.iterdir()}
    assert not left & {".run", ".secrets", ".venv"}
    assert "Makefile" in left


def test_python_and_down_ignore_exported_python_settings(place: Place) -> None:
    """The machine's own Python is found, and what it is told to run is run."""
    version = place.run("deploy/python", "-c", "import json; print(json.dumps([1]))", variables=ALL)
    assert (version.returncode, version.stdout) == (0, "[1]\n"), version.stderr
    down = place.run("make", "down", variables=ALL)
    assert (down.returncode, down.stdout) == (0, "Nothing runs.\n"), down.stderr


DISTRIBUTION: Final = "/usr/bin/python3"
NEW, WITHOUT_VENV, OLD = "", "*ensurepip*", "*"  # what a Python fails at


def python_that_fails_at(what: str, file: Path) -> Path:
    """Write a program that is called as a Python is; it says by which name."""
    fails = f'case "$*" in {what or "nothing"}) exit 1 ;; esac'
    file.write_text(f'#!/bin/sh\n{fails}\n[ "$1" = -c ] && echo "$0" || echo "$1 by $0"\n')
    file.chmod(0o755)
    return file


def run_by(place: Place, distributions: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """Run ``deploy/python`` with a file in place of the distribution's Python, and this PATH."""
    script = place.project / "deploy" / "python"
    text = script.read_text()
    assert text.count(DISTRIBUTION) == 1
    script.write_text(text.replace(DISTRIBUTION, str(distributions)))
    for tool in ("bash", "dirname", "env"):
        found = shutil.which(tool)
        assert found is not None
        (path / tool).symlink_to(found)
    return place.run("deploy/python", "something", variables={"PATH": str(path)})


@pytest.mark.parametrize(
    ("distributions", "other", "chosen"),
    [
        (NEW, NEW, "first"),
        (OLD, NEW, "python3"),
        (WITHOUT_VENV, NEW, "python3"),
        (WITHOUT_VENV, WITHOUT_VENV, "first"),
        (OLD, WITHOUT_VENV, "python3"),
    ],
)
def test_distributions_python_is_preferred_where_it_will_do(
    distributions: str, other: str, chosen: str, place: Place, tmp_path: Path
) -> None:
    first = python_that_fails_at(distributions, tmp_path / "first")
    path = tmp_path / "bin"
    path.mkdir()
    second = python_that_fails_at(other, path / "python3")
    done = run_by(place, first, path)
    expected = {each.name: each for each in (first, second)}[chosen]
    assert done.stdout == f"something by {expected}\n", done.stderr


def test_without_a_python_one_is_asked_for(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    done = run_by(place, python_that_fails_at(OLD, tmp_path / "old"), path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Python 3.11 or newer is needed" in done.stderr


STANDS_IN: Final = """#!/bin/sh
case "$*" in
  *" logs") echo $$ >followed; exec sleep 600 ;;
esac
"""


def test_make_logs_ends_what_it_follows_on_sigterm(place: Place) -> None:
    """Though it reaches make alone, not the terminal's whole group as Ctrl-C does."""
    python = place.project / ".venv" / "bin" / "python"
    python.unlink()
    python.write_text(STANDS_IN)
    python.chmod(0o755)
    followed = place.project / "followed"
    with subprocess.Popen(
        ["make", "logs"],  # noqa: S607
        cwd=place.project,
        stderr=subprocess.DEVNULL,
    ) as make:
        until = time.monotonic() + 60
        while not followed.exists() or not followed.read_text():
            assert make.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        make.terminate()
        make.wait(20)
    pid = int(followed.read_text())
    try:
        until = time.monotonic() + 20
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < until, "it is still there"
            time.sleep(0.05)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wheel(folder: Path, name: str, version: str, files: Mapping[str, str]) -> str:
    """Write a package of these files; return its line of a lock file."""
    stem = f"{name.replace('-', '_')}-{version}"
    file, info = folder / f"{stem}-py3-none-any.whl", f"{stem}.dist-info"
    content = {
        **{path.format(data=f"{stem}.data"): text for path, text in files.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        rows.append(f"{path},sha256={digest.rstrip('=')},{len(text)}")
    content[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"])
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in content.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o100755 << 16  # an executable file
            archive.writestr(entry, text)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


@pytest.mark.installs
def test_bootstrap_installs_into_venv_despite_pip_settings(place: Place, tmp_path: Path) -> None:
    """Variables and pip.conf are ignored, except for the package index."""
    index = tmp_path / "index"
    index.mkdir()
    lock = wheel(index, "pip-audit", "1.0", {"pip_audit.py": ""})
    (place.project / "requirements-dev.lock").write_text(lock)
    conf = tmp_path / "pip.conf"
    conf.write_text(f"[install]\nuser = true\ntarget = {tmp_path}/target\n")
    needed = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": str(conf)}
    (place.project / ".venv" / "bin" / "python").unlink()
    done = place.run("deploy/local/bootstrap", variables={**ALL, **needed})
    assert done.returncode == 0, done.stderr
    packages = next((place.project / ".venv" / "lib").iterdir()) / "site-packages"
    assert (packages / "pip_audit.py").exists()
    assert not (tmp_path / "target").exists()
    assert {each.name for each in place.hostile.iterdir()} == {"bash_env", "modules"}
    again = place.run("deploy/local/bootstrap", variables={**ALL, **needed})
    assert again.returncode == 0, again.stderr
    assert "making .venv" not in again.stderr, "nothing is to do the second time"


UV: Final = """#!/bin/sh
echo "$UV_TARGET $*" >>called
[ -e works ] || { touch .venv/half; exit 2; }
touch "$(echo .venv/lib/*)/site-packages/pip_audit.py"
"""


@pytest.mark.installs
def test_bootstrap_installs_with_uv_or_else_with_pip(place: Place, tmp_path: Path) -> None:
    """Of uv the locked version, and none of its settings but for the package index.

    What either has left half done looks complete to both: it is not used.
    """
    index = tmp_path / "index"
    index.mkdir()
    lock = wheel(index, "pip-audit", "1.0", {"pip_audit.py": "installed = 'by pip'\n"})
    lock += wheel(index, "uv", "9.9", {"{data}/scripts/uv": UV})
    (place.project / "requirements-dev.lock").write_text(lock)
    environment = place.project / ".venv"
    (environment / "bin" / "python").unlink()
    nowhere = dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    needed = {"PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
    variables = {"UV_TARGET": "/nonexistent", **nowhere, **needed}
    for works in (False, True):
        done = place.run("deploy/local/bootstrap", variables=variables)
        assert done.returncode == 0, done.stderr
        called = (place.project / "called").read_text().splitlines()
        assert len(called) == 1 + works
        assert called[-1].startswith(" pip install ")
        assert called[-1].endswith(" --require-hashes -r requirements-dev.lock")
        (packages,) = environment.glob("lib/*/site-packages")
        by_pip = "" if works else "installed = 'by pip'\n"
        assert (packages / "pip_audit.py").read_text() == by_pip
        assert ("trying with pip" in done.stderr) is not works
        assert not (environment / "half").exists()
        # the next run finds uv working, and what an interrupted one has left: ``installed`` is
        # written last
        (environment / "installed").unlink()
        (environment / "half").touch()
        (place.project / "works").touch()


def test_make_commands_wait_for_each_other(place: Place) -> None:
    """Two commands at once would start, stop or remove the same things."""
    lock = ["flock", str(place.project), "sh", "-c", "echo locked; sleep 1.5; echo released"]
    with subprocess.Popen(lock, stdout=subprocess.PIPE, text=True) as holder:  # noqa: S603
        assert holder.stdout
        assert holder.stdout.readline() == "locked\n"
        clean = place.run("make", "clean", variables={})
        assert holder.stdout.readline() == "released\n"
    assert clean.returncode == 0, clean.stderr
    assert "Another make up, down or clean is at work here: waiting for its end" in clean.stderr


def stored(place: Place) -> Path:
    """Have a RabbitMQ of this project store something; return where."""
    data = place.project / ".run" / "rabbitmq" / "data"
    data.mkdir(parents=True)
    (data / "requests").write_text("accepted")
    return data / "requests"


def test_clean_deletes_accepted_requests_only_with_yes(place: Place) -> None:
    """Where nobody can be asked; passwords and data are left alone otherwise."""
    requests = stored(place)
    refused = place.run("make", "clean", variables={})
    assert refused.returncode == 2
    assert "every accepted request" in refused.stderr
    assert "Nothing was deleted. To delete it without being asked:  make clean YES=1" in (
        refused.stderr
    )
    assert requests.exists()
    assert (place.project / ".secrets" / "kept").exists()
    assert (place.project / ".venv").exists()
    (place.project / ".env").write_text("CONNECTORS=5\n")
    cleaned = place.run("make", "clean", "YES=1", variables={})
    assert cleaned.returncode == 0, cleaned.stderr
    left = {each.name for each in place.project.iterdir()}
    assert not left & {".run", ".secrets", ".venv"}
    assert ".env" in left, "it is its owner's"


@pytest.mark.parametrize(("answer", "deleted"), [("", False), ("n", False), ("y", True)])
def test_clean_asks_at_a_terminal(place: Place, answer: str, deleted: bool) -> None:  # noqa: FBT001
    requests = stored(place)
    terminal, shown = os.openpty()
    with subprocess.Popen(
        ["make", "clean"],  # noqa: S607
        cwd=place.project,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        stdin=shown,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as clean:
        os.write(terminal, f"{answer}\n".encode())
        assert clean.wait(60) == (0 if deleted else 2)
    os.close(terminal)
    os.close(shown)
    assert requests.exists() is not deleted


def test_down_and_clean_work_without_venv(place: Place) -> None:
    """What runs is found without it, here a process that has the stack's mark."""
    (place.project / ".venv" / "bin" / "python").unlink()
    for command in ("down", "clean"):
        with subprocess.Popen(
            [sys.executable, "-c", "import time; print('runs', flush=True); time.sleep(60)"],
            cwd=place.project,
            env={"SMART_GRID_STACK": "x", "SUPERVISOR_PROCESS_NAME": "api"},
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout
            process.stdout.readline()
            done = place.run("make", command, variables={})
            assert done.returncode == 0, done.stderr
            assert f"api ({process.pid})" in done.stdout
            assert process.wait() == -15
    assert not (place.project / ".secrets").exists()


@pytest.mark.parametrize("command", ["up", "down", "status", "restart", "clean", "load"])
@pytest.mark.parametrize("folder", [".run", ".secrets"])
def test_scripts_refuse_a_folder_of_another_user(command: str, folder: str) -> None:
    """Another user's stack is not reported as absent, and is not changed."""
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)
        project = copy_project(Path(temporary) / "project")
        (project / folder).mkdir()
        (project / folder).chmod(0)
        refused = subprocess.run(  # noqa: S603
            [project / "deploy" / "run", command],
            cwd=project,
            env={"PATH": "/usr/bin:/bin"},
            user=NOBODY if os.getuid() == 0 else None,
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode == 1
        assert f"{project / folder} cannot be used by" in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert (project / folder).exists()
        (project / folder).chmod(0o700)


def test_process_ids_from_before_a_reboot_are_not_signalled(place: Place) -> None:
    """The processes are gone, and another one may have their id."""
    state = place.project / ".run"
    with subprocess.Popen(["sleep", "60"], cwd=place.project) as other:  # noqa: S607
        (state / "stack.json").write_text('{"mode": "local", "ports": {}, "listening": [7000]}')
        (state / "supervisord.pid").write_text(f"{other.pid}\n")
        (state / "rabbitmq").mkdir()
        (state / "rabbitmq" / "lock").write_text(f"{other.pid}\n")
        status = place.run("make", "status", variables={})
        assert "Nothing runs: start it with  make up" in status.stderr
        assert place.run("make", "down", variables={}).stdout == "Nothing runs.\n"
        cleaned = place.run("make", "clean", variables={})
        assert cleaned.returncode == 0, cleaned.stderr
        assert other.poll() is None
        other.kill()
    assert not state.exists()
