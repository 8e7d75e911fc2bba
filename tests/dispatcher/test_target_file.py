from __future__ import annotations

import asyncio
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from dispatcher import target_file as module
from dispatcher.target_file import TargetFile
from grid.files import content_of
from tests.dispatcher.served_pages import write

TIMEOUT_SECONDS = 5.0


def found(file: TargetFile) -> list[str] | None:
    """Return the names in a file, or None if it has not changed."""
    targets = file.read_change()
    return None if targets is None else list(targets)


def test_target_file_is_read_when_it_changes(tmp_path: Path) -> None:
    """Only a changed file returns targets; an empty list is a valid change."""
    path = tmp_path / "targets.json"
    write(path, {"a": "h:1"})
    file = TargetFile(path)
    assert found(file) == ["a"]
    assert found(file) is None
    write(path, {"a": "h:1", "b": "h:2"})
    assert found(file) == ["a", "b"]
    write(path, {})
    assert found(file) == []
    assert file.problem is None


def test_target_file_that_is_invalid_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log reports the error once, readiness for as long as it lasts."""
    caplog.set_level(logging.ERROR)
    path = tmp_path / "targets.json"
    path.write_text('[{"targets": ["h:1"]}]')
    file = TargetFile(path)
    assert [found(file) for _ in range(3)] == [None] * 3
    assert file.problem is not None
    assert "entry 0 needs a label substation" in file.problem
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    write(path, {"a": "h:1"})
    assert found(file) == ["a"]
    assert file.problem is None


def test_target_file_that_was_missing_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing file is a problem only until it is back, even if unchanged."""
    path, away = tmp_path / "targets.json", tmp_path / "away"
    write(path, {"a": "h:1"})
    file = TargetFile(path)
    assert found(file) == ["a"]
    path.rename(away)
    assert found(file) is None
    assert found(file) is None
    assert "No such file" in str(file.problem)
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 1
    away.rename(path)
    assert found(file) == ["a"]
    assert file.problem is None


def test_target_file_that_could_not_be_read_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A problem may end without a change of the file: permissions, a network folder."""
    path = tmp_path / "targets.json"
    write(path, {"a": "h:1"})
    file = TargetFile(path)

    def refused(*_: Any, **__: Any) -> int:  # noqa: ANN401
        raise PermissionError(13, os.strerror(13))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        assert found(file) is None
        assert "Permission denied" in str(file.problem)
    assert found(file) == ["a"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[{\xff", b"\x00", b""])
def test_target_file_of_other_bytes_is_a_problem(tmp_path: Path, content: bytes) -> None:
    """Bytes that are not text are reported like any other error."""
    path = tmp_path / "targets.json"
    path.write_bytes(content)
    file = TargetFile(path)
    assert found(file) is None
    assert file.problem


def test_target_file_of_same_size_and_time_is_read_again(tmp_path: Path) -> None:
    """Its content decides, since a program that writes in place may set the time back."""
    path = tmp_path / "targets.json"
    write(path, {"a": "h:1"})
    file = TargetFile(path)
    assert found(file) == ["a"]
    before = path.stat()
    path.write_text(path.read_text().replace('"a"', '"b"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(file) == ["b"]


def test_target_file_link_that_is_swapped_is_followed(tmp_path: Path) -> None:
    """As Kubernetes replaces a ConfigMap: by ``..data``, a link to a folder."""
    for number, name in enumerate("ab"):
        folder = tmp_path / f"..{number}"
        folder.mkdir()
        write(folder / "targets.json", {name: "h:1"})
        os.utime(folder / "targets.json", (1, 1))
    data, path = tmp_path / "..data", tmp_path / "targets.json"
    data.symlink_to("..0")
    path.symlink_to("..data/targets.json")
    file = TargetFile(path)
    assert found(file) == ["a"]
    new = tmp_path / "..new"
    new.symlink_to("..1")
    new.replace(data)
    assert found(file) == ["b"]


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "too long", "wrong name"])
async def test_target_file_that_is_a_fifo_does_not_block(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a FIFO would block until it has a writer."""
    path, words = tmp_path / "targets.json", "no regular file"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "too long":
        monkeypatch.setattr(module, "MAX_BYTES", 10)
        write(path, {"a": "h:1"})
        words = "longer than 10 bytes"
    else:
        path = tmp_path / "targets.txt"
        path.write_text("[]")
        words = "name must end in .json, .yml or .yaml"
    file = TargetFile(path)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert await file.look() is None
    assert words in str(file.problem)


async def test_target_file_on_disk_that_hangs_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else waits for the disk; once it answers, the file is taken over."""
    path, answers = tmp_path / "targets.json", threading.Event()
    write(path, {"a": "h:1"})
    real, asked = content_of, 0

    def slow(path: Path, most: int) -> bytes:
        nonlocal asked
        asked += 1
        answers.wait(TIMEOUT_SECONDS)
        return real(path, most)

    monkeypatch.setattr(module, "content_of", slow)
    monkeypatch.setattr(module, "READ_SECONDS", 0.02)
    file = TargetFile(path)
    try:
        for _ in range(3):
            assert await file.look() is None
            assert "the disk does not answer" in str(file.problem)
        assert asked == 1, "one read is under way, not one a second"
    finally:
        answers.set()
    monkeypatch.setattr(module, "READ_SECONDS", TIMEOUT_SECONDS)
    targets = await file.look()
    assert targets is not None
    assert list(targets) == ["a"]
    assert file.problem is None
