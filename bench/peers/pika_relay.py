"""A relay on bare pika: ``AMQP_URL=… [EVENTS=0] python -m bench.peers.pika_relay``.

It passes requests on to three queues in turn and, unless ``EVENTS`` is 0, writes an event of each
to the stream. It publishes with confirms and ``mandatory``, and acknowledges a request once all of
it is confirmed, with ``multiple`` where it can.

It leaves out: any decision (loads, eligibility, priorities, departures, power), reading a request,
reconnecting, recognising a job that was sent before, the wait queue, metrics, traces and an
explanation. It ends at the first error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import cycle
from typing import Any, Final

from pika import BasicProperties, DeliveryMode, SelectConnection, URLParameters
from pika.channel import Channel
from pika.frame import Method
from pika.spec import Basic

from bench.low_water import LowWater
from bench.node import SUBSTATIONS
from grid import topology

WINDOW: Final = 500
ACKS: Final = 50  # requests that one acknowledgement covers, where they come quickly
ACK_SECONDS: Final = 0.01  # how long it waits for more of them


class Relay:
    """One connection with one channel."""

    def __init__(self, url: str, *, events: bool) -> None:
        self._events = events
        self._turn = cycle(SUBSTATIONS)
        self._low_water = LowWater(2 if events else 1)
        self._acknowledged = 0
        self._timer: object = None
        self._number = 0
        self._sent: dict[int, int] = {}  # delivery tags, by confirm number
        self._channel: Channel
        self.connection = SelectConnection(
            URLParameters(url),
            on_open_callback=lambda connection: connection.channel(on_open_callback=self._opened),
            on_open_error_callback=_end,
            on_close_callback=_end,
        )

    def _opened(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(_end)
        channel.add_on_return_callback(_end)
        channel.confirm_delivery(self._on_confirm)
        channel.basic_qos(prefetch_count=WINDOW)
        channel.basic_consume(topology.REQUESTS, self._on_request)

    def _on_request(
        self, _: object, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        substation, job, tag = next(self._turn), properties.message_id, method.delivery_tag
        self._low_water.begin(tag)
        if self._events:
            event = {"kind": "assigned", "at": time.time(), "job": job, "substation": substation}
            content = json.dumps(event, separators=(",", ":")).encode()
            properties = BasicProperties(
                message_id=f"event-{job}", delivery_mode=DeliveryMode.Persistent
            )
            self._publish(topology.EVENTS_EXCHANGE, "dispatcher", content, properties, tag)
        self._publish(topology.SUBSTATIONS_EXCHANGE, substation, body, properties, tag)

    def _publish(
        self, exchange: str, key: str, body: bytes, properties: BasicProperties, tag: int, /
    ) -> None:
        self._channel.basic_publish(exchange, key, body, properties, mandatory=True)
        self._number += 1
        self._sent[self._number] = tag

    def _on_confirm(self, frame: Method[Any]) -> None:
        if not isinstance(frame.method, Basic.Ack):
            _end("RabbitMQ refused a message")
        last = frame.method.delivery_tag
        if frame.method.multiple:
            confirmed = []
            for number in self._sent:
                if number > last:
                    break
                confirmed.append(number)
        else:
            confirmed = [last]
        for number in confirmed:
            self._low_water.part_done(self._sent.pop(number))
        if self._low_water.done - self._acknowledged >= ACKS:
            self._acknowledge()
        elif self._timer is None and self._low_water.done > self._acknowledged:
            self._timer = self.connection.ioloop.call_later(ACK_SECONDS, self._acknowledge)

    def _acknowledge(self) -> None:
        if self._timer is not None:
            self.connection.ioloop.remove_timeout(self._timer)
            self._timer = None
        if self._low_water.done > self._acknowledged:
            self._acknowledged = self._low_water.done
            self._channel.basic_ack(self._acknowledged, multiple=True)


def _end(*why: object) -> None:
    sys.exit(f"the relay ends: {why}")


def main() -> None:
    """Relay until the process is ended."""
    relay = Relay(os.environ["AMQP_URL"], events=os.environ.get("EVENTS", "1") != "0")
    relay.connection.ioloop.start()


if __name__ == "__main__":
    main()
