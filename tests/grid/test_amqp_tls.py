"""AMQP over TLS to a real RabbitMQ: both sides verify each other, or there is no connection."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from deploy.files import own_folder
from deploy.local.ports import HOST
from deploy.local.rabbitmq import SCRIPT
from grid import topology
from grid.amqp import Publisher
from grid.settings import Settings, parse
from grid.tls import TlsFiles
from tests.broker import Broker
from tests.grid.certificates import Authority
from tests.grid.links import Seen, eventually, running, started
from tests.ports import free_ports

pytestmark = pytest.mark.integration

CONFIG: Final = """\
listeners.ssl.1 = {host}:{port}
ssl_options.cacertfile = {files.ca}
ssl_options.certfile = {files.certificate}
ssl_options.keyfile = {files.key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
"""


class TlsBroker:
    """A node that accepts clients with a certificate of its authority; it has one itself."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.own = self.authority.issue("server", HOST)
        self.client = self.authority.issue("client", "client")
        self.broker = Broker(folder / "node")
        (self.port,) = free_ports(1)
        config = CONFIG.format(host=HOST, port=self.port, files=self.own)
        own_folder(folder / "node")
        (own_folder(folder / "node" / "conf.d") / "tls.conf").write_text(config)

    def url(self, files: TlsFiles, *, scheme: str = "amqps", port: int | None = None) -> str:
        """Return the address that the settings make of these files, for the api."""
        where = f"{HOST}:{port or self.port}"
        values = {
            "AMQP_URL": f"{scheme}://api:{self.broker.passwords['api']}@{where}/",
            "AMQP_CA_FILE": str(files.ca or ""),
            "AMQP_CERTIFICATE_FILE": str(files.certificate or ""),
            "AMQP_KEY_FILE": str(files.key or ""),
        }
        return parse(Settings, values).broker_urls()[0]

    def present(self, files: TlsFiles) -> None:
        """Have the node present another certificate from now on."""
        for new, there in ((files.certificate, self.own.certificate), (files.key, self.own.key)):
            assert new is not None
            assert there is not None
            shutil.copy(new, there)
        command = [str(SCRIPT.with_name("rabbitmqctl")), "-n", "grid@localhost"]
        subprocess.run(  # noqa: S603
            [*command, "eval", "ssl:clear_pem_cache()."],
            env={"PATH": os.environ["PATH"], **self.broker.node.environment()},
            check=True,
            capture_output=True,
        )


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsBroker]:
    """Run a node of its own that wants a certificate of every client."""
    one = TlsBroker(tmp_path_factory.mktemp("tls"))
    try:
        one.broker.start()
        yield one
    finally:
        one.broker.close()


async def refusal_by(url: str) -> str:
    """Return the reason why a link is not up, which is logged once."""
    seen = Seen()
    async with started(Publisher("publisher", [url], seen)) as link:
        await eventually(lambda: seen.calls, "the link says why")
        await asyncio.sleep(0.5)  # it tries again meanwhile
        assert not link.connected
    ((_, up, why),) = seen.calls
    assert not up
    assert "\n" not in why
    return why


async def test_client_with_its_certificate_publishes_over_tls(node: TlsBroker) -> None:
    """The settings' files make a link that works, also after the certificate was renewed."""
    renewed = node.authority.issue("renewed", "client")
    seen = Seen()
    async with running(Publisher("publisher", [node.url(renewed)], seen)) as link:
        await link.confirmed(topology.REQUESTS_EXCHANGE, topology.REQUESTS, b"", id="a", timeout=10)
        node.authority.issue("renewed", "client")
        for each in await asyncio.to_thread(node.broker.request, "GET", "/api/connections"):
            path = f"/api/connections/{each['name'].replace(' ', '%20').replace('>', '%3E')}"
            await asyncio.to_thread(node.broker.request, "DELETE", path)
        await link.confirmed(topology.REQUESTS_EXCHANGE, topology.REQUESTS, b"", id="b", timeout=20)


async def test_link_refuses_a_broker_of_another_certificate_authority(
    node: TlsBroker, tmp_path: Path
) -> None:
    """A server that takes over the broker's address gets no password."""
    other = TlsFiles(Authority(tmp_path, "other").file, node.client.certificate, node.client.key)
    why = await refusal_by(node.url(other))
    assert "certificate verify failed" in why


async def test_link_without_ca_file_trusts_the_systems_authorities(node: TlsBroker) -> None:
    """They do not include the test's authority."""
    why = await refusal_by(node.url(TlsFiles(None, node.client.certificate, node.client.key)))
    assert "certificate verify failed" in why


@pytest.mark.parametrize(
    ("names", "days", "problem"),
    [
        (["another.example"], 1, f"certificate is not valid for '{HOST}'"),
        ([HOST], -1, "certificate has expired"),
    ],
)
async def test_link_refuses_a_broker_with_a_wrong_certificate(
    names: list[str], days: float, problem: str, node: TlsBroker, tmp_path: Path
) -> None:
    """One for another host, and one that has expired."""
    own = TlsFiles(
        *(
            None if path is None else Path(shutil.copy(path, tmp_path))
            for path in (node.own.ca, node.own.certificate, node.own.key)
        )
    )
    await asyncio.to_thread(node.present, node.authority.issue("wrong", *names, days=days))
    try:
        why = await refusal_by(node.url(node.client))
    finally:
        await asyncio.to_thread(node.present, own)
    assert problem in why


async def test_broker_refuses_a_client_without_certificate(node: TlsBroker) -> None:
    """A password alone is not enough."""
    why = await refusal_by(node.url(TlsFiles(ca=node.client.ca)))
    assert "certificate required" in why.replace("_", " ").lower()


async def test_broker_refuses_a_client_with_an_expired_certificate(node: TlsBroker) -> None:
    """The broker checks the dates as well."""
    why = await refusal_by(node.url(node.authority.issue("late", "client", days=-1)))
    assert "certificate expired" in why.replace("_", " ").lower()


async def test_plain_address_cannot_connect_to_the_tls_port(node: TlsBroker) -> None:
    """A plain address does not get through, and the link says what to check."""
    why = await refusal_by(node.url(TlsFiles(), scheme="amqp"))
    assert "amqps://" in why


async def test_tls_address_cannot_connect_to_the_plain_port(node: TlsBroker) -> None:
    """A TLS address never falls back to a plain connection."""
    plain = node.broker.node.ports.amqp
    why = await refusal_by(node.url(node.client, port=plain))
    assert "ssl" in why.lower()
