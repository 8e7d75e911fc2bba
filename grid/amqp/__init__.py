"""The links to RabbitMQ: the one package that knows pika.

A link is one connection with one channel, which is opened again whenever it breaks, for as long as
the service runs. Publishing and consuming never share a connection: under an alarm, RabbitMQ stops
reading from every connection that publishes, and would not see the acknowledgements on it either.
A link is made of values; its callbacks are passed to its ``run``. A delivery acknowledges itself.
All of it belongs to one asyncio loop. Sources: the documentation of pika; RabbitMQ's guides on
confirms, consumers and streams.
"""

from grid.amqp.consumer import Consumer
from grid.amqp.declarer import Declarer, QueueState, declare_topology
from grid.amqp.delivery import Delivery
from grid.amqp.lease import boot_time
from grid.amqp.link import Link, Watch, settle
from grid.amqp.publisher import Publication, Publisher
from grid.amqp.scanner import StreamScanner
from grid.amqp.stream import StreamReader
from grid.amqp.taker import Taker
from grid.outcome import Outcome

__all__ = [
    "Consumer",
    "Declarer",
    "Delivery",
    "Link",
    "Outcome",
    "Publication",
    "Publisher",
    "QueueState",
    "StreamReader",
    "StreamScanner",
    "Taker",
    "Watch",
    "boot_time",
    "declare_topology",
    "settle",
]
