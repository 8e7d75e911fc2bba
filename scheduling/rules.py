"""By which rules waiting jobs are scheduled."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from scheduling.order import Order
from scheduling.policies import Policy
from scheduling.reserve import Reserve


class Rules(NamedTuple):
    """The rules of a scheduler.

    Args:
        order: Which of the waiting jobs is next.
        policy: Which of the substations with capacity gets it.
        charge_speed: How many seconds of charging pass in one: above 1 in a simulation.
        send_ahead: Whether one job is dispatched ahead to a full substation.
        weights: The tenants' shares, where they are not 1.
        reserve: What is kept free for high priorities; None if nothing is.
    """

    order: Order
    policy: Policy
    charge_speed: float = 1.0
    send_ahead: bool = True
    weights: Mapping[str, float] = MappingProxyType({})
    reserve: Reserve | None = None
