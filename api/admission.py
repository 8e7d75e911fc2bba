"""Who may come in: decided from the key that a request shows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from api.keys import NOBODY, Key, Keys
from api.rates import Rates

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})  # for whoever watches the api


class Outcome(StrEnum):
    """What became of a request at the door."""

    ADMITTED = "admitted"
    NO_KEY = "no key"
    WRONG_KEY = "wrong key"
    TOO_OFTEN = "too often"
    MISUSED = "misused"


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer at the door.

    ``keys`` are the entries of the key that was shown, ``wait`` is how many seconds until it may
    ask again, ``why`` what is wrong with a request that is misused.
    """

    outcome: Outcome
    keys: Sequence[Key] = ()
    wait: float = 0.0
    why: str = ""

    @property
    def name(self) -> str:
        """Whose key it is."""
        return self.keys[0].name if self.keys else NOBODY


class Door:
    """Open, it asks for no key, but knows a wrong one; closed, nobody passes without a right one.

    With ``rates``, a key is admitted only so often.
    """

    def __init__(self, keys: Keys, *, closed: bool, rates: Rates | None) -> None:
        self._keys = keys
        self.closed = closed
        self._rates = rates

    def admit(
        self, path: str, secret: bytes | None, now: float, misuse: Callable[[], str | None]
    ) -> Admission:
        """Decide over a request at ``now`` (seconds); ``secret`` is the key it shows, or None.

        ``misuse`` says why a browser may be asking for a page from elsewhere, or None: such a page
        has no key, but needs none at an open door.
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
