"""The api's own errors, which ``api.problems`` turns into answers."""

from __future__ import annotations

from grid.errors import BrokerUnavailable, GridError


class NotCaughtUp(GridError):
    """The event log has not been read to its end yet, so it is not known what it holds."""


class NotFound(GridError):
    """There is no such job or substation."""


class AlreadyEnded(GridError):
    """A job cannot be cancelled: it has ended otherwise."""


class NotJson(GridError):
    """A body is not declared as JSON."""


class PartlyAccepted(BrokerUnavailable):
    """RabbitMQ confirmed some requests of a list and not the others.

    ``accepted`` are the ids of the confirmed ones.
    """

    def __init__(self, accepted: list[str], cause: BrokerUnavailable) -> None:
        super().__init__(f"{len(accepted)} of the list were accepted, then: {cause}")
        self.accepted = accepted
