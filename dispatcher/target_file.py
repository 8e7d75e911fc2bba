"""The target file on disk, which is followed while the dispatcher runs."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from dispatcher import targets
from dispatcher.targets import Target
from grid.errors import ConfigurationError
from grid.files import content_of
from grid.threads import in_thread

log = logging.getLogger(__name__)

MAX_BYTES: Final = 16 * 1024 * 1024  # some hundred thousand substations
READ_SECONDS: Final = 5.0  # after that, the disk counts as not answering

NOT_READ: Final = "the target file has not been read yet"

Found = dict[str, Target] | None


class TargetFile:
    """The target file, applied whenever its content has changed.

    The content is read and compared each time: Kubernetes swaps the link to a file for one of the
    same size and time. ``problem`` is why the file is not applied.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: bytes | None = None
        self._looking: asyncio.Future[Found] | None = None
        self.problem: str | None = NOT_READ

    async def look(self) -> Found:
        """Return ``read_change()`` without blocking the loop; None while the disk is silent."""
        if self._looking is None:
            self._looking = in_thread(self.read_change, "target file")
        await asyncio.wait({self._looking}, timeout=READ_SECONDS)
        if not self._looking.done():
            self._say(f"it could not be read in {READ_SECONDS:g} s; the disk does not answer")
            return None
        looking, self._looking = self._looking, None
        return looking.result()

    def read_change(self) -> Found:
        """Read the file, and return its targets if it has changed and is valid; else None.

        A missing or invalid file leaves the targets as they were, and is logged once.
        """
        try:
            content = content_of(self._path, MAX_BYTES)
        except OSError as error:
            self._seen = None  # it may come back just as it was
            self._say(error.strerror if error.errno == 0 and error.strerror else str(error))
            return None
        if content == self._seen:
            return None
        self._seen = content
        return self._parse(content)

    def mark_unusable(self, problem: str) -> None:
        """Record why the targets could not be applied, so that it is tried again."""
        self._seen, self.problem = None, problem

    def _parse(self, content: bytes) -> Found:
        try:
            found = targets.parse(content, self._path.suffix)
        except ConfigurationError as error:
            self._say(str(error))
            return None
        self._say(None)
        return found

    def _say(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            log.error("the target file %s is not applied: %s", self._path, problem)
        self.problem = problem
