"""One set of type adapters for all apps that the tests make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, get_args

import pytest
from pydantic import TypeAdapter

_ADAPTERS: Final[dict[tuple[object, str], TypeAdapter[Any]]] = {}


@pytest.fixture(autouse=True, scope="session")
def _apps_share_type_adapters() -> Iterator[None]:
    """Build the validator of a type once: for each app, FastAPI builds more than 80 anew.

    That takes two thirds of the time in which an app is made, and nearly every test makes one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastapi._compat.v2.TypeAdapter", _shared_adapter)
        yield


def _shared_adapter(type_: Any, **options: Any) -> TypeAdapter[Any]:  # noqa: ANN401
    annotated, *metadata = get_args(type_)
    # the adapter keeps what its metadata refers to, so that no later object has the same address
    key = annotated, f"{metadata} {options}"
    if key not in _ADAPTERS:
        _ADAPTERS[key] = TypeAdapter(type_, **options)
    return _ADAPTERS[key]
