"""Running a plan: sending what is due, and waiting until all accepted requests have ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NamedTuple

from load_test.board import Board
from load_test.client import Api, Substation, TryAgain
from load_test.outcome import Follower, capacity, choosable
from load_test.plan import Plan, bodies, offsets
from load_test.publisher import Clock, Sender
from load_test.records import UnexpectedAnswer
from load_test.report import Run

_LAST_LOOK_SECONDS: Final = 5.0


class _Request(NamedTuple):
    number: int
    offset: float
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Runner:
    """A run of ``plan``: the same requests at the same times for the same ``seed``.

    Once all are answered, it stops waiting after ``timeout`` seconds in which no job has ended.
    """

    plan: Plan
    seed: int
    sender: Sender
    api: Api
    clock: Clock
    timeout: float

    async def run(self, board: Board) -> Run:
        """Send everything and follow it until it ends; return all that is known.

        A cancellation, as by Ctrl-C, ends it early with what is known by then. Raise ``TryAgain``
        or ``UnexpectedAnswer`` if no such api answers at the start.
        """
        before = await self.api.substations()
        follower = Follower(self.api, self.clock)
        await follower.look_back()
        start = self.clock.steady()
        sent, finished = await self._through(board, follower, start)
        total, after = self.clock.steady() - start, await self._substations()
        return Run(
            answers=board.answers,
            jobs=follower.jobs,
            connectors=choosable(before, after),
            sending_seconds=sent - start,
            total_seconds=total,
            interrupted=not finished,
            trouble=follower.trouble,
            capacity=capacity(before, after),
            samples=follower.samples,
            forecasts=follower.forecasts,
        )

    async def _through(self, board: Board, follower: Follower, start: float) -> tuple[float, bool]:
        sent = None
        try:
            await self._send_all(board, follower, start)
            sent = self.clock.steady()
            await follower.follow(board.accepted, self.timeout, board.ending())
        except asyncio.CancelledError:
            _take_back_cancellation()
            sent = sent or self.clock.steady()
            with suppress(TimeoutError):
                await asyncio.wait_for(follower.look(board.accepted), _LAST_LOOK_SECONDS)
            return sent, False
        return sent, True

    async def _send_all(self, board: Board, follower: Follower, start: float) -> None:
        requests = self._requests()
        async with asyncio.TaskGroup() as group:
            if self.plan.concurrency is None:
                async for request in self._when_due(requests, start):
                    due = start + request.offset
                    group.create_task(self._send(request, due, board, follower))
            for _ in range(self.plan.concurrency or 0):
                group.create_task(self._send_in_turn(requests, board, follower))

    def _requests(self) -> Iterator[_Request]:
        # two generators, so that the requests do not depend on their arrivals
        chance = Random(self.seed), Random(self.seed)  # noqa: S311  # repeatable, not secret
        due = offsets(self.plan, chance[0])
        for number, (offset, body) in enumerate(
            zip(due, bodies(self.plan, chance[1]), strict=True)
        ):
            yield _Request(number, offset, body)

    async def _when_due(
        self, requests: Iterator[_Request], start: float
    ) -> AsyncIterator[_Request]:
        for request in requests:
            await self.clock.sleep(max(start + request.offset - self.clock.steady(), 0.0))
            yield request

    async def _send_in_turn(
        self, requests: Iterator[_Request], board: Board, follower: Follower
    ) -> None:
        for request in requests:
            await self._send(request, self.clock.steady(), board, follower)

    async def _send(self, request: _Request, due: float, board: Board, follower: Follower) -> None:
        board.put(request.number, await self.sender.send(request.body, due))
        await follower.sample()

    async def _substations(self) -> list[Substation]:
        try:
            return await self.api.substations()
        except (TryAgain, UnexpectedAnswer):
            return []  # what was known before the run is used


def _take_back_cancellation() -> None:
    """Undo the cancellation for the report: else a later timeout would count as cancelled."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
