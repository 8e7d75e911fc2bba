"""The private RabbitMQ node, and what its definitions allow."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ProbableAuthenticationError,
    UnroutableError,
)

from deploy.local.ports import HOST
from deploy.rabbitmq import definitions
from deploy.rabbitmq.live import OwnBroker
from deploy.rabbitmq.users import permissions
from grid import topology
from grid.amqp.publisher import MAX_BODY
from grid.errors import GridError
from tests.broker import SUBSTATIONS, Broker, VirtualHost

pytestmark = pytest.mark.integration
STREAMS_SINCE: Final = (topology.CONTROLS, topology.CANCELLATIONS)  # since earlier versions


def connect(url: str) -> pika.BlockingConnection:
    """Open a connection; to be closed by the caller."""
    return pika.BlockingConnection(pika.URLParameters(url))


@pytest.mark.parametrize("user", permissions(SUBSTATIONS))
def test_rabbitmq_accepts_the_password_of_every_user(broker: Broker, user: str) -> None:
    """Each user's salted hash, loaded at boot, is that of its password."""
    connect(broker.url(user)).close()


def test_rabbitmq_has_no_guest_user(broker: Broker) -> None:
    """The default user guest is removed."""
    parameters = pika.URLParameters(broker.url())
    parameters.credentials = pika.PlainCredentials("guest", "guest")
    with pytest.raises(ProbableAuthenticationError):
        pika.BlockingConnection(parameters)


def test_rabbitmq_has_the_topology_at_boot(broker: Broker) -> None:
    """The definitions declare what ``grid.topology`` names, with the same arguments."""
    with connect(broker.url()) as connection:
        channel = connection.channel()
        for exchange, kind in topology.EXCHANGES.items():
            channel.exchange_declare(exchange, kind, durable=True)
        for queue in topology.QUEUES:
            channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))


def test_dispatcher_user_may_declare_a_substation_queue(vhost: VirtualHost) -> None:
    """The dispatcher's permissions suffice to declare and bind a substation's queue."""
    queue = topology.substation_queue("substation7")
    with connect(vhost.url("dispatcher")) as connection:
        channel = connection.channel()
        channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
        channel.queue_bind(queue.name, queue.exchange, queue.key)
    assert queue.name in vhost.queues()


def test_rabbitmq_node_with_old_data_gets_new_definitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started again over its old data with newer definitions, a node has all of these."""
    monkeypatch.setattr("tests.broker.render", lambda *users: older(definitions.render(*users)))
    with closing(Broker(tmp_path)) as broker:
        broker.start()
        names = {each["name"] for each in broker.request("GET", "/api/queues")}
        assert names == {queue.name for queue in topology.QUEUES} - set(STREAMS_SINCE)
        broker.stop()
        monkeypatch.undo()
        broker.start()
        own = OwnBroker(broker.node.ports.management, broker.passwords, SUBSTATIONS)
        own.complete()  # as `make up` does
        with connect(broker.url("api")) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            publish_once_it_is_there(channel, topology.CONTROLS_EXCHANGE, topology.CONTROLS)
            publish_once_it_is_there(channel, topology.EVENTS_EXCHANGE, "api")
            channel.basic_qos(prefetch_count=1)
            first = {"x-stream-offset": "first"}
            _, _, body = next(channel.consume(topology.CONTROLS, arguments=first))
        assert body == b"{}"


def publish_once_it_is_there(channel: BlockingChannel, exchange: str, key: str) -> None:
    """Publish to a stream: a RabbitMQ that has just started returns what comes before it is up."""
    until = time.monotonic() + 20
    while True:
        try:
            channel.basic_publish(exchange, key, b"{}", mandatory=True)
        except UnroutableError:
            assert time.monotonic() < until, f"nothing takes what goes to {exchange}"
            time.sleep(0.1)
        else:
            return


def older(rendered: dict[str, Any]) -> dict[str, Any]:
    """Return definitions as they were before there was anything to set, or any writer's key.

    Then each queue's exchange had its name.
    """
    text = re.sub(r"\|charge\\+\.(controls|cancellations)(\\+\.in)?", "", json.dumps(rendered))
    text = re.sub(r"(charge\\*\.(requests|events))\\*\.in", r"\1", text)
    found: dict[str, Any] = json.loads(
        text.replace('"topic"', '"direct"').replace('"#"', '"charge.events"')
    )
    for kind, name in (("exchanges", "name"), ("queues", "name"), ("bindings", "destination")):
        found[kind] = [each for each in found[kind] if not each[name].startswith(STREAMS_SINCE)]
    del found["topic_permissions"]
    assert all(each not in json.dumps(found) for each in STREAMS_SINCE)
    assert ".in" not in json.dumps(found)
    return found


def test_virtual_hosts_isolate_tests(broker: Broker) -> None:
    """What one test publishes is not in another's virtual host, and goes when the test ends."""
    with broker.vhost() as one, broker.vhost() as other:
        with connect(one.url("load_test")) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish(
                topology.REQUESTS_EXCHANGE, topology.REQUESTS, b"{}", mandatory=True
            )
        with connect(one.url()) as connection:
            found = connection.channel().queue_declare(topology.REQUESTS, passive=True)
            assert found.method.message_count == 1
        with connect(other.url()) as connection:
            found = connection.channel().queue_declare(topology.REQUESTS, passive=True)
            assert found.method.message_count == 0
    names = [v["name"] for v in broker.request("GET", "/api/vhosts")]
    assert one.name not in names


def test_rabbitmq_takes_no_larger_message_than_ours(vhost: VirtualHost) -> None:
    """A user that may write events must not make readers hold larger messages."""
    for size in (MAX_BODY, MAX_BODY + 1):
        with connect(vhost.url("load_test")) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            refused = pytest.raises(ChannelClosedByBroker, match="larger than")
            with nullcontext() if size == MAX_BODY else refused:
                channel.basic_publish(
                    topology.REQUESTS_EXCHANGE, topology.REQUESTS, b" " * size, mandatory=True
                )


@pytest.mark.parametrize("end", [Broker.stop, Broker.kill])
def test_rabbitmq_keeps_confirmed_messages_over_restart_and_kill(
    broker: Broker, vhost: VirtualHost, end: Callable[[Broker], None]
) -> None:
    """A confirmed message is there after a restart, and after a kill."""
    with connect(vhost.url("load_test")) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            topology.REQUESTS_EXCHANGE, topology.REQUESTS, b"kept", mandatory=True
        )
    end(broker)
    broker.start()
    with connect(vhost.url("dispatcher")) as connection:
        _, _, body = next(connection.channel().consume(topology.REQUESTS))
    assert body == b"kept"


def test_running_rabbitmq_node_gets_a_new_user(broker: Broker) -> None:
    """A substation that is added can log in, with its own permissions, and nothing is restarted."""
    names = (*SUBSTATIONS, "added")
    passwords = {**broker.passwords, "substation.added": "a password"}
    url = (
        broker.url()
        .replace(broker.passwords["admin"], "a password")
        .replace("admin", "substation.added")
    )
    with pytest.raises(ProbableAuthenticationError):
        connect(url)
    own = OwnBroker(broker.node.ports.management, passwords, names)
    own.load()
    with connect(url) as connection, pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
        connection.channel().basic_get(topology.REQUESTS)
    with pytest.raises(GridError, match="another password for admin: make down"):
        replace(own, passwords=passwords | {"admin": "wrong"}).load()
    replace(own, port=1).load()  # where nothing runs there is nothing to do
    broker.request("DELETE", "/api/users/substation.added")


def test_management_requests_bypass_proxies(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's environment may name one; what runs on this machine is asked directly."""
    with closing(socket.create_server((HOST, 0))) as proxy:
        proxy.settimeout(0)
        monkeypatch.setenv("http_proxy", f"http://{HOST}:{proxy.getsockname()[1]}")
        own = OwnBroker(broker.node.ports.management, broker.passwords, SUBSTATIONS)
        assert own.withdraw() == []
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_running_rabbitmq_node_loses_obsolete_users(broker: Broker) -> None:
    """One of an earlier version that could read every queue, and one of a substation that is gone.

    What they have open is closed; a user that somebody has added, and the others, stay.
    """
    old = dict.fromkeys(("substation", "substation.gone", "monitoring"), "a password")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    for user, password in old.items():
        broker.request("PUT", f"/api/users/{user}", {"password": password, "tags": ""})
        broker.request("PUT", f"/api/permissions/%2F/{user}", everything)

    def url(user: str) -> str:
        return broker.url().replace(f"admin:{broker.passwords['admin']}", f"{user}:{old[user]}")

    connection = connect(url("substation"))
    own = OwnBroker(broker.node.ports.management, broker.passwords, SUBSTATIONS)
    assert sorted(own.withdraw()) == ["substation", "substation.gone"]
    with pytest.raises(AMQPConnectionError):
        connection.process_data_events(time_limit=30)
    for user in ("substation", "substation.gone"):
        with pytest.raises(ProbableAuthenticationError):
            connect(url(user))
    for left in (url("monitoring"), *map(broker.url, broker.passwords)):
        connect(left).close()
    assert own.withdraw() == []
    assert replace(own, port=1).withdraw() == []
    broker.request("DELETE", "/api/users/monitoring")
