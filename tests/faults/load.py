"""A steady load: so many requests a second, whatever becomes of them, and a record of each."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

import aiohttp

from tests.faults.accounts import ACCEPTED, Answer
from tests.faults.witness import RECORDED

ANSWER_SECONDS: Final = 10.0
NOBODY: Final = 0  # the status where no answer came
_HEADERS: Final = {"Prefer": "respond-async"}


class Load:
    """Sends requests to the api at ``url``, ``rate`` a second, never waiting for one another.

    No request is sent twice: what was not answered 202 is nobody's promise. While ``recorded`` is
    set, each asks the services to log what becomes of it.
    """

    def __init__(self, url: str, rate: float) -> None:
        self.answers: list[Answer] = []
        self.sent: list[float] = []
        self.recorded = False
        self._url = url
        self._period = 1 / rate
        self._sending: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def run(self) -> None:
        """Send until told to stop, then wait for the last answers."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            due = monotonic()
            while not self._stopped:
                task = asyncio.create_task(self._send(session))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
                due = max(due + self._period, monotonic() - 1.0)  # a pause is not made up for
                await asyncio.sleep(due - monotonic())
            await asyncio.gather(*self._sending)

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True

    async def _send(self, session: aiohttp.ClientSession) -> None:
        sent, status, job, pause = monotonic(), NOBODY, "", None
        self.sent.append(sent)
        headers = {**_HEADERS, **RECORDED} if self.recorded else _HEADERS
        try:
            async with session.post(self._url, json={}, headers=headers) as answer:
                pause = answer.headers.get("Retry-After")
                body = await answer.json(content_type=None)
                status = answer.status
                job = body["id"] if status == ACCEPTED else ""
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass  # nobody answered: that is what is recorded
        seconds = float(pause) if pause else None
        self.answers.append(Answer(sent, monotonic(), status, job, seconds))
