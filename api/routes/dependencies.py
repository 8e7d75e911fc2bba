"""Checks that several routes share, as FastAPI's dependencies."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from fastapi import Request

from api.errors import NotJson
from api.problems import MAX_FIELD_NAME
from grid.errors import InvalidField
from grid.messages import shown

_JSON: Final = re.compile(r"application/json|[\w!#$&^.+-]+/[\w!#$&^.+-]+\+json", re.ASCII)


async def check_query(request: Request) -> None:
    """Reject a parameter that is given more than once: one of its values would be ignored."""
    given = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in given.items():
        if count > 1:
            raise InvalidField(name[:MAX_FIELD_NAME], f"must be given once, got {count}")


async def check_json(request: Request) -> None:
    """Reject a body that is not declared as JSON: a page of another site could send it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not _JSON.fullmatch(kind) and await request.body():
        raise NotJson(
            "send the body with the header Content-Type: application/json, "
            f"got {shown(kind) if kind else 'none'}"
        )
