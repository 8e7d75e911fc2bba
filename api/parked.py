"""Replaying and discarding parked jobs for an operator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from grid.parked.queue import ParkedMessage, ParkedQueue


class Outcome(NamedTuple):
    """What became of parked jobs, by their ids.

    ``missing`` are not parked, or another operator has them at the moment; ``refused`` stay parked,
    for the reason given.
    """

    done: list[str]
    missing: list[str]
    refused: dict[str, str]


class ParkedJobs:
    """The parked queue, opened for each action; one action waits for another.

    ``open_queue`` returns the queue, which is not open yet.
    """

    def __init__(self, open_queue: Callable[[], ParkedQueue]) -> None:
        self._open_queue = open_queue
        self._busy = asyncio.Lock()

    async def replay(self, ids: Iterable[str]) -> Outcome:
        """Publish jobs to ``charge.requests`` again; refuse those that would be parked at once.

        Raise ``BrokerUnavailable`` if RabbitMQ is away; what was done by then is done.
        """
        return await self._each(
            ids, lambda queue, message: queue.replay(message), lambda message: message.problem
        )

    async def discard(self, ids: Iterable[str], why: str) -> Outcome:
        """End jobs as cancelled, for a reason in the operator's words; raise as ``replay``."""
        return await self._each(
            ids, lambda queue, message: queue.discard(message, why), lambda _: None
        )

    async def _each(
        self,
        ids: Iterable[str],
        act: Callable[[ParkedQueue, ParkedMessage], Awaitable[None]],
        problem: Callable[[ParkedMessage], str | None],
    ) -> Outcome:
        wanted = dict.fromkeys(ids)
        done: dict[str, None] = {}
        refused: dict[str, str] = {}
        async with self._busy:
            queue = self._open_queue()
            async with queue.open():
                async for message in queue.messages():
                    # to the end: equal messages that are no request have the same id
                    if (job := message.parked.id) not in wanted:
                        continue
                    if why := problem(message):
                        refused[job] = why
                    else:
                        await act(queue, message)
                        done[job] = None
        missing = wanted.keys() - done.keys() - refused.keys()
        return Outcome(list(done), [job for job in wanted if job in missing], refused)
