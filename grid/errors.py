"""The one hierarchy of errors. Each says what was wrong, with its value, and what to do."""

from __future__ import annotations

from typing import Final

STILL_READING: Final = "the event log is still being read"  # why a reader of it is not ready


class GridError(Exception):
    """Anything this project refuses, or cannot do."""


class ConfigurationError(GridError):
    """A setting or a file of settings is wrong: the service must not start with it."""


class InvalidField(GridError):
    """One named field of a request is wrong.

    ``field`` is the field's name, ``problem`` what is wrong with it, value included.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class MalformedMessage(GridError):
    """Bytes from a queue are not a message of this contract: park them, and continue."""


class MalformedReading(GridError):
    """A metrics page has no usable load: do not choose that substation until it has one."""


class BrokerUnavailable(GridError):
    """RabbitMQ is away, blocks publishers or refuses the message: try again later."""
