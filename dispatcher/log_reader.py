"""Reads the event log: new events first, then the older part, and up to its end on request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from dispatcher.inputs import EventsRead, OlderEventsRead
from dispatcher.links import Links
from dispatcher.log_start import find_start
from dispatcher.open_jobs import OpenJobs
from dispatcher.shell import Shell
from grid import event_log, topology
from grid.amqp import StreamScanner
from grid.errors import BrokerUnavailable, MalformedMessage
from grid.event_log import EventWriter, Mark
from grid.waiting import together, within

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 0.25  # between two checks whether the older part is to be read
OLDER_AFTER_SECONDS: Final = 3.0  # new events are read by then
OLDER_AFTER_SECONDS_ON_STANDBY: Final = 60.0  # two readers at once take twice as long
OLDER_TRIES: Final = 10  # then a warning: requests may wait for long
RETRY_SECONDS: Final = 1.0  # after the event log could not be read
OWN_EVENTS: Final = 5_000  # that are remembered until they are read back, a second at full rate


class LogReader:
    """Feeds the events of the event log to the core.

    RabbitMQ does not report the end of a stream: a mark is written, and read back.

    Args:
        shell: Receives the events.
        links: Those that read the log.
        writer: Writes the marks.
        clock: Returns Unix seconds.
        now: Returns steady seconds.
    """

    def __init__(
        self,
        shell: Shell,
        links: Links,
        writer: EventWriter,
        *,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._shell = shell
        self._links = links
        self._writer = writer
        self._clock = clock
        self._now = now
        self._start = Mark(writer, clock)
        self._marks = {self._start}
        self._older_wanted, self._older_read = asyncio.Event(), asyncio.Event()

    @property
    def caught_up(self) -> bool:
        """Return whether the log is read up to where it ended at the start."""
        return self._start.passed.is_set()

    async def catch_up(self) -> None:
        """Wait until the log is read up to where it ended at the start."""
        await self._start.write()

    async def read_new(self) -> None:
        """Wait until the log is read up to its present end."""
        mark = Mark(self._writer, self._clock)
        self._marks.add(mark)
        try:
            await mark.write()
        finally:
            self._marks.discard(mark)

    async def read_all(self) -> None:
        """Wait until the whole log is read, including its older part."""
        self._older_wanted.set()
        await self._older_read.wait()
        await self.read_new()

    async def run(self) -> None:
        """Follow the log from as far back as is needed, until the task is cancelled."""
        start = await self._find_start()
        end = start if isinstance(start, int) else 0
        await together(
            self._links.log.run(read=self.on_message, start=start),
            self._read_older(end),
        )

    def on_message(self, body: bytes, writer: str) -> None:
        """Apply those events of a message that its writer is permitted to write."""
        events = self._writer.pop_written(body, writer)
        if events is None:
            try:
                events = event_log.read(body, writer)
            except MalformedMessage as error:
                log.warning("skipped a message of the event log: %s", error)
                return
        for mark in self._marks:
            for event in events:
                mark.see(event)
        # the position is already after the current message
        offset = self._links.log.position - 1
        self._shell.feed(EventsRead(events, offset, self.caught_up))

    async def _find_start(self) -> str | int:
        while True:
            await self._links.scanner.up.wait()
            try:
                return await find_start(self._links.scanner)
            except BrokerUnavailable as error:
                log.info("the event log cannot be read yet: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _read_older(self, end: int) -> None:
        """Read which jobs were open before; most decisions need not wait for that."""
        began = self._now()
        while end > 0 and not self._is_older_due(self._now() - began):
            await within(CHECK_SECONDS, self._older_wanted.wait())
        tries = 0
        while not self._shell.core.open_jobs.complete:
            try:
                self._shell.feed(OlderEventsRead(await read_past(self._links.scanner, end)))
            except BrokerUnavailable as error:
                tries += 1
                if tries in (1, OLDER_TRIES):
                    level = logging.WARNING if tries == OLDER_TRIES else logging.INFO
                    log.log(level, "the older part of the event log cannot be read: %s", error)
                if 0 < self._links.log.position < end:
                    end = 0  # the log was declared again: there is nothing older
                await asyncio.sleep(RETRY_SECONDS)
        self._older_read.set()
        waiting = self._shell.core.open_jobs.waiting
        log.info("the older part of the event log is read: %d jobs wait", waiting)

    def _is_older_due(self, waited: float) -> bool:
        """Return whether the older part is to be read, ``waited`` seconds after the start."""
        is_standby = self._shell.core.standby.is_standby(self._now())
        wait = OLDER_AFTER_SECONDS_ON_STANDBY if is_standby else OLDER_AFTER_SECONDS
        return self._older_wanted.is_set() or waited >= wait


async def read_past(scanner: StreamScanner, end: int) -> OpenJobs:
    """Return the jobs that were open where the event log reached the offset ``end``.

    Raise ``BrokerUnavailable``.
    """
    found = OpenJobs(complete=True)

    def see(offset: int, body: bytes, writer: str) -> None:
        with suppress(MalformedMessage):  # such messages are logged where new ones are read
            for event in event_log.read(body, writer):
                found.take(event, offset)

    if end > 0:
        await scanner.scan(topology.EVENTS, "first", end, see)
    return found
