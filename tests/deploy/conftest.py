"""Copies of the project for tests that start it, and promtool."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.clones import AWKWARD, DEEP, Clone, make_clone


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """Copy the project into a deep folder; nothing of it runs afterwards."""
    copy = make_clone(tmp_path / DEEP)
    yield copy
    copy.call("down")


@pytest.fixture
def awkward(tmp_path: Path) -> Iterator[Clone]:
    """Copy the project into a folder of a name that is as bad as can be; as above."""
    copy = make_clone(tmp_path / AWKWARD)
    yield copy
    copy.call("down")


@pytest.fixture(scope="session")
def promtool() -> str:
    """Return the path of promtool, which comes with Prometheus."""
    path = shutil.which("promtool")
    assert path, "promtool is not installed; it comes with Prometheus (apt-get install prometheus)"
    return path
