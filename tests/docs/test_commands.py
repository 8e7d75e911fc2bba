"""Every command of the documentation is run, in a copy of the project, as its reader would."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from deploy import stack
from tests.deploy.clones import own_ports
from tests.deploy.copies import add_venv, copy_project
from tests.docs import commands
from tests.docs.commands import INSTEAD, NOT_RUN, ROOT, Command

BESIDE: Final = (".env.example", "CHANGELOG.md", "README.md", "bench", "docs", "tests")
END: Final = "\0"  # between what commands print and their exit status
_PORT: Final = re.compile(r"(?<=localhost:)\d{4,5}\b|(?<=127\.0\.0\.1:)\d{4,5}\b|\b910[1-3]\b")
PAGES: Final = commands.pages()
RUN: Final = [page for page in PAGES if commands.to_run(page)]


def test_documented_commands_that_are_not_run_as_they_stand_are_still_documented() -> None:
    """A reason for a command that is gone would hide the next one of that name."""
    found = {each.plain for page in PAGES for each in commands.commands(page)}
    assert ({*NOT_RUN} | {*INSTEAD}) - found == set()


def test_blocks_of_commands_are_marked_as_such() -> None:
    """One without a language would be left out."""
    begins = re.compile(r"(?:\w+=\S* )*(?:\$ |make |curl |docker |python3? |\.venv/)")
    unmarked = [
        f"{page.relative_to(ROOT)}: {block.text}"
        for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
        for block in commands.blocks(page)
        if not block.kind and begins.match(block.text)
    ]
    assert unmarked == []


def test_make_targets_in_the_documentation_exist() -> None:
    """Also those within sentences."""
    makefile = (ROOT / "Makefile").read_text()
    targets = {*re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)}
    pages = [ROOT / "SECURITY.md", ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    named = {
        target
        for page in (*pages, *(ROOT / "docs").rglob("*.md"))
        for target in re.findall(r"`(?:[A-Z_]+=\S+ )*make ([a-z-]+)", page.read_text("utf-8"))
    }
    assert named - targets == set()
    assert "demo" in named


@pytest.mark.parametrize(
    ("expected", "printed", "matches"),
    [
        ("true", "true\n", True),
        ("{…}", '{"id": 1,\n "x": 2}', True),
        ("one\n…\ntwo", "one\ntwo", True),
        ("one\n…\ntwo", "one\nand\na half\ntwo", True),
        ("one\n…\ntwo", "two\none", False),
        ("a.c", "abc", False),
    ],
)
def test_what_a_page_says_is_compared_with_what_is_printed(
    expected: str, printed: str, *, matches: bool
) -> None:
    assert (commands.pattern(expected).search(printed) is not None) == matches


class Reader:
    """Somebody who follows the pages in a copy of the project, whose stack has ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = copy_project(folder)
        for name in BESIDE:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / name)
        add_venv(folder)
        self.ports = own_ports()
        self._api = {"API_URL": f"http://localhost:{self.ports[stack.API]}"}  # the usual one
        (folder / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")

    def follow(self, page: Path) -> list[str]:
        """Run the commands of a page one after another; return what went wrong."""
        for block in commands.blocks(page):
            if block.title:
                (self.folder / block.title).write_text(self._here(block.text))
        run = commands.to_run(page)
        said = self.call("".join(f'{self._as_run(each)}\nprintf "\\0%s\\0" $?\n' for each in run))
        results = said.split(END)
        assert len(results) == 2 * len(run) + 1, said
        return [
            f"{command.plain}\nended with {status}:\n{output}"
            for command, output, status in zip(run, results[::2], results[1::2], strict=False)
            if not _is_as_expected(command, output, status)
        ]

    def call(self, script: str) -> str:
        """Run a script in the copy; return all that it prints."""
        ports = {name: str(port) for name, port in self.ports.items()}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        home = str(self.folder)
        return subprocess.run(  # noqa: S603
            ["bash", "-c", script],  # noqa: S607
            cwd=self.folder,
            env={
                "PATH": path,
                "HOME": home,
                "CURL_HOME": home,
                "MODE": "local",
                **self._api,
                **ports,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        ).stdout

    def make_anew(self) -> None:
        """Have the stack run with its defaults, whatever the page before has left."""
        for name in (".env", ".venv"):
            file = self.folder / name
            shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
        add_venv(self.folder)
        said = self.call("make up")
        assert "Everything runs" in said, said

    def _as_run(self, command: Command) -> str:
        return self._here(commands.as_run(command))

    def _here(self, text: str) -> str:
        """Return a text with the ports of this copy's stack in place of the usual ones."""
        moved = {usual: self.ports[variable] for variable, usual in stack.PORTS.items()}
        first, own = stack.PORTS[stack.SUBSTATIONS], self.ports[stack.SUBSTATIONS]
        moved |= {first + number: own + number for number in range(3)}
        return _PORT.sub(lambda found: str(moved.get(int(found[0]), found[0])), text)


def _is_as_expected(command: Command, output: str, status: str) -> bool:
    """Return whether a command has printed what its page says; else, whether it succeeded."""
    if command.expected:
        return commands.pattern(command.expected).search(output) is not None
    return status == "0"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Return a reader; nothing that was started runs afterwards."""
    reader = Reader(tmp_path_factory.mktemp("reader") / "project")
    targets = reader.folder / "deploy" / "local" / "substations.json"
    groups = json.loads(targets.read_text())
    targets.write_text(json.dumps(groups[:3]))
    try:
        yield reader
    finally:
        reader.call("make down")


@pytest.mark.e2e
@pytest.mark.integration
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_do_what_it_says(reader: Reader, page: Path) -> None:
    if page != PAGES[0]:  # which starts the stack
        reader.make_anew()
    assert reader.follow(page) == []
