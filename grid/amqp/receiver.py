"""What every link that receives has in common: deliveries, and the lease on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pika.channel import Channel

from grid.amqp.acknowledger import Acknowledger, Send, Soon
from grid.amqp.connection import Connection, connection_of
from grid.amqp.lease import Lease, boot_time
from grid.amqp.link import Link, Watch, future, guarded, settle
from grid.amqp.renewal import Renewal


class Receiver(Link):
    """A link with deliveries. Each acknowledges itself, as long as its channel is there.

    A link that is ``leased`` asks RabbitMQ again and again whether its channel is still there;
    ``lapsed`` says whether there was no answer.
    """

    def __init__(
        self, name: str, urls: Sequence[str], watch: Watch, *, leased: bool = False
    ) -> None:
        super().__init__(name, urls, watch)
        self._acknowledger = Acknowledger(0, _nowhere, _nowhere)  # of the present or last channel
        self._acknowledger.end()
        self._lease = Lease() if leased else None
        self._renewal: Renewal | None = None

    @property
    def lapsed(self) -> bool:
        """Return whether another consumer may have what was delivered here.

        If so, the link is about to break, or RabbitMQ is about to answer.
        """
        return self.lapsed_at(boot_time())

    def lapsed_at(self, now: float) -> bool:
        """Return the same for a time of ``boot_time``: for who asks several links at once."""
        lease = self._lease
        return lease is not None and now > lease.until and self._channel is not None

    @property
    def unsettled(self) -> int:
        """Return how many deliveries are not settled yet."""
        return len(self._acknowledger)

    async def _set_up(self, channel: Channel) -> None:
        # deliveries may come before RabbitMQ's answer that the consumer is registered
        send, soon = partial(_send, channel), partial(_before_flush, channel)
        self._acknowledger = self._acknowledging(channel.channel_number, send, soon)
        if self._lease is not None:
            asked_at = self._lease.now()
            await grant(channel, 1)
            self._lease.renew(asked_at)

    def _acknowledging(self, channel: int, send: Send, soon: Soon) -> Acknowledger:
        """Return the acknowledger of a new channel."""
        return Acknowledger(channel, send, soon)

    def _opened(self, connection: Connection, channel: Channel) -> None:
        super()._opened(connection, channel)
        if self._lease is not None:
            self._renewal = Renewal(self._lease, channel, self._broken)

    def _closing(self) -> None:
        self._acknowledger.flush()
        self._end_channel()

    def _lost(self) -> None:
        self._end_channel()

    def _end_channel(self) -> None:
        """End what works on the channel, which is about to be closed or is gone."""
        if self._renewal is not None:
            self._renewal.stop()
        self._acknowledger.end()


async def grant(channel: Channel, prefetch: int) -> None:
    """Set how many unacknowledged deliveries consumers registered from now on may have."""
    granted = future()
    channel.basic_qos(prefetch_count=prefetch, callback=partial(settle, granted))
    await granted


def _send(channel: Channel, data: bytes) -> None:
    if channel.is_open:
        connection_of(channel).send(data)


def _before_flush(channel: Channel, call: Callable[[], None]) -> None:
    connection_of(channel).before_flush(partial(guarded, call))


def nothing() -> None:
    """Do nothing: the default for a callback that the caller does not need."""


def _nowhere(_: object) -> None:
    """Do nothing: there was no channel yet."""
