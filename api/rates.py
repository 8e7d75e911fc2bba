"""Rate limits: one token bucket for each key, filled at a steady rate. Pure."""

from __future__ import annotations

from typing import Final

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
