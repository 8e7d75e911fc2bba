"""The api as a client sees it: one method a route, which returns this package's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import aiohttp

from grid.errors import GridError
from grid.messages import shown
from load_test import records
from load_test.presence import Sample
from load_test.records import Job, Substation, UnexpectedAnswer

PAGE: Final = 1000
_ACCEPTED, _OK, _NOT_FOUND = 202, 200, 404
_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, connect=10)
_DEFAULT_PAUSE: Final = 1.0  # seconds, where an answer says "try again" but not when
_STALE_SECONDS: Final = 5.0  # an older load is not used
_IDLE_SECONDS: Final = 3.0  # shorter than the server's keep-alive, to avoid a race


class TryAgain(GridError):
    """The api could not take the request now; ``after`` is how many seconds to wait."""

    def __init__(self, problem: str, after: float = 0.0) -> None:
        super().__init__(problem)
        self.after = after


class Refused(GridError):
    """The api will not take this request, however often it is sent."""


class Accepted(NamedTuple):
    """The answer 202: the job's id, and its routing if that was known already."""

    job: str
    routed_to: str | None
    loads: Mapping[str, float]
    reason: str


class Snapshot(NamedTuple):
    """The substations as the dispatcher saw them at ``as_of`` (Unix seconds); None: never."""

    as_of: float | None
    substations: list[Substation]

    @property
    def sample(self) -> Sample | None:
        """Return the load of each substation; None if the dispatcher never wrote any."""
        if self.as_of is None:
            return None
        return Sample(self.as_of, {one.id: one.load for one in self.substations})


class Api:
    """A connection pool to the api at ``url``; use it as an asynchronous context manager.

    ``key`` is sent with every request, if the api needs one.

    Every method raises ``TryAgain`` if the api is away or overloaded, and ``UnexpectedAnswer`` if
    its answer does not follow this contract.
    """

    def __init__(self, url: str, *, key: str | None = None, connections: int = 500) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._connections = connections

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=_IDLE_SECONDS)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=_TIMEOUT, headers=self._headers
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def charge(self, body: Mapping[str, Any], *, wait: bool = True) -> Accepted:
        """Request charging; with ``wait`` the api holds its answer for the routing decision.

        Raise ``Refused`` if the api rejects the request itself.
        """
        headers = {} if wait else {"Prefer": "respond-async"}
        status, value = await self._call("POST", "/charge", json=body, headers=headers)
        if status != _ACCEPTED:
            raise Refused(f"{status} {_problem(value)}")
        return _accepted(value)

    async def job(self, job: str) -> Mapping[str, Any] | None:
        """Return the JSON object of one job, decision included; None if the api knows none."""
        status, value = await self._call("GET", f"/charge/{job}")
        return None if status == _NOT_FOUND else _object(status, value)

    async def jobs(self, after: str | None, **query: str) -> tuple[list[Job], str | None]:
        """Return the page of jobs after that one, oldest first, and the next page's ``after``."""
        params = {"limit": str(PAGE), **query} | ({} if after is None else {"after": after})
        status, value = await self._call("GET", "/charges", params=params)
        page = _object(status, value)
        return [records.job(one) for one in _list(page, "charges")], page.get("next")

    async def snapshot(self) -> Snapshot:
        """Return what the dispatcher knows of the substations."""
        page = _object(*await self._call("GET", "/substations"))
        substations = [_substation(one) for one in _list(page, "substations")]
        return Snapshot(_moment(page.get("as_of")), substations)

    async def substations(self) -> list[Substation]:
        """Return the substations that the dispatcher knows."""
        return (await self.snapshot()).substations

    async def _call(self, method: str, path: str, **more: Any) -> tuple[int, object]:  # noqa: ANN401  # aiohttp's own keywords
        try:
            async with self._session.request(method, self.url + path, **more) as response:
                if response.status in _TRY_AGAIN:
                    text = f"{response.status} {response.reason}"
                    raise TryAgain(text, _pause(response.headers.get("Retry-After")))
                return response.status, await response.json(content_type=None)
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
            raise TryAgain(f"no answer from {self.url}: {error or type(error).__name__}") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise UnexpectedAnswer(f"{method} {self.url}{path}: {error}") from error


def _pause(retry_after: str | None) -> float:
    # the header may be a date as well, which this api does not send
    return float(retry_after) if retry_after and retry_after.isdecimal() else _DEFAULT_PAUSE


def _accepted(value: object) -> Accepted:
    try:
        details = value["details"] or {}  # type: ignore[index]  # a wrong shape is caught below
        loads = details.get("loads") or {}
        return Accepted(
            job=value["id"],  # type: ignore[index]
            routed_to=details.get("routed_to"),
            loads={name: float(load) for name, load in loads.items()},
            reason=details.get("reason") or "",
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnexpectedAnswer(f"not an accepted request: {shown(value)}") from error


def _substation(value: Mapping[str, Any]) -> Substation:
    try:
        age = value.get("gauge_age_seconds")
        is_known = age is not None and age < _STALE_SECONDS
        load = float(value["load"]) if is_known else None
        return Substation(
            value["id"],
            value.get("connectors"),
            bool(value.get("eligible")),
            load,
            value.get("rated_power_kw"),
            value.get("background_power_kw"),
            value.get("limit"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnexpectedAnswer(f"not a substation: {shown(value)}") from error


def _moment(text: object) -> float | None:
    try:
        return None if text is None else datetime.fromisoformat(str(text)).timestamp()
    except ValueError as error:
        raise UnexpectedAnswer(f"not a time: {shown(text)}") from error


def _object(status: int, value: object) -> Mapping[str, Any]:
    if status != _OK or not isinstance(value, dict):
        raise UnexpectedAnswer(f"{status} {_problem(value)}")
    return value


def _list(value: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value.get(name), list):
        raise UnexpectedAnswer(f"no list {name!r} in {shown(value)}")
    return value[name]  # type: ignore[no-any-return]


def _problem(value: object) -> str:
    if isinstance(value, dict) and (value.get("detail") or value.get("title")):
        return str(value.get("detail") or value.get("title"))
    return shown(value)
