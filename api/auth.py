"""Authentication: API keys, rate limits, the cross-origin check, and the decision. Pure."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from grid.errors import ConfigurationError
from grid.messages import shown

NOBODY: Final = "none"  # the name for requests without a key
FORM: Final = "<name> <scope> <SHA-256 of the key, 64 hexadecimal digits>"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}")


class Scope(StrEnum):
    """What a key allows."""

    OPERATOR = "operator"  # to drain and cap substations
    CLIENT = "client"  # to request charging, and follow the jobs


@dataclass(frozen=True, slots=True)
class Key:
    """One line of the file: whose key it is, what it allows, and what it hashes to."""

    name: str
    scope: Scope
    digest: bytes


class Keys:
    """A set of API keys."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def have(self, scope: Scope) -> bool:
        """Return whether any key has this scope."""
        return any(each.scope is scope for each in self._keys)

    def and_those_of(self, other: Keys) -> Keys:
        """Return these keys and the others together."""
        return Keys(self._keys + other._keys)

    def of(self, secret: bytes) -> list[Key]:
        """Return the entries of a key, one for each scope it has; none if it is not known.

        Every entry is compared in constant time, so that the timing reveals nothing.
        """
        digest = sha256(secret).digest()
        return [each for each in self._keys if hmac.compare_digest(each.digest, digest)]


def parse(text: str) -> Keys:
    """Read a file of keys, one a line; empty lines and what follows a ``#`` are ignored.

    Raise ``ConfigurationError`` that names the line, but never shows what may be a key itself.
    """
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return Keys(_key(number, words) for number, words in enumerate(lines, 1) if words)


def parse_some(text: str) -> Keys:
    """Read a file that must hold a key: without one, an api would admit nobody, or everybody.

    Raise ``ConfigurationError`` as ``parse`` does, and if there is no key.
    """
    if not (found := parse(text)):
        raise ConfigurationError(f"there is no key in it: a line is {FORM}")
    return found


def _key(number: int, words: list[str]) -> Key:
    if len(words) != FORM.count("<"):
        raise ConfigurationError(f"line {number}: must be {FORM}, got {len(words)} words")
    name, scope, digest = words
    # checked first: if the words are in another order, one of the others may be the key
    if not _DIGEST.fullmatch(digest):
        raise ConfigurationError(
            f"line {number}: the third word must be the SHA-256 of the key, 64 hexadecimal digits "
            f"(printf %s KEY | sha256sum), got {len(digest)} characters"
        )
    if digest.lower() in (sha256(word.encode()).hexdigest() for word in (name, scope)):
        raise ConfigurationError(f"line {number}: the key itself stands there, not just its hash")
    if not _NAME.fullmatch(name) or name == NOBODY:
        raise ConfigurationError(
            f"line {number}: the name must be 1 to 64 letters, digits or . _ - and not {NOBODY}, "
            f"got {shown(name)}"
        )
    if scope not in set(Scope):
        raise ConfigurationError(
            f"line {number}: the scope must be one of {', '.join(Scope)}, got {shown(scope)}"
        )
    return Key(name, Scope(scope), bytes.fromhex(digest))


BURST_SECONDS: Final = 1.0  # the burst: as many requests as in this time
ROUNDING: Final = 1e-9  # of a token: a client that waited as told must not fail by less


class Rates:
    """Limits for each name: ``per_second`` requests, and as many at once as in ``BURST_SECONDS``.

    There are as many names as there are keys: none is ever forgotten.
    """

    def __init__(self, per_second: float) -> None:
        self._rate = per_second
        self._most = max(1.0, per_second * BURST_SECONDS)
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when there were so many

    def take(self, name: str, now: float) -> float:
        """Use a token at ``now`` (seconds); return 0, or how many seconds until there is one."""
        tokens, then = self._buckets.get(name, (self._most, now))
        tokens = min(self._most, tokens + max(0.0, now - then) * self._rate)
        if tokens < 1 - ROUNDING:
            self._buckets[name] = tokens, now
            return (1 - tokens) / self._rate
        self._buckets[name] = max(0.0, tokens - 1), now
        return 0.0


READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # a page cannot read another site's answer
OWN: Final = frozenset({"same-origin", "none"})  # "none": the user opened it


def misuse(method: str, headers: Mapping[str, str]) -> str | None:
    """Return why a request may be forged by another site, or None; header names are lower-case.

    A page whose name was made to mean this machine sends that name as Host. A page of another site
    cannot read answers, only cause effects, and browsers mark such requests.
    """
    host = headers.get("host", "")
    if not _is_local(host):
        return (
            "without a key, ask by localhost or by an address: another name may be anybody's, got "
            f"the Host {shown(host)}"
        )
    if method in READING or not _is_foreign(host, headers):
        return None
    return (
        "by its Sec-Fetch-Site or Origin, a browser sends this for another site's page: send it "
        "from a program, or with a key"
    )


def _is_foreign(host: str, headers: Mapping[str, str]) -> bool:
    if (site := headers.get("sec-fetch-site")) is not None:
        return site not in OWN
    origin = headers.get("origin")
    return origin is not None and origin.lower().partition("//")[2] != host.lower()


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


OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})  # for monitoring


class Outcome(StrEnum):
    """Whether a request was admitted, or why not."""

    ADMITTED = "admitted"
    NO_KEY = "no key"
    WRONG_KEY = "wrong key"
    TOO_OFTEN = "too often"
    MISUSED = "misused"


@dataclass(frozen=True, slots=True)
class Admission:
    """The decision on a request.

    ``keys`` are the entries of its key, ``wait`` is how many seconds until the key may send another
    request, ``why`` is the reason where the request is misused.
    """

    outcome: Outcome
    keys: Sequence[Key] = ()
    wait: float = 0.0
    why: str = ""

    @property
    def name(self) -> str:
        """Return the name of the key's owner."""
        return self.keys[0].name if self.keys else NOBODY


class Door:
    """The authenticator of requests.

    Open, it needs no key, but rejects a wrong one; closed, it needs a valid key. With ``rates``,
    the requests of each key are rate limited.
    """

    def __init__(self, keys: Keys, *, closed: bool, rates: Rates | None) -> None:
        self._keys = keys
        self.closed = closed
        self._rates = rates

    def admit(
        self, path: str, secret: bytes | None, now: float, misuse: Callable[[], str | None]
    ) -> Admission:
        """Decide on a request at ``now`` (seconds); ``secret`` is its key, or None.

        ``misuse`` returns why a browser may send the request for another site, or None. Such a
        request has no key, but an open api needs none.
        """
        if path in OPEN_PATHS:
            return Admission(Outcome.ADMITTED)
        found = [] if secret is None else self._keys.of(secret)
        if found:
            return self._often(found, now)
        if secret is not None and self._keys:
            return Admission(Outcome.WRONG_KEY)
        if self.closed:
            return Admission(Outcome.NO_KEY)
        why = misuse()
        return Admission(Outcome.MISUSED, why=why) if why else Admission(Outcome.ADMITTED)

    def _often(self, found: Sequence[Key], now: float) -> Admission:
        wait = self._rates.take(found[0].name, now) if self._rates else 0.0
        return Admission(Outcome.TOO_OFTEN if wait else Outcome.ADMITTED, found, wait)
