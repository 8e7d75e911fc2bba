"""The file that names the substations, as it is on disk: followed while the dispatcher runs."""

from __future__ import annotations

import logging
from pathlib import Path

from dispatcher import targets
from dispatcher.targets import Target
from grid.errors import ConfigurationError

log = logging.getLogger(__name__)


class TargetFile:
    """The target file, read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self.problem: str | None = None

    def changed(self) -> dict[str, Target] | None:
        """Give the targets if the file has changed and is sound; else None.

        A file that is missing or wrong leaves the targets as they were: it says so once.
        """
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return None
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            self._seen = ()  # it may come back just as it was
            self._say(str(error))
            return None
        self._seen = seen
        return self._parse(text)

    def _parse(self, text: str) -> dict[str, Target] | None:
        try:
            found = targets.parse(text)
        except ConfigurationError as error:
            self._say(str(error))
            return None
        self._say(None)
        return found

    def _say(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            log.error("%s is not taken over: %s", self._path, problem)
        self.problem = problem
