"""Idempotency keys: the same key leads to the same job, whichever api is asked. Pure.

Source: the IETF's draft on the header Idempotency-Key. No api keeps a list of keys: the job's id is
derived from the key, so every api derives the same id, and the event log shows whether that job
exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from api.errors import KeyReused
from grid.messages import ChargeRequest

HEADER: Final = "Idempotency-Key"
KEY_PATTERN: Final = r"^[\x21-\x7e]{1,255}$"
_PREFIX: Final = "key-"
_ITS_OWN: Final = frozenset({"id", "requested_at"})  # fields that the client does not set


def job_id(caller: str, key: str, number: int = 0) -> str:
    """Return the job's id for a caller's key; ``number`` counts within a list.

    The same key of two callers leads to two ids.
    """
    digest = sha256("\0".join((caller, key, str(number))).encode()).hexdigest()
    return f"{_PREFIX}{digest[:32]}"


def is_keyed(id: str) -> bool:
    """Return whether a job's id was derived from a key, so that its request may be repeated."""
    return id.startswith(_PREFIX)


def check_same(request: ChargeRequest, before: Mapping[str, Any], where: str = "") -> None:
    """Check that a request asks for the same as ``before``, if that is on record.

    Raise ``KeyReused`` if the key was used for another request.
    """
    now = {name: value for name, value in request.fields().items() if name not in _ITS_OWN}
    then = {name: value for name, value in before.items() if name not in _ITS_OWN}
    if "tenant" not in then:  # an api of an earlier version recorded none
        now.pop("tenant", None)
    if before and _plain(now) != _plain(then):
        problem = "was used for another request before: a new request needs a new key"
        raise KeyReused(f"{where}{HEADER}", problem)


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields as they are after a round trip through JSON; a priority of 0 is omitted."""
    plain = {n: list(v) if isinstance(v, tuple) else v for n, v in fields.items()}
    return {name: value for name, value in plain.items() if (name, value) != ("priority", 0)}
