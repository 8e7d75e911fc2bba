"""``docs/architecture.md`` names what there is: files, methods, inputs, commands and states."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from dispatcher import commands, inputs
from dispatcher.jobs import JobState
from dispatcher.recognition import DropReason

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "architecture.md").read_text()
# where a file may be that is named without its folder
FOLDERS = ("", "dispatcher", "scheduling", "docs", "docs/examples")
MODULES = {
    "BookedJobs": "dispatcher.booked_jobs",
    "Core": "dispatcher.core",
    "Deliveries": "dispatcher.deliveries",
    "Lifecycle": "dispatcher.lifecycle",
    "OpenJobs": "dispatcher.open_jobs",
    "Promises": "dispatcher.promises",
    "Queues": "dispatcher.queues",
    "ReclaimedJobs": "dispatcher.reclaimed_jobs",
    "Recognition": "dispatcher.recognition",
    "Scheduler": "scheduling.scheduler",
    "Shell": "dispatcher.shell",
    "Worker": "substation.worker",
}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\b[\w/]+\.py\b", TEXT))))
def test_architecture_names_files_that_exist(name: str) -> None:
    """With their folder, or as files of one that is often named."""
    assert any((ROOT / folder / name).exists() for folder in FOLDERS)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([A-Z]\w+\.\w+)`", TEXT))))
def test_architecture_names_methods_that_exist(name: str) -> None:
    """A renamed method is renamed in the document as well."""
    owner, method = name.split(".")
    assert callable(getattr(getattr(import_module(MODULES[owner]), owner), method))


def test_architecture_names_inputs_and_commands_that_exist() -> None:
    """In its tables and in its pictures."""
    known = {each.__name__ for each in (*get_args(inputs.Input), *get_args(commands.Command))}
    others = MODULES.keys() | {DropReason.__name__}
    assert set(re.findall(r"\b(?:[A-Z][a-z]+){2,}\b", TEXT)) <= known | others


def test_architecture_shows_every_state_of_a_job_and_no_other() -> None:
    """As words in capitals in its pictures."""
    pictures = "".join(re.findall(r"^```$(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))
    shown = set(re.findall(r"\b[A-Z]{4,}\b", pictures)) - {"POST"}
    assert shown == {each.name for each in JobState}
