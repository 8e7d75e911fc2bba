"""How many HTTP connections may be open, in all and from one client's address. Pure.

If there is no room, the connection that has been idle longest between two requests is closed for
the new one, as in nginx: it costs its client a new connection at most.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Generic, NamedTuple, TypeVar

Connection = TypeVar("Connection", bound=Hashable)

PER_ADDRESS: Final = 2  # without a limit of its own, one address may have 1/2 of all connections
DESCRIPTORS: Final = 2  # at most 1/2 of all descriptors are for admitted HTTP connections
_WAITING: Final = 4  # plus 1/4 as many that wait up to a second to be refused
_ACCEPTED_AT_ONCE: Final = 8  # and 1/8 of the descriptors that are accepted before any is counted
_MAX_ACCEPT_BACKLOG: Final = 2048  # uvicorn's own
_IPV6_NETWORK_BITS: Final = 64  # what one client has of an IPv6 address at least


class Limits(NamedTuple):
    """How many connections may be open at once: in all, from one address, and to be refused.

    ``accepted_at_once`` is how many the loop may accept in one go, before any of them is counted.
    """

    total: int
    per_address: int
    waiting: int
    accepted_at_once: int


def limits(descriptors: int, total: int, per_address: int | None) -> Limits:
    """Return the limits that leave half of all ``descriptors`` for everything else.

    That is the links to RabbitMQ, pages that are read, files, and connections that are refused.
    """
    total = max(1, min(total, descriptors // DESCRIPTORS))
    share = max(1, total // PER_ADDRESS)
    return Limits(
        total,
        share if per_address is None else min(per_address, total),
        max(1, total // _WAITING),
        max(1, min(_MAX_ACCEPT_BACKLOG, descriptors // _ACCEPTED_AT_ONCE)),
    )


def client_of(address: tuple[str, int] | None) -> str:
    """Return the part of an address that is one client's: of IPv6 the network of 64 bits."""
    host = address[0].partition("%")[0] if address else ""
    try:
        ip: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return host
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        rest = ip.max_prefixlen - _IPV6_NETWORK_BITS
        return f"{IPv6Address(int(ip) >> rest << rest)}/{_IPV6_NETWORK_BITS}"
    return host


class Decision(NamedTuple, Generic[Connection]):
    """The decision on a new connection: admitted, unless there is a ``refusal``, which says why.

    ``evicted`` is the connection to close for it. If it ``may_wait``, a refused one is answered
    once it sends a request; else too many are waiting already.
    """

    refusal: str | None = None
    evicted: Connection | None = None
    may_wait: bool = True


@dataclass(slots=True)
class _Client(Generic[Connection]):
    open: int = 0
    idle: dict[Connection, None] = field(default_factory=dict)  # the longest idle first


class OpenConnections(Generic[Connection]):
    """All open connections, counted by client, with those that are idle in order."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._client_of: dict[Connection, str] = {}
        self._clients: dict[str, _Client[Connection]] = {}
        self._idle: dict[Connection, None] = {}
        self._refused: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._client_of)

    def enter(self, connection: Connection, client: str) -> Decision[Connection]:
        """Decide on a new connection, which is not idle: its first request is due."""
        evicted = None
        own = self._clients.get(client, _Client())
        limits = self._limits
        if own.open >= limits.per_address:
            evicted = next(iter(own.idle), None)
            if evicted is None:
                return self._refuse(connection, f"{own.open} are open from {client}")
        elif len(self) >= limits.total:
            evicted = next(iter(self._idle), None)
            if evicted is None:
                return self._refuse(connection, f"{len(self)} are open")
        if evicted is not None:
            self.leave(evicted)
        self._client_of[connection] = client
        self._clients.setdefault(client, _Client()).open += 1
        return Decision(evicted=evicted)

    def set_idle(self, connection: Connection, *, idle: bool) -> None:
        """Record whether a connection idles between two requests."""
        client = self._client_of.get(connection)
        if client is None:
            return
        for each in (self._idle, self._clients[client].idle):
            each.pop(connection, None)
            if idle:
                each[connection] = None

    def leave(self, connection: Connection) -> None:
        """Stop counting a connection; this may be called for one that is not counted."""
        self._refused.discard(connection)
        self.set_idle(connection, idle=False)
        if (client := self._client_of.pop(connection, None)) is not None:
            self._clients[client].open -= 1
            if not self._clients[client].open:
                del self._clients[client]

    def _refuse(self, connection: Connection, why: str) -> Decision[Connection]:
        may_wait = len(self._refused) < self._limits.waiting
        if may_wait:
            self._refused.add(connection)
        return Decision(refusal=why, may_wait=may_wait)
