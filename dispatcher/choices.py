"""What ``POLICY`` and ``ORDER`` name: one of the project's classes, or a class of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from grid.errors import ConfigurationError
from scheduling.order import ORDERS, DeadlineOrder, Order
from scheduling.policies import POLICIES, Policy


def policy(name: str) -> Policy:
    """Return a new policy, by its name or by the import path of its class.

    Raises:
        ConfigurationError: There is none of that name, or it cannot be imported or created.
    """
    made: Policy = _new("policy", name, POLICIES, "pick(candidates, random)")
    return made


def order(name: str, due_after: Mapping[int, float]) -> Order:
    """Return a new order, by its name or by the import path of its class.

    ``due_after`` is when a job without a departure is due, in seconds by priority; one of the
    project's own orders heeds it.

    Raises:
        ConfigurationError: There is none of that name, or it cannot be imported or created.
    """
    if name == DeadlineOrder.name:
        return DeadlineOrder(due_after)
    made: Order = _new("order", name, ORDERS, "turns(jobs, free_at, now)")
    return made


def _new(kind: str, name: str, known: Mapping[str, Any], method: str) -> Any:  # noqa: ANN401
    if (found := known.get(name)) is not None:
        return found()
    if "." not in name:
        raise ConfigurationError(
            f"there is no {kind} {name!r}: choose of {', '.join(known)}, or name a class by its "
            "import path, as in package.module.Class"
        )
    module, _, class_name = name.rpartition(".")
    try:
        made = getattr(import_module(module), class_name)()
    except Exception as error:  # another package's code may raise anything
        raise ConfigurationError(
            f"the {kind} {name!r} cannot be imported or created: {error!r}"
        ) from error
    call = getattr(made, method.partition("(")[0], None)
    if not (isinstance(getattr(made, "name", None), str) and callable(call)):
        raise ConfigurationError(f"the {kind} {name!r} must have a name and a method {method}")
    return made
