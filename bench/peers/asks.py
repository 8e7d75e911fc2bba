"""What services ask RabbitMQ repeatedly while nothing happens, on bare pika.

It leaves out everything but the questions: each is asked again as soon as it is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final

from pika import BlockingConnection, URLParameters
from pika.adapters.blocking_connection import BlockingChannel

from bench.node import SUBSTATIONS
from grid import topology

Ask = Callable[[BlockingConnection, BlockingChannel], object]
QUEUE: Final = topology.substation_queue(SUBSTATIONS[0])


def _look_apart(connection: BlockingConnection, _: BlockingChannel) -> None:
    channel = connection.channel()
    channel.queue_declare(QUEUE.name, passive=True)
    channel.close()


def _declare(_: BlockingConnection, channel: BlockingChannel) -> None:
    channel.queue_declare(QUEUE.name, durable=True, arguments=dict(QUEUE.arguments))


def _declare_and_bind(connection: BlockingConnection, channel: BlockingChannel) -> None:
    _declare(connection, channel)
    channel.queue_bind(QUEUE.name, QUEUE.exchange, QUEUE.key)


ASKS: Final[Mapping[str, Ask]] = {
    "state of a queue": lambda _, channel: channel.queue_declare(QUEUE.name, passive=True),
    "the same on a channel of its own": _look_apart,
    "queue declared again": _declare,
    "queue declared and bound again": _declare_and_bind,
    "lease renewed (`basic.qos`)": lambda _, channel: channel.basic_qos(prefetch_count=1),
}


def ask(url: str, name: str, number: int) -> None:
    """Ask so many times."""
    connection = BlockingConnection(URLParameters(url))
    try:
        channel = connection.channel()
        for _ in range(number):
            ASKS[name](connection, channel)
    finally:
        connection.close()


@contextmanager
def held(url: str, number: int) -> Iterator[None]:
    """Keep so many idle connections open, each with a channel."""
    with ExitStack() as stack:
        for _ in range(number):
            connection = BlockingConnection(URLParameters(url))
            stack.callback(connection.close)
            connection.channel()
        yield
