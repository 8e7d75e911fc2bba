"""Requests that name themselves: the same key gives the same job, whichever api is asked. Pure.

Source: the IETF's draft on the header Idempotency-Key. No api keeps a list of keys: the job's id is
made of the key, so every api makes the same, and the event log tells whether there is such a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from grid.errors import InvalidField
from grid.messages import ChargeRequest

HEADER: Final = "Idempotency-Key"
KEY_PATTERN: Final = r"^[\x21-\x7e]{1,255}$"
_PREFIX: Final = "key-"
_ITS_OWN: Final = frozenset({"id", "requested_at"})  # fields that are not the client's


def job_id(caller: str, key: str, number: int = 0) -> str:
    """Give the id of the job that a caller's key stands for; ``number`` counts within a list.

    Callers do not meet in each other's keys.
    """
    digest = sha256("\0".join((caller, key, str(number))).encode()).hexdigest()
    return f"{_PREFIX}{digest[:32]}"


def is_keyed(id: str) -> bool:
    """Tell whether a job's id was made of a key, so that its request may come again."""
    return id.startswith(_PREFIX)


def check_same(request: ChargeRequest, before: Mapping[str, Any], where: str = "") -> None:
    """See that a request asks for what it asked for ``before``, if that is on record.

    Raises ``InvalidField`` where the same key comes with another request.
    """
    now = {name: value for name, value in request.fields().items() if name not in _ITS_OWN}
    then = {name: value for name, value in before.items() if name not in _ITS_OWN}
    if before and _plain(now) != _plain(then):
        problem = "was used for another request before: a new request needs a new key"
        raise InvalidField(f"{where}{HEADER}", problem)


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Give fields as they are once they have been through JSON; a priority of 0 is none."""
    plain = {n: list(v) if isinstance(v, tuple) else v for n, v in fields.items()}
    return {name: value for name, value in plain.items() if (name, value) != ("priority", 0)}
