"""``python3 -m deploy.docker.secrets``: in a container, make what .secrets lacks.

For a start by ``docker compose up`` alone. What is there is kept, except what ``make up`` has put
there of a broker and of keys of the caller's own: the compose file alone uses neither.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deploy import passwords, stack
from deploy.docker.compose import Compose
from grid.errors import GridError


def make(folder: Path, owner: tuple[int, int]) -> None:
    """Make the files that containers read, and give them to a user and a group by number.

    Raises:
        GridError: one of them is there, and cannot be read.
    """
    passwords.write_for_containers(folder, {}, Compose().substations())
    for path in (folder, *folder.rglob("*")):
        os.chown(path, *owner, follow_symlinks=False)


def main() -> int:
    """Make them, unless `make up` has; return the exit status."""
    if os.environ.get("WRITTEN"):
        return 0
    whose = stack.ROOT.stat()
    try:
        make(stack.SECRETS, (whose.st_uid, whose.st_gid))
    except GridError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
