"""What RabbitMQ must refuse to each user: all of it is tried on a real node."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from itertools import product
from typing import Final, NamedTuple

import pytest
from pika import BlockingConnection, URLParameters
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from deploy.local.ports import HOST
from deploy.rabbitmq.users import permissions
from grid import topology
from grid.topology import (
    CANCELLATIONS,
    CANCELLATIONS_EXCHANGE,
    CONTROLS,
    CONTROLS_EXCHANGE,
    DEAD,
    EVENTS,
    EVENTS_EXCHANGE,
    PARKED,
    REQUESTS,
    REQUESTS_EXCHANGE,
    SUBSTATIONS_EXCHANGE,
)
from tests.broker import SUBSTATIONS, Broker, VirtualHost

pytestmark = pytest.mark.integration

FORBIDDEN: Final = 403
DEFAULT: Final = ""  # RabbitMQ's own exchange, which reaches every queue by its name
OWN, OTHER = "substation.substation1", "substation.substation2"
UNKNOWN: Final = "something.else"
QUEUES: Final = (REQUESTS, PARKED, DEAD, EVENTS, CONTROLS, CANCELLATIONS, OWN, OTHER, UNKNOWN)
# exchanges of earlier versions too: a broker from that time still has them
FORMER: Final = (REQUESTS, EVENTS, CONTROLS)
OTHERS: Final = (DEFAULT, "amq.direct", "amq.fanout", "amq.topic", UNKNOWN)
EXCHANGES: Final = (*topology.EXCHANGES, *FORMER, *OTHERS)
MAKERS: Final = ("declare queue", "delete queue", "declare exchange", "delete exchange")


class Attempt(NamedTuple):
    """One operation to try, and the names it is about."""

    what: str
    queue: str = ""
    exchange: str = ""
    key: str = REQUESTS


class Allowed(NamedTuple):
    """What a user may do, as its service needs it; stated here independently, on purpose."""

    read: frozenset[str] = frozenset()  # queues and exchanges alike: RabbitMQ checks them by name
    write: frozenset[str] = frozenset()
    configure: frozenset[str] = frozenset()


ALLOWED: Final = {
    "api": Allowed(
        read=frozenset({EVENTS, CONTROLS, PARKED}),
        write=frozenset(
            {REQUESTS_EXCHANGE, EVENTS_EXCHANGE, CONTROLS_EXCHANGE, CANCELLATIONS_EXCHANGE}
        ),
    ),
    "dispatcher": Allowed(
        read=frozenset(
            {REQUESTS, DEAD, EVENTS, CONTROLS, CANCELLATIONS, SUBSTATIONS_EXCHANGE, OWN, OTHER}
        ),
        write=frozenset(
            {
                *(REQUESTS_EXCHANGE, PARKED, EVENTS_EXCHANGE, CONTROLS_EXCHANGE),
                *(SUBSTATIONS_EXCHANGE, OWN, OTHER),
            }
        ),
        configure=frozenset({OWN, OTHER}),
    ),
    OWN: Allowed(read=frozenset({OWN, CANCELLATIONS}), write=frozenset({EVENTS_EXCHANGE})),
    "load_test": Allowed(write=frozenset({REQUESTS_EXCHANGE})),
    "parked": Allowed(
        read=frozenset({PARKED}), write=frozenset({REQUESTS_EXCHANGE, EVENTS_EXCHANGE})
    ),
}
# what may be bound beside the substations' queues: existing queues name this as their
# dead-letter exchange, so it is an exchange and a queue at once
BINDABLE: Final = {"dispatcher": {PARKED}}
DO: Final[dict[str, Callable[[BlockingChannel, Attempt], object]]] = {
    "declare queue": lambda channel, it: channel.queue_declare(it.queue, durable=True),
    "delete queue": lambda channel, it: channel.queue_delete(it.queue),
    "declare exchange": lambda channel, it: channel.exchange_declare(it.exchange, durable=True),
    "delete exchange": lambda channel, it: channel.exchange_delete(it.exchange),
    "get": lambda channel, it: channel.basic_get(it.queue),
    "consume": lambda channel, it: channel.basic_consume(it.queue, lambda *_: None),
    "purge": lambda channel, it: channel.queue_purge(it.queue),
    "publish": lambda channel, it: channel.basic_publish(it.exchange, it.key, b"{}"),
    "bind": lambda channel, it: channel.queue_bind(it.queue, it.exchange, "key"),
    "unbind": lambda channel, it: channel.queue_unbind(it.queue, it.exchange, it.queue),
}


def attempts() -> Iterator[Attempt]:
    """Yield all there is to try."""
    for what, queue in product(
        ("declare queue", "delete queue", "get", "consume", "purge"), QUEUES
    ):
        yield Attempt(what, queue=queue)
    for what, exchange in product(("declare exchange", "delete exchange", "publish"), EXCHANGES):
        if what == "publish" or exchange != DEFAULT:  # which no one can declare or delete at all
            yield Attempt(what, exchange=exchange)
    for key in (*ALLOWED, "admin", OTHER, "substation.substation1.more", ""):
        yield Attempt("publish", exchange=EVENTS_EXCHANGE, key=key)
    for what, queue, exchange in product(("bind", "unbind"), QUEUES, EXCHANGES):
        if exchange != DEFAULT:
            yield Attempt(what, queue, exchange)


def may(user: str, attempt: Attempt) -> bool:
    """Return whether a user is meant to do this, by RabbitMQ's rules for each operation."""
    allowed = ALLOWED[user]
    if attempt.what in MAKERS:
        return (attempt.queue or attempt.exchange) in allowed.configure
    if attempt.what == "publish":
        known = attempt.exchange != EVENTS_EXCHANGE or attempt.key == user
        return attempt.exchange in allowed.write and known
    if attempt.what in ("bind", "unbind"):
        return attempt.queue in allowed.write and attempt.exchange in allowed.read
    return attempt.queue in allowed.read


def outcome(connection: BlockingConnection, attempt: Attempt) -> int:
    """Try an operation on a channel of its own; return RabbitMQ's code if it refuses, else 0."""
    channel = connection.channel()
    try:
        if attempt.what == "publish":
            channel.confirm_delivery()
        DO[attempt.what](channel, attempt)
    except ChannelClosedByBroker as refused:
        return int(refused.reply_code)
    channel.close()
    return 0


@pytest.fixture
def queues(vhost: VirtualHost) -> VirtualHost:
    """Return a virtual host with the queues of two substations."""
    with closing(BlockingConnection(URLParameters(vhost.url("dispatcher")))) as connection:
        channel = connection.channel()
        for queue in map(topology.substation_queue, SUBSTATIONS[:2]):
            channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
            channel.queue_bind(queue.name, queue.exchange, queue.key)
    return vhost


def test_permission_tests_cover_every_user() -> None:
    """Every user but the administrator is tried; one substation's user stands for all of them."""
    others = {name for name in permissions(SUBSTATIONS) if not name.startswith("substation.")}
    assert set(ALLOWED) == (others - {"admin"}) | {OWN}


@pytest.mark.parametrize("user", ALLOWED)
def test_rabbitmq_users_cannot_bind_foreign_queues(user: str) -> None:
    """Write on an exchange includes the queue of the same name: only the known ones exist."""
    queues = {each.name for each in topology.QUEUES}
    assert ALLOWED[user].write & queues == BINDABLE.get(user, set())


@pytest.mark.parametrize("user", ALLOWED)
def test_rabbitmq_users_are_refused_everything_else(queues: VirtualHost, user: str) -> None:
    """Everything but what its service does is answered 403, on every queue and exchange."""
    forbidden = [each for each in attempts() if not may(user, each)]
    assert len(forbidden) > 100
    with closing(BlockingConnection(URLParameters(queues.url(user)))) as connection:
        done = {each: outcome(connection, each) for each in forbidden}
    assert {each: code for each, code in done.items() if code != FORBIDDEN} == {}


@pytest.mark.parametrize("user", ALLOWED)
def test_rabbitmq_users_may_do_what_their_service_needs(queues: VirtualHost, user: str) -> None:
    """Reading and publishing work where a service needs them, so not everything is refused."""
    work = [each for each in attempts() if each.what in ("get", "publish")]
    # a stream is only consumed: the tests of what is in them do so
    streams = EVENTS, CONTROLS, CANCELLATIONS
    wanted = [each for each in work if may(user, each) and each.queue not in streams]
    assert wanted
    with closing(BlockingConnection(URLParameters(queues.url(user)))) as connection:
        done = {each: outcome(connection, each) for each in wanted}
    assert FORBIDDEN not in done.values()


@pytest.mark.parametrize("user", ALLOWED)
def test_management_api_is_for_the_administrator_only(broker: Broker, user: str) -> None:
    """No service's user can log in there."""
    token = base64.b64encode(f"{user}:{broker.passwords[user]}".encode()).decode()
    for path in ("/api/whoami", "/api/queues", "/api/definitions", "/api/connections"):
        with closing(HTTPConnection(HOST, broker.node.ports.management, timeout=30)) as connection:
            connection.request("GET", path, headers={"Authorization": f"Basic {token}"})
            assert connection.getresponse().status == 401, path
