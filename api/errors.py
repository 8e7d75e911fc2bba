"""The api's own errors, which ``api.problems`` turns into answers."""

from __future__ import annotations

from grid.errors import BrokerUnavailable, GridError, InvalidField


class NotCaughtUp(GridError):
    """The event log has not been read to its end yet, so it is not known what it holds."""


class TooManyStreams(GridError):
    """As many clients follow the events as one api serves."""


class NotFound(GridError):
    """There is no such job or substation."""


class UnknownJob(NotFound):
    """There is no such job."""


class UnknownSubstation(NotFound):
    """There is no such substation."""


class AlreadyEnded(GridError):
    """A job cannot be cancelled: it has ended otherwise."""


class NotJson(GridError):
    """A body is not declared as JSON."""


class MalformedJson(InvalidField):
    """A body is declared as JSON, and is not."""


class ImpossibleRequest(InvalidField):
    """A request that no substation can ever take."""


class KeyReused(InvalidField):
    """An Idempotency-Key that was used for another request before."""


class PartlyAccepted(BrokerUnavailable):
    """RabbitMQ confirmed some requests of a list and not the others.

    ``accepted`` are the ids of the confirmed ones.
    """

    def __init__(self, accepted: list[str], cause: BrokerUnavailable) -> None:
        super().__init__(f"{len(accepted)} of the list were accepted, then: {cause}")
        self.accepted = accepted
