"""Looks up the names of substations, so that a slow name delays only its own page.

The system's own look-up is used, which knows ``/etc/hosts``, ``nsswitch.conf`` and a container
engine's names, and which blocks: each look-up has a thread, apart from all other work.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Final, NamedTuple

from aiohttp.abc import AbstractResolver, ResolveResult

from grid.threads import in_thread

log = logging.getLogger(__name__)

MAX_LOOK_UPS: Final = 256  # under way at once, a thread each; others wait for their turn
FRESH_SECONDS: Final = 10.0  # an answer is used without asking again
KEPT_SECONDS: Final = 300.0  # and so long where asking again has no answer
RETRY_SECONDS: Final = 1.0  # after a failure
UNUSED_SECONDS: Final = 600.0  # then a name is forgotten
_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Address(NamedTuple):
    """One address that a name stands for."""

    family: int
    proto: int
    host: str


LookUp = Callable[[str, int], list[Address]]  # of a name, for a family of addresses


def look_up(host: str, family: int) -> list[Address]:
    """Return the addresses of a name as the system knows them. It may block for long.

    Raises:
        OSError: the name is not known, or nobody answers.
        UnicodeError: it cannot be a name.
    """
    found = socket.getaddrinfo(
        host, None, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    return [
        Address(kind, proto, _host(address))
        for kind, _, proto, _, address in found
        if kind in (socket.AF_INET, socket.AF_INET6)
    ]


def _host(address: tuple[object, ...]) -> str:
    if len(address) == 4 and address[3]:  # noqa: PLR2004  # a link-local one needs its interface
        flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        return socket.getnameinfo(address, flags)[0]  # type: ignore[arg-type]
    return str(address[0])


@dataclass(slots=True)
class _Name:
    """What is known of one name; times are in the loop's seconds."""

    used_at: float
    addresses: list[Address] | None = None
    found_at: float = -inf
    failed_at: float = -inf
    problem: str = ""
    under_way: asyncio.Future[None] | None = None
    since: float = 0.0  # when the one under way was asked for


class Resolver(AbstractResolver):
    """Looks up names, and keeps the answers.

    An answer older than ``FRESH_SECONDS`` is used while it is asked for again, up to
    ``KEPT_SECONDS``. Nobody waits for an answer longer than ``timeout`` seconds: whoever asks
    again then finds it, if it has come meanwhile.
    """

    def __init__(self, timeout: float, look_up: LookUp = look_up) -> None:
        self._timeout = timeout
        self._look_up = look_up
        self._names: dict[tuple[str, int], _Name] = {}
        self._standby: deque[tuple[str, int]] = deque()
        self._under_way = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            OSError: there are none, or none yet.
        """
        now, key = _now(), (host, int(family))
        name = self._names.setdefault(key, _Name(now))
        name.used_at = now
        if name.under_way is None and self._is_due(name, now):
            self._ask(key, name)
        if not _is_usable(name, now) and name.under_way is not None:
            await asyncio.wait({name.under_way}, timeout=self._timeout)
        now = _now()
        if name.addresses is None or not _is_usable(name, now):
            raise socket.gaierror(socket.EAI_AGAIN, _problem(host, name, now))
        return [
            ResolveResult(
                hostname=host,
                host=each.host,
                port=port,
                family=each.family,
                proto=each.proto,
                flags=_NUMERIC,
            )
            for each in name.addresses
        ]

    async def close(self) -> None:
        """Do nothing: look-ups that are under way end by themselves."""

    def _is_due(self, name: _Name, now: float) -> bool:
        return now - name.found_at >= FRESH_SECONDS and now - name.failed_at >= RETRY_SECONDS

    def _ask(self, key: tuple[str, int], name: _Name) -> None:
        name.under_way, name.since = asyncio.get_running_loop().create_future(), _now()
        self._standby.append(key)
        self._begin_next()

    def _begin_next(self) -> None:
        while self._standby and self._under_way < MAX_LOOK_UPS:
            host, family = key = self._standby.popleft()
            self._under_way += 1
            try:
                asked = in_thread(partial(self._look_up, host, family), f"name {host}")
            except RuntimeError as error:  # no thread left
                self._end(key, None, str(error))
            else:
                asked.add_done_callback(partial(self._on_answer, key))

    def _on_answer(self, key: tuple[str, int], done: asyncio.Future[list[Address]]) -> None:
        if done.cancelled():
            return
        # whatever a system's look-up raises over one name is about this name alone
        if (error := done.exception()) is not None:
            problem = getattr(error, "strerror", None) or str(error) or repr(error)
            self._end(key, None, problem)
        else:
            self._end(key, done.result(), "" if done.result() else "it has no address")
        self._begin_next()

    def _end(self, key: tuple[str, int], found: list[Address] | None, problem: str) -> None:
        self._under_way -= 1
        now, name = _now(), self._names[key]
        if name.under_way is not None:
            name.under_way.set_result(None)
        name.under_way = None
        if found:
            if name.problem:
                log.info("the name %s can be looked up again", key[0])
            name.addresses, name.found_at, name.problem = found, now, ""
        else:
            if not name.problem and name.addresses is not None:
                log.warning(
                    "the name %s cannot be looked up: %s; the addresses found %.0f s ago are used "
                    "for up to %.0f s",
                    key[0], problem, now - name.found_at, KEPT_SECONDS,
                )  # fmt: skip
            name.failed_at, name.problem = now, problem
        self._forget_unused(now)

    def _forget_unused(self, now: float) -> None:
        for key, name in list(self._names.items()):
            if name.under_way is None and now - name.used_at > UNUSED_SECONDS:
                del self._names[key]


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_usable(name: _Name, now: float) -> bool:
    return name.addresses is not None and now - name.found_at < KEPT_SECONDS


def _problem(host: str, name: _Name, now: float) -> str:
    if name.under_way is not None:
        return f"the name {host} has been looked up for {now - name.since:.1f} s without an answer"
    return f"the name {host} cannot be looked up: {name.problem}"
