"""The edge of the substations' queues: looks at them, and gets jobs from them, as the core says.

It decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from dispatcher.commands import LookAtQueue, TakeFromQueue
from dispatcher.inputs import JobReclaimed, QueueObserved, QueuesDue, ReclaimDue
from dispatcher.queues import Whereabouts
from dispatcher.shell import Shell
from grid.amqp import Declarer, QueueState, Taker
from grid.errors import BrokerUnavailable
from grid.isolation import Isolation
from grid.topology import substation_queue

FULL_SECONDS: Final = 0.01  # between two checks whether a job in hand is safe elsewhere
IDLE_SECONDS: Final = 0.1  # until the core is asked again, if nothing is due


class QueueWatch:
    """Looks at the substations' queues, and declares those that are missing.

    Args:
        shell: Asks the core, and receives what is seen.
        declarer: Declares queues, and reads their states.
        isolation: Confines unforeseen errors to one queue.
    """

    def __init__(self, shell: Shell, declarer: Declarer, isolation: Isolation) -> None:
        self._shell = shell
        self._declarer = declarer
        self._isolation = isolation

    async def run(self) -> None:
        """Look at the queues that are due, until the task is cancelled."""
        while True:
            await self._declarer.up.wait()
            commands = self._shell.feed(QueuesDue())
            looks = [each for each in commands if isinstance(each, LookAtQueue)]
            for each in looks:
                await self._look(each)
            if not looks:
                await asyncio.sleep(IDLE_SECONDS)

    async def state(self, substation: str) -> QueueState | None:
        """Return the state of a substation's queue now; None if unknown."""
        return (await self._look(LookAtQueue(substation))).state

    async def whereabouts(self, substation: str) -> Whereabouts:
        """Return where jobs are that were sent to a substation a while ago, and have not begun."""
        observed: QueueObserved | None = None
        while (found := self._shell.whereabouts(substation, observed)) is None:
            if observed is None:
                observed = await self._look(LookAtQueue(substation))
            else:
                observed = replace(observed, is_empty=await self._is_empty(substation))
        return found

    async def _is_empty(self, substation: str) -> bool:
        """Return whether the leader of a substation's queue says that it is empty."""
        try:
            return await self._declarer.is_empty(substation_queue(substation).name)
        except BrokerUnavailable:
            return False

    async def _look(self, command: LookAtQueue) -> QueueObserved:
        await self._declarer.up.wait()
        problems: list[str] = []
        with self._isolation.of(f"the queue of {command.substation}", problems.append):
            observed = await self._ask(command)
            self._shell.feed(observed)
        if problems:
            observed = QueueObserved(command, None, problems[0])
            self._shell.feed(observed)
        if observed.problem:
            await asyncio.sleep(IDLE_SECONDS)  # by then the link knows whether it is still up
        return observed

    async def _ask(self, command: LookAtQueue) -> QueueObserved:
        queue = substation_queue(command.substation)
        try:
            if command.declare:
                return QueueObserved(command, await self._declarer.queue(queue))
            return QueueObserved(command, await self._declarer.look(queue.name))
        except BrokerUnavailable as error:
            return QueueObserved(command, None, str(error))


class JobTaker:
    """Gets jobs from the queues of substations that do not consume them.

    Args:
        shell: Asks the core, and receives the jobs.
        taker: Gets single jobs from queues.
        is_fed: Returns whether RabbitMQ may feed this dispatcher. Otherwise it may feed another
            one, whose snapshots cannot be read here.
    """

    def __init__(self, shell: Shell, taker: Taker, is_fed: Callable[[], bool]) -> None:
        self._shell = shell
        self._taker = taker
        self._is_fed = is_fed

    async def run(self) -> None:
        """Get the jobs that are to be reclaimed, until the task is cancelled."""
        while True:
            await self._taker.up.wait()
            commands = self._shell.feed(ReclaimDue(self._is_fed()))
            takes = [each for each in commands if isinstance(each, TakeFromQueue)]
            for each in takes:
                self._shell.feed(await self._take(each.substation))
            if not takes:
                is_full = self._shell.core.reclaiming.is_full
                await asyncio.sleep(FULL_SECONDS if is_full else IDLE_SECONDS)

    async def _take(self, substation: str) -> JobReclaimed:
        try:
            delivery = await self._taker.take(substation_queue(substation).name)
        except BrokerUnavailable as error:
            return JobReclaimed(substation, None, str(error))
        return JobReclaimed(substation, delivery)
