"""Whether a request is admitted, decided from its API key. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from api.keys import NOBODY, Key, Keys
from api.rates import Rates

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
