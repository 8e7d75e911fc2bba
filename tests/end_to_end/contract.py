"""What the running api's document cannot say: put right in requests that are meant to be taken.

Loaded by schemathesis itself, by the variable SCHEMATHESIS_HOOKS. A departure must be in the
future, of the substations that may charge the vehicle one must be there and have the power, and a
key must not have come with another request: the api's tests hold what becomes of such requests. A
wait takes its time. Blocks of a power limit must be in order, and end after they begin.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import schemathesis
from schemathesis import Case, HookContext
from schemathesis.generation import GenerationMode

LATER = "2099-12-31T23:59:59Z"
THERE = "substation1"
KEY = "Idempotency-Key"
RATED_KW = 400  # of each substation there
MAX_WAIT = 60
_keys = count(1)


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
    """Put right what holds today and here alone."""
    if case.query and "wait" in case.query:
        case.query["wait"] = _short(case.query["wait"])
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if case.headers and KEY in case.headers:
        case.headers[KEY] = f"key-{next(_keys)}"  # which came with no other request before
    for each in case.body if isinstance(case.body, list) else [case.body]:
        if isinstance(each, dict):
            _put_right(each)


def _short(wait: object) -> object:
    """Return no wait instead of one that the api would wait for; a wrong one stays as it is."""
    is_right = str(wait).isascii() and str(wait).isdigit() and int(str(wait)) <= MAX_WAIT
    return 0 if is_right else wait


def _put_right(request: dict[str, Any]) -> None:
    if request.get("departure_time") is not None:
        request["departure_time"] = LATER
    if request.get("earliest_start") is not None:
        request["earliest_start"] = "2000-01-01T00:00:00Z"
    if request.get("requested_power_kw") is not None:
        request["requested_power_kw"] = min(request["requested_power_kw"], RATED_KW)
    if request.get("eligible_substations") is not None:
        request["eligible_substations"][0] = THERE
    for number, block in enumerate(request.get("blocks") or ()):
        block["start"] = f"{2_000 + number}-01-01T00:00:00Z"
        block["end"] = f"{2_001 + number}-01-01T00:00:00Z"
