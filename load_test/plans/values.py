"""The values of a plan, each with its limits; an error says what is allowed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from grid.errors import ConfigurationError
from grid.messages import shown

MAX_SECONDS: Final = 7 * 86_400.0


def _above_0(what: str, value: float) -> float:
    if not (isfinite(value) and value > 0):
        raise ValueError(f"must be above 0{what}")
    return value


def _at_least_1(value: int) -> int:
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def _pair(value: object) -> object:
    """Return a number as the pair of itself."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (value, value) if is_number else value


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    low, high = value
    if not (0 < low <= high and isfinite(high)):
        raise ValueError("must be a number above 0, or two: the lowest and the highest")
    return value


def _duration(value: float) -> float:
    if not 0 < value <= MAX_SECONDS:
        raise ValueError(f"must be above 0 and at most {MAX_SECONDS:g} seconds")
    return value


def _moment(value: float) -> float:
    if not 0 <= value <= MAX_SECONDS:
        raise ValueError(f"must be from 0 to {MAX_SECONDS:g} seconds")
    return value


Count = Annotated[int, AfterValidator(_at_least_1)]
Rate = Annotated[float, AfterValidator(lambda value: _above_0(" a second", value))]
Positive = Annotated[float, AfterValidator(lambda value: _above_0("", value))]
Duration = Annotated[float, AfterValidator(_duration)]
Moment = Annotated[float, AfterValidator(_moment)]
Range = Annotated[tuple[float, float], BeforeValidator(_pair), AfterValidator(_rising)]


class Strict(BaseModel):
    """The base of all parts of a plan: a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def of(cls, **fields: object) -> Self:
        """Return a part with these fields. Raise ``ConfigurationError``, see ``checked``."""
        return checked(cls, fields)


_M = TypeVar("_M", bound=BaseModel)


def checked(model: type[_M], fields: Mapping[str, Any] | object) -> _M:
    """Return the model of some fields.

    Raise ``ConfigurationError`` that names each wrong value by its path.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        problems = [_problem(dict(each), fields) for each in error.errors(include_url=False)]
        raise ConfigurationError("; ".join(problems)) from error


def _problem(error: Mapping[str, Any], fields: object) -> str:
    path = _path(error["loc"], fields)
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{path} is missing"
    if error["type"] == "extra_forbidden":
        return f"{path} is not known: got {shown(error['input'])}"
    if error["type"].startswith("union_tag"):
        kinds = error["ctx"].get("expected_tags")
        return f"{path}.kind must be one of {kinds}" if kinds else f"{path}.kind is missing"
    message = message[:1].lower() + message[1:]
    return f"{path} {message}, got {_given(error['input'])}".strip()


def _given(value: object) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if number else shown(value)


def _path(place: tuple[int | str, ...], fields: object) -> str:
    """Return a path like ``vehicles[1].share``, without what pydantic adds for a union."""
    path = ""
    for step in place:
        if isinstance(fields, Mapping) and step not in fields and "kind" in fields:
            if step == fields["kind"]:
                continue
            fields = None
        if isinstance(step, int):
            path += f"[{step}]"
            fields = fields[step] if isinstance(fields, list | tuple) else None
        else:
            path += f".{step}" if path else step
            fields = fields.get(step) if isinstance(fields, Mapping) else None
    return path
