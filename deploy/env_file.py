"""``python -m deploy.env_file COMMAND …``: run a command with the settings in ``.env``.

The caller's environment wins over the file; an empty variable there unsets a setting of the file.
Values are taken as they are written: nothing is replaced in them.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Final, NoReturn

from dotenv.parser import Binding, parse_stream

from deploy import environment as env
from deploy import stack
from deploy.files import read
from grid.errors import ConfigurationError, GridError

FILE: Final = stack.ROOT / ".env"
MODE: Final = "MODE"
NAMES: Final = (MODE, *stack.PORTS, *env.VARIABLES)


def settings(path: Path) -> dict[str, str]:
    """Return the settings of a file; none if there is no file.

    Raises:
        ConfigurationError: it cannot be read, or a line is not a setting of `make up`.
    """
    if not os.path.lexists(path):
        return {}
    bindings = list(parse_stream(StringIO(read(path))))
    return dict(_setting(path, each) for each in bindings if each.key or each.error)


def _setting(path: Path, binding: Binding) -> tuple[str, str]:
    """Return name and value; a value is not shown in an error, since it may hold a password."""
    text = binding.original.string
    blank_lines = text[: len(text) - len(text.lstrip())].count("\n")
    where = f"{path}, line {binding.original.line + blank_lines}"
    if binding.error or not binding.key or binding.value is None:
        raise ConfigurationError(f"{where}: must be NAME=value, a comment, or empty")
    if "\0" in binding.value:
        raise ConfigurationError(f"{where}: {binding.key}: must not hold a null character")
    if binding.key not in NAMES:
        similar = get_close_matches(binding.key.upper(), NAMES, n=1)
        hint = f"did you mean {similar[0]}?" if similar else ".env.example lists them all"
        raise ConfigurationError(f"{where}: {binding.key!r} is not a setting of make up: {hint}")
    return binding.key, binding.value


def merged(environment: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's environment, and each setting that it does not have.

    Address, user, password and TLS files of a broker belong together: another address in the
    environment drops those of the file.
    """
    address = environment.get(env.AMQP_URL)
    if address is not None and address != settings.get(env.AMQP_URL):
        settings = {name: value for name, value in settings.items() if name not in env.BROKER}
    return {**settings, **environment}


def exposure(path: Path, settings: Mapping[str, str]) -> str | None:
    """Return a hint if others may read a password in the file; None if not."""
    has_password = any("@" in url for url in settings.get(env.AMQP_URL, "").split(","))
    if not has_password or not path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return None
    return f"Others can read {path}, and {env.AMQP_URL} in it has a password:  chmod 600 .env"


def main(command: list[str]) -> NoReturn:
    """Become the command, found as a shell finds it; exit with the reason if that fails."""
    try:
        found = settings(FILE)
        if (hint := exposure(FILE, found)) is not None:
            sys.stderr.write(hint + "\n")
        variables = merged(os.environ, found)
    except GridError as error:
        sys.exit(str(error))
    program = shutil.which(command[0]) or command[0]
    os.execve(program, command, variables)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
