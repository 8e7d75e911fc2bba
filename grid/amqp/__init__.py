"""RabbitMQ at the edge: the one package that knows pika.

A link is one connection with one channel, made anew for as long as the service runs whenever it
breaks. Publishing and consuming never share one, because a RabbitMQ under an alarm stops reading
from every connection that publishes, and would stop hearing the acknowledgements on it too.
A link is made of values; what it calls back is given to its ``run``. A delivery acknowledges
itself. All of it belongs to one asyncio loop. Sources: the documentation of pika; RabbitMQ's guides
on confirms, consumers and streams.
"""

from grid.amqp.consumer import Consumer
from grid.amqp.declarer import Declarer, QueueState, declare_topology
from grid.amqp.delivery import Delivery
from grid.amqp.link import Link, Watch, settle
from grid.amqp.publisher import Outcome, Publication, Publisher
from grid.amqp.scanner import StreamScanner
from grid.amqp.stream import StreamReader
from grid.amqp.taker import Taker

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
    "declare_topology",
    "settle",
]
