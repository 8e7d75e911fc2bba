"""A clock that one process sees, and that a test can step while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

LIBRARIES: Final = Path("/usr/lib")
LIBRARY: Final = "faketime/libfaketime.so.1"
SEEN_WITHIN_SECONDS: Final = 1  # reading the file at each look at the clock slows a process


class SteppedClock:
    """The wall clock as one service sees it; its steady clock is left alone."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.step(0)

    def step(self, seconds: int) -> None:
        """Set the clock ahead of the true one by ``seconds``, or behind it if that is negative.

        The process sees it within ``SEEN_WITHIN_SECONDS``.
        """
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)

    def environment(self) -> dict[str, str]:
        """Return the variables that make a process see this clock.

        Fail if the library is not there: `make test` installs it.
        """
        found = sorted(LIBRARIES.glob(f"*/{LIBRARY}"))
        assert found, "libfaketime is not installed: `make test` installs Debian's package faketime"
        return {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(SEEN_WITHIN_SECONDS),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
