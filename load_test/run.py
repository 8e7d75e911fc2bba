"""Carrying out a run: sending what is due, and waiting until all accepted requests have ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from load_test.client import Api, TryAgain
from load_test.outcome import Follower, capacity, choosable
from load_test.plans.plan import Request
from load_test.publisher import Clock, Sender
from load_test.records import Substation, UnexpectedAnswer
from load_test.summary import Run
from load_test.view.board import Board

_LAST_LOOK_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Runner:
    """A run of ``requests``, each sent when it is due; or by ``senders``, each in turn.

    Once all are answered, it stops waiting after ``timeout`` seconds in which no job has ended.
    With ``look_seconds`` the board is shown what became of the jobs each so often while requests
    are still sent.
    """

    requests: Iterable[Request]
    senders: int | None
    sender: Sender
    api: Api
    clock: Clock
    timeout: float
    look_seconds: float | None = None

    async def run(self, board: Board) -> Run:
        """Send everything and follow it until it ends; return all that is known.

        A cancellation, as by Ctrl-C, ends it early with what is known by then. Raise ``TryAgain``
        or ``UnexpectedAnswer`` if no such api answers at the start.
        """
        before = await self.api.substations()
        follower = Follower(self.api, self.clock)
        await follower.look_back()
        start, started_at = self.clock.steady(), self.clock.wall()
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
            started_at=started_at,
            substations=after or before,
        )

    async def _through(self, board: Board, follower: Follower, start: float) -> tuple[float, bool]:
        sent = None
        try:
            async with self._shown(board, follower):
                await self._send_all(board, follower, start)
            sent = self.clock.steady()
            board.sent_all()
            await follower.follow(board.accepted, self.timeout, lambda _: board.look(follower))
        except asyncio.CancelledError:
            _take_back_cancellation()
            sent = sent or self.clock.steady()
            with suppress(TimeoutError):
                await asyncio.wait_for(follower.look(board.accepted), _LAST_LOOK_SECONDS)
            return sent, False
        return sent, True

    @asynccontextmanager
    async def _shown(self, board: Board, follower: Follower) -> AsyncIterator[None]:
        """Show what became of the jobs, each so often while the context lasts."""
        if self.look_seconds is None:
            yield
            return
        task = asyncio.create_task(self._show(board, follower, self.look_seconds))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _show(self, board: Board, follower: Follower, pause: float) -> None:
        while True:
            await self.clock.sleep(pause)
            await follower.look(board.accepted)
            board.look(follower)

    async def _send_all(self, board: Board, follower: Follower, start: float) -> None:
        requests = iter(self.requests)
        async with asyncio.TaskGroup() as group:
            if self.senders is None:
                async for request in self._when_due(requests, start):
                    due = start + request.offset
                    group.create_task(self._send(request, due, board, follower))
            for _ in range(self.senders or 0):
                group.create_task(self._send_in_turn(requests, board, follower))

    async def _when_due(self, requests: Iterator[Request], start: float) -> AsyncIterator[Request]:
        for request in requests:
            await self.clock.sleep(max(start + request.offset - self.clock.steady(), 0.0))
            yield request

    async def _send_in_turn(
        self, requests: Iterator[Request], board: Board, follower: Follower
    ) -> None:
        for request in requests:
            await self._send(request, self.clock.steady(), board, follower)

    async def _send(self, request: Request, due: float, board: Board, follower: Follower) -> None:
        due_at = self.clock.wall() - (self.clock.steady() - due)
        board.put(request.number, await self.sender.send(request.fields(due_at), due))
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
