"""What an operator does through the api."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

from tests.system import System

KEY: Final = "the-operators-key"
OPERATOR: Final = {"Authorization": f"Bearer {KEY}"}
OK: Final = 200


def operated(folder: Path) -> dict[str, str]:
    """Return the environment of an api that knows the operator's key, kept in that folder."""
    file = folder / "operator-keys"
    file.write_text(f"depot operator {sha256(KEY.encode()).hexdigest()}\n")
    return {"OPERATOR_KEYS_FILE": str(file)}


def put(system: System, name: str, **body: object) -> None:
    """Set what an operator wants of a substation."""
    path = f"/substations/{name}"
    system.until(lambda: system.call("api", "PUT", path, body, OPERATOR)[0] == OK, f"{name} is set")
