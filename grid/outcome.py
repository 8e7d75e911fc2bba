"""How the publishing of a message ended. Pure."""

from __future__ import annotations

from enum import Enum


class Outcome(Enum):
    """The outcome of a published message."""

    CONFIRMED = "confirmed"
    REFUSED = "refused"  # a nack: the queue is at its limit, or lost its leader
    UNROUTABLE = "unroutable"  # no queue is bound there
    ABANDONED = "abandoned"  # unanswered when a link broke, and no longer wanted then
