"""What the system allows in open files, and how its refusals are told from other errors."""

from __future__ import annotations

import errno
import resource
import sys

import pytest

from grid.connection_limits import limits
from grid.descriptors import is_exhausted, raise_limit


class FakeSystem:
    """Has limits of its own; ``unlimited`` ones it may refuse to set, as macOS does."""

    def __init__(self, soft: int, hard: int, *, refuses: bool = False) -> None:
        self.now = (soft, hard)
        self._refuses = refuses

    def get(self, _: int) -> tuple[int, int]:
        """Return the limits."""
        return self.now

    def set(self, _: int, limits: tuple[int, int]) -> None:
        """Change the limits."""
        if self._refuses:
            raise ValueError("current limit exceeds maximum limit")
        self.now = limits


@pytest.mark.parametrize(
    ("system", "found", "left"),
    [
        (FakeSystem(1024, 4096), (1024, 4096), (4096, 4096)),
        (FakeSystem(4096, 4096), (4096, 4096), (4096, 4096)),
        (FakeSystem(256, -1, refuses=True), (256, 256), (256, -1)),
        (FakeSystem(256, -1), (256, sys.maxsize), (-1, -1)),
    ],
)
def test_descriptors_soft_limit_is_raised_to_the_hard_one(
    monkeypatch: pytest.MonkeyPatch,
    system: FakeSystem,
    found: tuple[int, int],
    left: tuple[int, int],
) -> None:
    """Where the system lets it; and no limit is a high one, not one below none."""
    assert resource.RLIM_INFINITY == -1  # as on Linux
    monkeypatch.setattr(resource, "getrlimit", system.get)
    monkeypatch.setattr(resource, "setrlimit", system.set)
    assert raise_limit() == found
    assert system.now == left
    assert limits(found[1], 2000, None).total == min(2000, found[1] // 2)


def test_descriptors_exhaustion_is_told_from_other_errors() -> None:
    """Files and buffers are there again soon; a file that does not exist is not."""
    assert is_exhausted(OSError(errno.EMFILE, "Too many open files"))
    assert is_exhausted(OSError(errno.ENFILE, "Too many open files in system"))
    assert not is_exhausted(OSError(errno.ENOENT, "No such file"))
    assert not is_exhausted(ValueError("Too many open files"))
