"""``python -m tests.docs.reference``: write the pages that are generated from the code.

``FILES`` has them all, by their path; each is committed, and a test compares it with the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.api import document
from tests.docs import configuration, http, messages, metrics, runbook
from tests.docs.tables import GENERATED, code, table

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
COMMAND: Final = ".venv/bin/python -m tests.docs.reference"


def commands() -> str:
    """Return the page of the commands, from the Makefile."""
    found = re.findall(
        r"^([a-z-]+):.*## (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE
    )
    rows = ([code(f"make {name}"), text.replace("`", "")] for name, text in found)
    head = "# Commands\n\nAll of them work in a fresh clone; `make help` prints the same.\n\n"
    return GENERATED + head + table(["command", "what it does"], rows)


def decisions() -> str:
    """Return the list of the decision records, from their titles."""
    head = "# Decisions\n\nWhat the next reader would question, and why it is so.\n\n"
    lines = [
        f"- [{file.read_text('utf-8').splitlines()[0].removeprefix('# ')}]({file.name})\n"
        for file in sorted((DOCS / "decisions").glob("[0-9]*.md"))
    ]
    return GENERATED + head + "".join(lines)


FILES: Final[Mapping[Path, Callable[[], str]]] = {
    document.FILE: document.text,
    DOCS / "reference" / "commands.md": commands,
    DOCS / "reference" / "configuration.md": configuration.page,
    DOCS / "reference" / "metrics.md": metrics.page,
    DOCS / "reference" / "http.md": lambda: http.page(document.text()),
    DOCS / "reference" / "asyncapi.json": messages.text,
    DOCS / "reference" / "messages.md": messages.page,
    DOCS / "decisions" / "index.md": decisions,
    runbook.FILE: runbook.page,
}


def main() -> None:
    """Write all of them."""
    for path, content in FILES.items():
        path.write_text(content(), encoding="utf-8")


if __name__ == "__main__":
    main()
