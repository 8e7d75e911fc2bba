"""By which rules waiting jobs are scheduled."""

from __future__ import annotations

from typing import NamedTuple

from scheduling.order import Order
from scheduling.policies import Policy


class Rules(NamedTuple):
    """The rules of a scheduler.

    Args:
        order: Which of the waiting jobs is next.
        policy: Which of the substations with capacity gets it.
        charge_speed: How many seconds of charging pass in one: above 1 in a simulation.
        send_ahead: Whether one job is dispatched ahead to a full substation.
    """

    order: Order
    policy: Policy
    charge_speed: float = 1.0
    send_ahead: bool = True
