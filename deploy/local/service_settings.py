"""The settings of each service, to check what it is given.

To import them takes longer than all else that most commands do: only what starts a service does so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from api.settings import ApiSettings
from dispatcher.settings import DispatcherSettings
from grid.settings import Settings, parse
from substation.settings import SubstationSettings

_SETTINGS: Final[Mapping[str, type[Settings]]] = {
    "api": ApiSettings,
    "dispatcher": DispatcherSettings,
    "substation": SubstationSettings,
}


def variables(module: str) -> set[str | None]:
    """Return the names of the variables that a service reads."""
    return {field.alias for field in _SETTINGS[module].model_fields.values()}


def check(module: str, environment: Mapping[str, str]) -> None:
    """Raise ``ConfigurationError`` if a service could not start with these variables."""
    parse(_SETTINGS[module], environment)
