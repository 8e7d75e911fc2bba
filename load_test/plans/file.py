"""Reading a plan from a file, JSON or YAML."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from grid.errors import ConfigurationError
from grid.files import text_of
from grid.messages import shown
from load_test.plans.plan import Plan
from load_test.plans.values import checked


def read(path: Path) -> Plan:
    """Return the plan that a file describes.

    Raise ``ConfigurationError`` that names the file and the path of each wrong value.
    """
    text = text_of("--file", path)
    try:
        value = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        if not isinstance(value, dict):
            raise ConfigurationError(f"it must be an object with a schedule, got {shown(value)}")
        return checked(Plan, value)
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"--file {path}: not {_kind(path)}: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"--file {path}: {error}") from error


def _kind(path: Path) -> str:
    return "JSON" if path.suffix == ".json" else "YAML"
