"""The policy that the setting ``POLICY`` names: one of the project's, or a class of one's own."""

from __future__ import annotations

from importlib import import_module

from grid.errors import ConfigurationError
from scheduling.policies import POLICIES, Policy


def policy(name: str) -> Policy:
    """Return a new policy, by its name or by the import path of its class.

    Raises:
        ConfigurationError: There is none of that name, or it cannot be imported or created.
    """
    if (found := POLICIES.get(name)) is not None:
        return found()
    if "." not in name:
        raise ConfigurationError(
            f"there is no policy {name!r}: choose of {', '.join(POLICIES)}, or name a class by its "
            "import path, as in package.module.Class"
        )
    return _imported(name)


def _imported(path: str) -> Policy:
    module, _, name = path.rpartition(".")
    try:
        made: Policy = getattr(import_module(module), name)()
    except Exception as error:  # another package's code may raise anything
        raise ConfigurationError(
            f"the policy {path!r} cannot be imported or created: {error!r}"
        ) from error
    if not (isinstance(getattr(made, "name", None), str) and callable(getattr(made, "pick", None))):
        raise ConfigurationError(
            f"the policy {path!r} must have a name and a method pick(candidates, random)"
        )
    return made
