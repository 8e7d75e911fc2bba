"""Reading and writing ``charge.controls``, the stream of what operators have set."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from itertools import count
from typing import Final
from uuid import uuid4

from grid import controls, topology
from grid.amqp import Publisher
from grid.controls import Control, Controls, Message
from grid.errors import BrokerUnavailable, MalformedMessage

log = logging.getLogger(__name__)

OnChange = Callable[[str, Control], None]
Change = Callable[[Control], Control]

MARK_AGAIN_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 0.25  # after a refusal: the stream may be ready in a moment
RESTATE_AFTER: Final = 100  # messages since the last full one, before it is written again


class ControlLog:
    """What operators have set, as read from the stream; ``on_change`` gets each new control.

    It waits to read back whatever it writes: then everything before has been read as well. Pass
    ``read`` and ``forget`` to ``run`` of the stream's reader, and keep ``run(reader.up)`` running.
    ``name`` distinguishes this writer from all others.
    """

    def __init__(self, publisher: Publisher, name: str, on_change: OnChange) -> None:
        self._publisher = publisher
        self._ids = (f"{name}-control-{number}" for number in count())
        self._on_change = on_change
        self._known = Controls()
        self._in_stream = Controls()  # read from the stream, since its reader last began
        self._since = 0  # messages since the newest with controls
        self._awaited: dict[str, asyncio.Future[frozenset[Control]]] = {}
        self._setting = asyncio.Lock()
        self._behind = asyncio.Event()
        self._behind.set()
        self.caught_up = asyncio.Event()

    def get(self, substation: str) -> Control:
        """Return what holds for a substation, as far as the stream was read."""
        return self._known.get(substation)

    def check_caught_up(self) -> None:
        """Raise ``BrokerUnavailable`` while the stream is still being read at first."""
        if not self.caught_up.is_set():
            raise BrokerUnavailable(
                "the controls set by operators are still being read: try again in a moment"
            )

    def read(self, body: bytes, _writer: str = "") -> None:
        """Apply one message of the stream; its writers are allowed to set anything."""
        try:
            message = controls.decode(body)
        except MalformedMessage as error:
            log.warning("skipped a message of charge.controls: %s", error)
            return
        self._since = 0 if message.controls else self._since + 1
        self._in_stream.merge(message.controls)
        for control in self._known.merge(message.controls):
            self._on_change(control.substation, control)
        back = self._awaited.get(message.marker)
        if back is not None and not back.done():
            # checked now: a later message may replace it again
            back.set_result(frozenset(message.controls) & set(self._known.all()))

    def forget(self) -> None:
        """Forget what was read: the stream is read from its start again, and may be another one."""
        self._in_stream, self._since = Controls(), 0
        self._behind.set()

    async def run(self, reading: asyncio.Event) -> None:
        """Read to the stream's end, and write all controls if it lacks some; repeat after a break.

        ``reading`` is set while the reader's link is up: without it, nothing would be read back.
        """
        while True:
            await self._behind.wait()
            self._behind.clear()
            await self._insist(Controls(), reading)
            if not self.caught_up.is_set():
                log.info(
                    "the controls are read: %d substations set by operators", len(self._known.all())
                )
                self.caught_up.set()
            if self._in_stream.all() != self._known.all() or self._since > RESTATE_AFTER:
                await self._insist(self._known, reading)

    async def set(self, substation: str, change: Change, timeout: float) -> Control:
        """Set what holds for a substation; return it once it was read back from the stream.

        ``change`` returns it from the control before it; it is called again if another writer was
        faster.

        Raise ``InvalidField`` if all power limits together are too long for one message, and
        ``BrokerUnavailable`` if that does not succeed within ``timeout`` seconds, or the
        stream is still being read at first. In the former case it may have been written all the
        same.
        """
        self.check_caught_up()
        if not self._publisher.connected or self._publisher.blocked:
            raise BrokerUnavailable("RabbitMQ is away, or blocks publishers (memory or disk alarm)")
        try:
            async with asyncio.timeout(timeout), self._setting:
                while True:
                    before = self.get(substation)
                    wanted = self._known.changed(change(before))
                    others = [each for each in self._known.all() if each.substation != substation]
                    if wanted.power_limits not in (None, before.power_limits):
                        controls.check_length([*others, wanted])
                    # if it lost to a version that was not read before, that version is known now
                    if wanted in await self._write([*others, wanted], timeout):
                        return wanted
        except TimeoutError:
            raise BrokerUnavailable(
                f"{substation}: the change was not read back from {topology.CONTROLS} within "
                f"{timeout:g} s; it may still take effect"
            ) from None

    async def _insist(self, known: Controls, reading: asyncio.Event) -> None:
        """Write controls, or none as a mark, again and again until they were read back."""
        while True:
            await reading.wait()
            try:
                async with asyncio.timeout(MARK_AGAIN_SECONDS):
                    await self._write(known.all(), MARK_AGAIN_SECONDS)
                return
            except TimeoutError:
                continue
            except BrokerUnavailable:
                await asyncio.sleep(RETRY_SECONDS)

    async def _write(self, several: Iterable[Control], timeout: float) -> frozenset[Control]:
        """Write a message and wait until it was read back; return those controls that hold."""
        mark = uuid4().hex
        back: asyncio.Future[frozenset[Control]] = asyncio.get_running_loop().create_future()
        self._awaited[mark] = back
        body = controls.encode(Message(tuple(several), mark))
        try:
            await self._publisher.confirmed(
                topology.CONTROLS_EXCHANGE,
                topology.CONTROLS,
                body,
                id=next(self._ids),
                timeout=timeout,
            )
            return await back
        finally:
            del self._awaited[mark]
