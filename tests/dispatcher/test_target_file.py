from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from dispatcher.target_file import TargetFile
from tests.dispatcher.served_pages import write


def found(file: TargetFile) -> list[str] | None:
    """Give the names a file newly gives."""
    targets = file.changed()
    return None if targets is None else list(targets)


def test_a_file_is_read_when_it_changes(tmp_path: Path) -> None:
    """Only a change gives targets; an empty list is one."""
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


def test_a_broken_file_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log says once what is wrong with it, readiness as long as it is wrong."""
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


def test_a_file_that_was_away_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing file is a problem only until it is back, be it the very same."""
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


def test_a_file_that_could_not_be_read_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hinders the reading may end without a change of the file: rights, a network folder."""
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
def test_a_file_of_anything_else_is_a_problem(tmp_path: Path, content: bytes) -> None:
    """Bytes that are no text are told of like any other mistake."""
    path = tmp_path / "targets.json"
    path.write_bytes(content)
    file = TargetFile(path)
    assert found(file) is None
    assert file.problem
