"""Reading a file that may be anything but a file."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from grid.errors import ConfigurationError
from grid.files import content_of, text_of


def test_file_content_follows_a_link(tmp_path: Path) -> None:
    """A link may be replaced while it is used."""
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "link").symlink_to("one")
    assert content_of(tmp_path / "link") == b"1"


@pytest.mark.parametrize("kind", ["fifo", "folder", "socket", "device", "link to a fifo"])
def test_file_that_is_not_regular_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    """``open`` would wait for a writer of a FIFO for ever."""
    path = tmp_path / "file"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        os.mkfifo(tmp_path / "fifo")
        path.symlink_to("fifo")
    with pytest.raises(OSError, match="no regular file"):
        content_of(path)


def test_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """It is not read beyond the limit."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    assert content_of(path, 10) == b"x" * 10
    with pytest.raises(OSError, match="longer than 9 bytes"):
        content_of(path, 9)


def test_settings_refuse_a_password_file_without_end() -> None:
    """A file without end is named, with its variable."""
    with pytest.raises(ConfigurationError, match="KEYS=/dev/zero: is longer than 1048576 bytes"):
        text_of("KEYS", Path("/dev/zero"))
