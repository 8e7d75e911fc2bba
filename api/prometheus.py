"""Asks Prometheus which alerts fire, while somebody follows what happens.

A thread asks, so that nobody else waits for a slow name or a slow answer; a client for the loop
would cost the api 9 MB of memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from math import inf
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

from api.firing import Firing, MalformedAnswer, Observed, parse
from grid.isolation import Isolation
from grid.threads import in_thread

log = logging.getLogger(__name__)

PATH: Final = "/api/v1/alerts"
INTERVAL: Final = 5.0
TIMEOUT: Final = 3.0
KEPT: Final = 15.0  # seconds for which an answer counts where the next ones do not come
MAX_BYTES: Final = 4 * 1024 * 1024
_PART: Final = 64 * 1024
_ITEM: Final = "the alerts of Prometheus"

Fetch = Callable[[], bytes]


class Poller:
    """What Prometheus said last. ``fetch`` blocks; ``now`` returns seconds of a steady clock."""

    def __init__(self, fetch: Fetch, isolation: Isolation, now: Callable[[], float]) -> None:
        self._fetch = fetch
        self._isolation = isolation
        self._now = now
        self._asked: asyncio.Future[bytes] | None = None
        self._asked_at = 0.0
        self._firing: list[Firing] = []
        self._answered_at = -inf
        self._problem = ""
        self._failed_at = -inf
        self._is_missed = False

    def observed(self) -> Observed:
        """Return what fires, or why that is not known; nothing while nobody has asked for long."""
        now = self._now()
        if now - self._answered_at <= KEPT:
            return Observed(self._firing)
        if now - self._failed_at <= KEPT:
            return Observed(problem=self._problem)
        return Observed()

    async def run(self, followed: Callable[[], Awaitable[object]]) -> None:
        """Ask until the task is cancelled, each time once somebody follows."""
        while True:
            await followed()
            await self.ask()
            await asyncio.sleep(INTERVAL)

    async def ask(self) -> None:
        """Ask once; while an earlier question has no answer, wait for that one.

        An answer that came long ago, while nobody followed, is not taken.
        """
        try:
            if self._asked is not None and self._is_stale(self._asked):
                self._asked = None
            if self._asked is None:
                self._asked_at = self._now()
                self._asked = in_thread(self._fetch, "prometheus")
            await asyncio.wait({self._asked}, timeout=TIMEOUT)
            if not self._asked.done():
                self._on_failure(f"no answer for {self._now() - self._asked_at:.0f} s")
                return
            asked, self._asked = self._asked, None
            self._on_answer(parse(asked.result()))
        except (OSError, HTTPException, MalformedAnswer, RuntimeError) as error:
            self._on_failure(getattr(error, "strerror", None) or str(error) or repr(error))
        except Exception as error:  # noqa: BLE001  # an answer must not end the service
            self._on_failure(self._isolation.record_failure(_ITEM, error))

    def _is_stale(self, asked: asyncio.Future[bytes]) -> bool:
        if not asked.done() or self._now() - self._asked_at <= KEPT:
            return False
        asked.exception()  # it is seen, or the loop would report it as lost
        return True

    def _on_answer(self, found: list[Firing]) -> None:
        self._firing, self._answered_at = found, self._now()
        self._isolation.record_success(_ITEM)
        if self._is_missed:
            self._is_missed = False
            log.info("Prometheus can be asked for its alerts again")

    def _on_failure(self, problem: str) -> None:
        self._problem, self._failed_at = problem, self._now()
        if not self._is_missed and self._now() - self._answered_at > KEPT:
            self._is_missed = True
            log.warning(
                "Prometheus cannot be asked for its alerts, and the page is without them: %s",
                problem,
            )


def fetch(address: str) -> bytes:
    """Return the answer of the Prometheus at an address. It may block for long.

    Raises:
        OSError, HTTPException, MalformedAnswer: there is none, or it is not one of Prometheus.
    """
    parts = urlsplit(address)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    # without a port, http.client takes the end of an IPv6 address for one
    port = parts.port or kind.default_port
    connection = kind(str(parts.hostname), port, timeout=TIMEOUT)
    until = monotonic() + TIMEOUT
    try:
        connection.request("GET", parts.path.rstrip("/") + PATH, headers={"Accept": "*/*"})
        answer = connection.getresponse()
        if answer.status != HTTPStatus.OK:
            raise MalformedAnswer(f"it answers with status {answer.status}")
        body = bytearray()
        while part := answer.read1(_PART):
            body += part
            if len(body) > MAX_BYTES:
                raise MalformedAnswer(f"its answer is longer than {MAX_BYTES} bytes")
            if monotonic() > until:
                raise TimeoutError(f"its answer takes longer than {TIMEOUT:g} s")
        return bytes(body)
    finally:
        connection.close()


def poller(address: str, isolation: Isolation) -> Poller:
    """Return what asks the Prometheus at an address."""
    return Poller(partial(fetch, address), isolation, monotonic)
