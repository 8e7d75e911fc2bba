"""The archives and the image of a version."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest

from deploy import release
from deploy.stack import ROOT
from grid.errors import GridError
from grid.version import version


def test_version_is_that_of_pyproject_and_the_changelog_describes_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version() == project["version"]
    release.check_changelog((ROOT / "CHANGELOG.md").read_text())
    with pytest.raises(GridError, match=r"CHANGELOG\.md has no section"):
        release.check_changelog("# Changelog\n\n## [Unreleased]\n")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with a commit of one file, beside which another is not committed."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "one").write_text("committed")
    author = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    for command in (("init", "-q"), ("add", "one"), (*author, "commit", "-q", "-m", "one")):
        subprocess.run(["git", *command], cwd=folder, check=True)  # noqa: S603, S607
    (folder / "two").write_text("not committed")
    return folder


def test_archive_holds_the_committed_tree_and_is_the_same_each_time(
    repository: Path, tmp_path: Path
) -> None:
    first, second = (release.archive("HEAD", tmp_path / to, repository) for to in ("a", "b"))
    assert first.name == f"smart-grid-dispatcher-{version()}.tar.gz"
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        files = [each.name for each in archive.getmembers() if each.isfile()]
    assert files == [f"smart-grid-dispatcher-{version()}/one"]


def test_checksums_are_read_by_sha256sum(tmp_path: Path) -> None:
    file = tmp_path / "one.tar.gz"
    file.write_bytes(b"content")
    release.write_checksums([file])
    check = ["sha256sum", "-c", release.CHECKSUMS]
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == 0  # noqa: S603
    file.write_bytes(b"other")
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == 1  # noqa: S603


def test_image_is_labelled_with_version_and_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what stands in for Docker: it writes down how it was called."""
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{tmp_path}/called"\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert release.docker_answers()
    assert release.build_image("0123abc") == f"smart-grid-dispatcher:{version()}"
    called = (tmp_path / "called").read_text().splitlines()
    assert f"org.opencontainers.image.version={version()}" in called
    assert "org.opencontainers.image.revision=0123abc" in called
    assert called[-1] == "."
