"""The command line: ``python -m load_test``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Final

from grid.errors import ConfigurationError, GridError
from load_test.exits import FAILED, INTERRUPTED, USAGE

SEND: Final = "run"
# The module of each command, whose ``main`` is called. Only that one is imported: importing numpy,
# which only some commands need, and aiohttp, which others do, takes most of the start-up time.
COMMANDS: Final[Mapping[str, str]] = {
    SEND: "load_test.command",
    "replay": "load_test.replay.command",
    "whatif": "load_test.whatif.command",
    "compare": "load_test.report.compare",
    "simulate": "load_test.simulation",
    "flood": "load_test.flood",
}


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command in ``argv`` (without one, the load test); return the exit status."""
    name, given = (argv[0], argv[1:]) if argv and argv[0] in COMMANDS else (SEND, argv)
    try:
        status: int = import_module(COMMANDS[name]).main(given, environ)
    except KeyboardInterrupt:
        return INTERRUPTED
    except GridError as error:
        sys.stderr.write(f"load_test: {error}\n")
        return USAGE if isinstance(error, ConfigurationError) else FAILED
    return status
