"""What an operator does through the api."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.faults.stage import Stage

KEY: Final = "the-operators-key"
OK: Final = 200


def with_operator(folder: Path) -> dict[str, str]:
    """Return what has the api know the operator's key, which stands in that folder."""
    file = folder / "operator-keys"
    file.write_text(f"depot operator {sha256(KEY.encode()).hexdigest()}\n")
    return {"OPERATOR_KEYS_FILE": str(file)}


@contextmanager
def drained(stage: Stage, *substations: str) -> Iterator[None]:
    """Send nothing to these substations while the context lasts."""
    for name in substations:
        _set(stage, name, "draining")
    try:
        yield
    finally:
        for name in substations:
            _set(stage, name, "available")


def _set(stage: Stage, substation: str, state: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    path, body = f"/substations/{substation}", {"state": state}
    stage.system.until(
        lambda: stage.system.call("api", "PUT", path, body, headers)[0] == OK,
        f"{substation} is {state}",
    )
