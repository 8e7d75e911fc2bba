"""``python3 -m deploy.checkout``: can the project run from its folder?"""

from __future__ import annotations

import os
import re
import sys
from typing import Final

from deploy import stack

LONGEST: Final = 3000  # bytes: Linux allows paths of 4,095, and ours add some hundreds


CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def problem(folder: bytes) -> str | None:
    """Return why the project cannot run from a folder, and what to do; None if it can."""
    try:
        name = folder.decode()
    except UnicodeDecodeError:
        return _refusal(ascii(os.fsdecode(folder)), "is not UTF-8, and Python makes no .venv in it")
    if ":" in name:
        return _refusal(name, "has a colon, and Python makes no .venv in it")
    if CONTROL.search(name):
        return _refusal(ascii(name), "has a line break or another control character")
    if len(folder) > LONGEST:
        return _refusal(f"{name[:40]}…", f"has {len(folder)} bytes, and may have {LONGEST}")
    return None


def _refusal(name: str, why: str) -> str:
    return f"The project cannot run from here: the folder's path, {name}, {why}: move or rename it"


def main() -> int:
    """Check this project's folder."""
    if why := problem(os.fsencode(stack.ROOT)):
        sys.stderr.write(why + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
