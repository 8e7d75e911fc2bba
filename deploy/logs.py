"""Reading what programs write, from a level on. The reading of a line is pure.

Our services write text or JSON, the supervisor text, RabbitMQ ``[info]``, Prometheus and Grafana
``level=info``.
"""

from __future__ import annotations

import os
import re
import selectors
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Final

from grid.errors import ConfigurationError

LEVELS: Final = ("debug", "info", "warning", "error")
LINES, LAST_LINES, FILTERED_LINES = (
    20,
    50,
    1000,
)  # from before; among the last there may be some of a level
_DEGREES: Final[Mapping[str, int]] = {
    **dict.fromkeys(("blat", "trac", "trace", "debu", "debug"), 0),
    **dict.fromkeys(("info", "notice"), 1),
    **dict.fromkeys(("warn", "warning"), 2),
    **dict.fromkeys(
        ("erro", "error", "eror", "crit", "critical", "alert", "emergency", "fatal"), 3
    ),
}
_WORD: Final = "|".join(sorted(_DEGREES, key=len, reverse=True))
_TIME: Final = r"\d{4}-\d\d-\d\d[T ][\d:.,]+(?:Z|[+-][\d:]+)?"
_LEVEL: Final = re.compile(
    rf'^(?:{_TIME} \[?|\{{.*?"level": ?"|.*?\b(?:level|lvl)=)({_WORD})\b', re.IGNORECASE
)
_TRACEBACK: Final = "Traceback (most recent call last)"
_READ_BYTES: Final = 65536


def level_named(word: str) -> int:
    """Return the degree of a level's name.

    Raises:
        ConfigurationError: it is none.
    """
    if word.lower() not in LEVELS:
        raise ConfigurationError(f"LEVEL={word}: must be {', '.join(LEVELS[:-1])} or {LEVELS[-1]}")
    return LEVELS.index(word.lower())


def level_of(line: str) -> int | None:
    """Return the degree of a line; None if it does not say, as the further lines of an error."""
    if line.startswith(_TRACEBACK):
        return LEVELS.index("error")
    found = _LEVEL.match(line)
    return _DEGREES[found.group(1).lower()] if found else None


class LevelFilter:
    """Lets lines of a level or a higher one through, with the further lines of each."""

    def __init__(self, least: int) -> None:
        self._least = least
        self._last: dict[str, int] = {}

    def shows(self, source: str, line: str) -> bool:
        """Return whether to show the next line of a source."""
        level = level_of(line)
        if level is None:
            level = self._last.get(source, LEVELS.index("info"))
        self._last[source] = level
        return level >= self._least


def follow(
    commands: Mapping[str, Sequence[str]], environment: Mapping[str, str] | None = None
) -> Iterator[tuple[str, str]]:
    """Run commands that write lines; yield each line with the name of its command.

    Without an environment, they have that of this process.
    """
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for name, command in commands.items():
            selector.register(
                stack.enter_context(_output(command, environment)), selectors.EVENT_READ, name
            )
        rests = dict.fromkeys(commands, b"")
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, _READ_BYTES)
                *lines, rests[key.data] = (rests[key.data] + data).split(b"\n")
                if not data:
                    selector.unregister(key.fileobj)
                    lines = [each for each in [rests[key.data]] if each]
                yield from ((key.data, each.decode(errors="replace")) for each in lines)


@contextmanager
def _output(command: Sequence[str], environment: Mapping[str, str] | None) -> Iterator[IO[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            yield process.stdout
        finally:
            process.terminate()
