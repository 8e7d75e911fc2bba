"""Copies of the project for tests that start it."""

from __future__ import annotations

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
