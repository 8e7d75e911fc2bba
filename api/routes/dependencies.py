"""Checks that several routes share, as FastAPI's dependencies: bodies, queries, operators' keys."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeAlias

from fastapi import Depends, HTTPException, Path, Request
from fastapi.security import HTTPBearer

from api.auth import ApiKey, Scope
from api.errors import NotJson
from api.middleware import auth_result
from api.openapi import SECURITY_SCHEME, problem
from api.problems import MAX_FIELD_NAME
from grid.errors import InvalidField
from grid.messages import ID_PATTERN, shown

NO_KEYS: Final = (
    "no key is configured: `python -m api.new_key NAME operator` makes one; its line goes into the "
    "file of OPERATOR_KEYS_FILE, or of API_KEYS_FILE, which makes keys required for all requests"
)
NO_KEY: Final = "send an operator's key with the header Authorization: Bearer <key>"

# for the OpenAPI document: the key is checked once, by the middleware
BEARER: Final = HTTPBearer(
    scheme_name=SECURITY_SCHEME,
    description="A key of API_KEYS, API_KEYS_FILE or OPERATOR_KEYS_FILE.",
    auto_error=False,
)
OPERATOR_ERRORS: Final = {
    **problem(401, "The key is missing, or not known."),
    **problem(403, "The key does not have the scope operator."),
}
OperatorKey: TypeAlias = Any  # what ``Depends`` returns: FastAPI makes an ``ApiKey`` of it

JobId = Annotated[str, Path(pattern=ID_PATTERN, description="The id of a job.")]

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


def operator(*, has_keys: bool) -> OperatorKey:
    """Return a dependency that is the operator's key of a request.

    ``has_keys`` is whether any key is configured.
    """

    async def check(request: Request) -> ApiKey:
        keys = auth_result(request.scope).keys
        if not keys:
            detail = NO_KEY if has_keys else NO_KEYS
            raise HTTPException(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": "Bearer"})
        return _with_scope(keys, Scope.OPERATOR)

    return Depends(check)


def _with_scope(keys: Sequence[ApiKey], scope: Scope) -> ApiKey:
    """Return the entry of a key that has a scope. Raise ``HTTPException`` (403) if none has."""
    for key in keys:
        if key.scope is scope:
            return key
    raise HTTPException(
        HTTPStatus.FORBIDDEN, f'the key "{keys[0].name}" does not have the scope {scope}'
    )
