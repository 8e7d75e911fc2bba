"""From a folder of any name the project runs, or is refused at once with the reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from deploy import checkout
from tests.deploy.clones import own_ports
from tests.deploy.copies import copy_project

LONG: Final = "/".join(["a-folder-with-a-long-name-of-50-letters-all-in-all"] * 30)
GOOD: Final = (
    "plain",
    "two words",
    " space before and after ",
    "a[1]b",
    "a*b?c",
    "back\\slash",
    "it's",
    'say "so"',
    "both ' and \"",
    "100%done",
    "%(here)s",
    "$HOME",
    "`id`",
    "a #b",
    "a ;b",
    "~",
    "-dash",
    "&& false",
    "e\u0301",
    "充電",
    LONG,
)
BAD: Final = (
    (b"a:b", "colon"),
    (b"two\nlines", "line break"),
    (b"a\ttab", "control character"),
    (b"\x1b[31m", "control character"),
    (b"caf\xe9", "not UTF-8"),
    (b"x" * 3001, "3001 bytes"),
)
# everything that `make up` decides and writes, without starting anything
WRITE = """
import os, sys
os.chdir(sys.argv[1])
sys.path.insert(0, os.getcwd())
from deploy import checkout, files
from deploy.local import supervisor
from deploy.local.setup import Setup
assert checkout.main() == 0
setup = Setup.decide(os.environ, None)
setup.write_files()
files.own_folder(supervisor.LOGS)
files.write(supervisor.CONFIG, supervisor.config(setup.programs))
"""
READ = """
import os, sys
os.chdir(sys.argv[1])
sys.path.insert(0, os.getcwd())
from supervisor.options import ServerOptions
options = ServerOptions()
options.configfile = "/proc/self/cwd/.run/supervisord.conf"
options.realize(args=[])
for group in options.process_group_configs:
    for process in group.process_configs:
        print(process.command)
        for item in process.environment.items():
            print(*item, sep="=")
for config in options.server_configs:
    print("socket", config["file"])
"""


@pytest.fixture
def ports() -> dict[str, str]:
    """Return the variables that give a stack ports of its own."""
    return {name: str(port) for name, port in own_ports().items()}


def run(program: str, folder: Path, **variables: str) -> str:
    """Run a program about a folder; return what it prints."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program, str(folder)],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.integration
@pytest.mark.parametrize("name", GOOD)
def test_folder_name_does_not_appear_in_any_configuration(
    name: str, tmp_path: Path, ports: dict[str, str]
) -> None:
    """The supervisor reads what was meant, Prometheus finds its files, and all is plain ASCII."""
    project = copy_project(tmp_path / name / "project")
    assert checkout.problem(os.fsencode(project)) is None
    run(WRITE, project, **ports)
    read = run(READ, project)
    assert str(project) not in read
    assert read.isascii()
    [socket] = [line.split(" ", 1)[1] for line in read.splitlines() if line.startswith("socket ")]
    assert len(socket) < 90
    for file in (".run/rabbitmq/rabbitmq.conf", ".run/prometheus.yml"):
        text = (project / file).read_text()
        assert text.isascii()
        assert str(project) not in text
    checked = subprocess.run(
        ["promtool", "check", "config", "/proc/self/cwd/.run/prometheus.yml"],  # noqa: S607
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "2 rule files found" in checked.stdout
    named = [word for word in read.split() if "/proc/self/cwd/" in word]
    paths = {word.partition("/proc/self/cwd/")[2].strip("\"'") for word in named}
    assert {"deploy/local/lock.py", ".run/prometheus.yml", ".secrets/api"} <= paths


def test_folder_reached_through_a_link_is_the_same_stack(
    tmp_path: Path, ports: dict[str, str]
) -> None:
    """Whichever way somebody comes."""
    project = copy_project(tmp_path / "there")
    (tmp_path / "link").symlink_to(project)
    run(WRITE, tmp_path / "link", **ports)
    assert str(tmp_path) not in run(READ, project)


@pytest.mark.parametrize(("name", "words"), BAD)
def test_unusable_folder_is_refused_at_once(name: bytes, words: str, tmp_path: Path) -> None:
    """With the reason and what to do, before anything is installed or started."""
    why = checkout.problem(b"/somewhere/" + name)
    assert why
    assert words.replace("3001", "3012") in why
    assert "move or rename it" in why
    assert why.isprintable()
    if len(name) > 255:
        return
    folder = copy_project(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))))  # noqa: PTH118
    for command in (["make", "up"], ["deploy/local/bootstrap"]):
        refused = subprocess.run(  # noqa: S603
            command,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "MODE": "local"},
            capture_output=True,
            check=False,
            timeout=60,
        )
        said = refused.stderr.decode()
        assert refused.returncode != 0
        assert words in said
        assert "Traceback" not in said
        assert not (folder / ".venv").exists()


@pytest.mark.integration
@pytest.mark.parametrize("name", ["a[1]b", "a*b", "q?", "back\\slash", "100% it's 充電"])
def test_targets_file_elsewhere_may_have_any_name(name: str, tmp_path: Path) -> None:
    """Prometheus takes a file's name for a pattern: it is told of a link."""
    project = copy_project(tmp_path / "project")
    targets = tmp_path / name / "mine.json"
    targets.parent.mkdir()
    source = project / "deploy" / "local" / "substations.json"
    targets.write_bytes(source.read_bytes())
    # which ports its substations have is for the file to say: they may be taken
    program = WRITE.replace(
        "from deploy import",
        "import deploy.stack as s\ns.is_free = lambda _: True\nfrom deploy import",
    )
    run(program, project, SUBSTATIONS_FILE=str(targets))
    text = (project / ".run" / "prometheus.yml").read_text()
    checked = subprocess.run(
        ["promtool", "check", "config", "/proc/self/cwd/.run/prometheus.yml"],  # noqa: S607
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    if set(name) & set("[*?\\"):
        assert "/proc/self/cwd/.run/prometheus-targets.json" in text
        link = project / ".run" / "prometheus-targets.json"
        assert link.readlink() == targets
    else:
        assert "mine.json" in text
