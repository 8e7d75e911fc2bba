"""The committed copy of the OpenAPI document; ``python -m tests.api.document`` renews it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tests.api.harness import Bench

FILE: Final = Path(__file__).parents[2] / "docs" / "openapi.json"
COMMAND: Final = ".venv/bin/python -m tests.api.document"


def committed() -> Any:  # noqa: ANN401  # JSON
    """Return the committed document, which a test compares with the api's."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def text() -> str:
    """Return the document of an api that needs no key."""
    return json.dumps(Bench().app.openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
