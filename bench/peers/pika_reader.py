"""Reading the event log on bare pika: ``python -m bench.peers.pika_reader``.

Its variables are ``AMQP_URL`` and ``EVENTS``, how many there are. It reads the stream from its
start, keeps each job's events as plain JSON, and serves ``PORT`` once it has read all of them.

It leaves out: checking what it reads and who wrote it, handling events that come late or twice,
forgetting and packing old jobs, a list in order, and reconnecting.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any, Final

from pika import BasicProperties, SelectConnection, URLParameters
from pika.channel import Channel
from pika.spec import Basic

from deploy.local.ports import HOST
from grid import topology

WINDOW: Final = 500


class Reader:
    """One connection with one channel."""

    def __init__(self, url: str, events: int, port: int) -> None:
        self._left = events
        self._port = port
        self._jobs: dict[str, dict[str, Any]] = {}
        self._served: socket.socket
        self.connection = SelectConnection(
            URLParameters(url),
            on_open_callback=lambda connection: connection.channel(on_open_callback=self._opened),
            on_open_error_callback=_end,
            on_close_callback=_end,
        )

    def _opened(self, channel: Channel) -> None:
        channel.add_on_close_callback(_end)
        channel.basic_qos(prefetch_count=WINDOW)
        start = {"x-stream-offset": "first"}
        channel.basic_consume(topology.EVENTS, self._on_message, arguments=start)

    def _on_message(
        self, channel: Channel, method: Basic.Deliver, _: BasicProperties, body: bytes
    ) -> None:
        for line in body.splitlines():
            event = json.loads(line)
            self._jobs.setdefault(event["job"], {})[event["kind"]] = event
            self._left -= 1
        if method.delivery_tag % (WINDOW // 2) == 0:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if self._left <= 0:
            self._served = socket.create_server((HOST, self._port))


def _end(*why: object) -> None:
    sys.exit(f"the reader ends: {why}")


def main() -> None:
    """Read until the process is ended."""
    given = os.environ
    reader = Reader(given["AMQP_URL"], int(given["EVENTS"]), int(given["PORT"]))
    reader.connection.ioloop.start()


if __name__ == "__main__":
    main()
