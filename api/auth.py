"""Authentication: API keys, rate limits, the cross-origin check, and the decision. Pure.

Keys are known by their SHA-256 alone. An api that needs no key on its own machine is open to every
page that a browser there shows, so requests without a key pass the cross-origin check. Sources:
``CrossOriginProtection`` of Go's net/http; for host names, OWASP on DNS rebinding.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from grid.errors import ConfigurationError, InvalidField
from grid.quoting import shown

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})  # for monitoring
# the documentation is the same for everybody, and a browser has no key to ask for it with
DOCS_PATHS: Final = frozenset({"/docs", "/openapi.json"})
DOCS_BELOW: Final = "/docs/"
# so is the page, which asks for a key itself
PAGE_BELOW: Final = "/page/"
_SAME_FOR_ALL: Final = DOCS_PATHS | {"/"}
_SAME_BELOW: Final = (DOCS_BELOW, PAGE_BELOW)
HEADERS_READ: Final = ("authorization", "host", "origin", "sec-fetch-site")

# --- API keys

NOBODY: Final = "none"  # the name for requests without a key
KEY_LINE: Final = "<name> <scope> <SHA-256 of the key, 64 hexadecimal digits>"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}")


class Scope(StrEnum):
    """What a key allows."""

    OPERATOR = "operator"  # to drain and limit substations
    CLIENT = "client"  # to request charging, and follow the jobs


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One line of a key file: the name of the key's owner, a scope, and the hash of the key."""

    name: str
    scope: Scope
    digest: bytes


class ApiKeys:
    """A set of API keys."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __or__(self, other: ApiKeys) -> ApiKeys:
        return ApiKeys(self._keys + other._keys)

    def has_scope(self, scope: Scope) -> bool:
        """Return whether any key has this scope."""
        return any(key.scope is scope for key in self._keys)

    def entries_for(self, secret: bytes) -> list[ApiKey]:
        """Return the entries of a key, one for each scope it has; none if it is not known.

        Every entry is compared in constant time, so that the timing reveals nothing.
        """
        digest = sha256(secret).digest()
        return [key for key in self._keys if hmac.compare_digest(key.digest, digest)]


def parse_keys(text: str) -> ApiKeys:
    """Return the keys of a key file, one a line; empty lines and what follows ``#`` are ignored.

    Raise ``ConfigurationError`` that names the line, but never shows what may be a key itself.
    """
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return ApiKeys(_key(number, words) for number, words in enumerate(lines, 1) if words)


def parse_at_least_one_key(text: str) -> ApiKeys:
    """Return the keys of a key file that must not be empty.

    Raise ``ConfigurationError`` as ``parse_keys`` does, and if there is no key: an api without one
    would admit nobody, or everybody.
    """
    if not (keys := parse_keys(text)):
        raise ConfigurationError(f"there is no key in it: a line is {KEY_LINE}")
    return keys


def _key(number: int, words: list[str]) -> ApiKey:
    if len(words) != KEY_LINE.count("<"):
        raise ConfigurationError(f"line {number}: must be {KEY_LINE}, got {len(words)} words")
    name, scope, digest = words
    # checked first: if the words are in another order, one of the others may be the key
    if not _DIGEST.fullmatch(digest):
        raise ConfigurationError(
            f"line {number}: the third word must be the SHA-256 of the key, 64 hexadecimal digits "
            f"(printf %s KEY | sha256sum), got {len(digest)} characters"
        )
    if digest.lower() in (sha256(word.encode()).hexdigest() for word in (name, scope)):
        raise ConfigurationError(f"line {number}: the line has the key itself, not just its hash")
    if not _NAME.fullmatch(name) or name == NOBODY:
        raise ConfigurationError(
            f"line {number}: the name must be 1 to 64 letters, digits or . _ - and not {NOBODY}, "
            f"got {shown(name)}"
        )
    if scope not in set(Scope):
        raise ConfigurationError(
            f"line {number}: the scope must be one of {', '.join(Scope)}, got {shown(scope)}"
        )
    return ApiKey(name, Scope(scope), bytes.fromhex(digest))


# --- Rate limit

BURST_SECONDS: Final = 1.0  # the burst: as many requests as in this time
ROUNDING: Final = 1e-9  # of a token: a client that waited as told must not fail by less


class RateLimit:
    """A token bucket for each name: ``per_second`` requests, and bursts of ``BURST_SECONDS``.

    There are as many names as there are keys, so no bucket is ever removed.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._capacity = max(1.0, per_second * BURST_SECONDS)
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when there were so many

    def acquire(self, name: str, now: float) -> float:
        """Use a token at ``now`` (seconds); return 0, or how many seconds until there is one."""
        tokens, then = self._buckets.get(name, (self._capacity, now))
        tokens = min(self._capacity, tokens + max(0.0, now - then) * self._per_second)
        if tokens < 1 - ROUNDING:
            self._buckets[name] = tokens, now
            return (1 - tokens) / self._per_second
        self._buckets[name] = max(0.0, tokens - 1), now
        return 0.0


# --- Cross-origin check

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # another site cannot read the answer
OWN_SITES: Final = frozenset({"same-origin", "none"})  # "none": the user opened it
MAX_HOSTS: Final = 128  # Host headers whose check is cached: parsing one costs 4 µs


def cross_origin_problem(method: str, headers: Mapping[str, str]) -> str | None:
    """Return why a request may be forged by another site, or None; header names are lower-case.

    A page whose name was made to resolve to this machine sends that name as Host. A page of another
    site cannot read answers, only cause effects, and browsers mark such requests.
    """
    host = headers.get("host", "")
    if not _is_local(host):
        return (
            "without a key, use localhost or an IP address as the host: anybody may own another "
            f"name, got the Host {shown(host)}"
        )
    if method in SAFE_METHODS or not _is_foreign(host, headers):
        return None
    return (
        "by its Sec-Fetch-Site or Origin, a browser sends this request for another site's page: "
        "send it from a program, or with a key"
    )


def _is_foreign(host: str, headers: Mapping[str, str]) -> bool:
    if (site := headers.get("sec-fetch-site")) is not None:
        return site not in OWN_SITES
    origin = headers.get("origin")
    return origin is not None and origin.lower().partition("//")[2] != host.lower()


@lru_cache(MAX_HOSTS)
def _is_local(host: str) -> bool:
    """Return whether a Host is an address, or a name that DNS cannot point elsewhere.

    A name without dots can be: a local network may answer for it (search domains, LLMNR).
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


# --- The decision


class Outcome(StrEnum):
    """Whether a request was admitted, or why not; the values are labels of a metric."""

    ADMITTED = "admitted"
    NO_KEY = "no key"
    UNKNOWN_KEY = "wrong key"
    RATE_LIMITED = "too often"
    CROSS_ORIGIN = "misused"


@dataclass(frozen=True, slots=True)
class AuthResult:
    """The decision on a request.

    ``keys`` are the entries of its key, ``retry_after`` is how many seconds until the key may send
    another request, ``reason`` says why the cross-origin check failed.
    """

    outcome: Outcome
    keys: Sequence[ApiKey] = ()
    retry_after: float = 0.0
    reason: str = ""

    @property
    def key_name(self) -> str:
        """Return the name of the key's owner."""
        return self.keys[0].name if self.keys else NOBODY

    def tenant(self, named: str | None) -> str | None:
        """Return whose a request is that names this tenant, or none.

        With a key, it is the key's owner's. An operator's key may name another, as it does for a
        load test or a gateway; of a client's, raise ``InvalidField``.
        """
        if not self.keys:
            return named
        own = self.key_name
        if named is None or named == own:
            return own
        if any(key.scope is Scope.OPERATOR for key in self.keys):
            return named
        problem = f"must be the name of the key, {shown(own)}, or left out, got {shown(named)}"
        raise InvalidField("tenant", problem)


ANONYMOUS: Final = AuthResult(Outcome.ADMITTED)


class Authenticator:
    """The check of every request: its key, the rate of the key, and its origin.

    Whether or not a key is required, an unknown key is rejected. Without ``rate_limit``, keys are
    not limited.
    """

    def __init__(self, keys: ApiKeys, *, key_required: bool, rate_limit: RateLimit | None) -> None:
        self._keys = keys
        self.key_required = key_required
        self._rate_limit = rate_limit

    @property
    def has_keys(self) -> bool:
        """Return whether any key is configured."""
        return bool(self._keys)

    def authenticate(
        self, method: str, path: str, headers: Mapping[str, str], now: float
    ) -> AuthResult:
        """Decide on a request at ``now`` (seconds).

        ``headers`` holds at least those of ``HEADERS_READ`` that were sent, names in lower case.
        """
        if path in OPEN_PATHS or path in _SAME_FOR_ALL or path.startswith(_SAME_BELOW):
            return ANONYMOUS
        secret = _bearer_token(headers)
        if secret is not None and self._keys:
            keys = self._keys.entries_for(secret)
            return self._limited(keys, now) if keys else AuthResult(Outcome.UNKNOWN_KEY)
        if self.key_required:
            return AuthResult(Outcome.NO_KEY)
        problem = cross_origin_problem(method, headers)
        return AuthResult(Outcome.CROSS_ORIGIN, reason=problem) if problem else ANONYMOUS

    def _limited(self, keys: Sequence[ApiKey], now: float) -> AuthResult:
        wait = self._rate_limit.acquire(keys[0].name, now) if self._rate_limit else 0.0
        return AuthResult(Outcome.RATE_LIMITED if wait else Outcome.ADMITTED, keys, wait)


def _bearer_token(headers: Mapping[str, str]) -> bytes | None:
    """Return the bearer token of a request; None if it has none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    # headers are decoded as Latin-1, whatever their encoding
    return token.strip().encode("latin-1") or None if scheme.lower() == "bearer" else None
