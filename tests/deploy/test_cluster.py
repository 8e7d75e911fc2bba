"""``CLUSTER=1``: three nodes that find each other, and services that know all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import environment as env
from deploy import passwords, stack
from deploy.docker import compose
from deploy.docker.compose import FOLDER, NODES, Compose
from deploy.local import prometheus
from grid.errors import ConfigurationError
from grid.settings import Settings, parse


class Loader(yaml.SafeLoader):
    """A YAML loader that reads Compose's own tag ``!reset`` as the value behind it."""


Loader.add_constructor("!reset", lambda _loader, node: [each.value for each in node.value])
TEXT = (FOLDER / compose.CLUSTER_FILES[-1]).read_text()
OVERRIDE: dict[str, Any] = yaml.load(TEXT, Loader)  # noqa: S506  # a safe one
SERVICES = {name: one for name, one in OVERRIDE["services"].items() if name != "prometheus"}
BASE: dict[str, Any] = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())
CLUSTER = {"CLUSTER": "1"}


def environment(said: dict[str, str]) -> dict[str, str]:
    """Return the variables for Compose, for these variables of the caller."""
    return Compose.decide(said).environment({})


def lines(name: str) -> list[str]:
    """Return the settings in one of RabbitMQ's files."""
    text = (FOLDER / "rabbitmq" / name).read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_cluster_services_know_every_node() -> None:
    """Each service's list has all addresses, and each service keeps its own user."""
    assert tuple(SERVICES) == NODES
    variables = environment(CLUSTER)
    urls = parse(Settings, {"AMQP_URL": variables["AMQP_URL"]}).amqp_urls
    assert urls == tuple(f"amqp://{node}:5672/" for node in NODES)
    assert "AMQP_USER" not in variables
    assert "AMQP_PASSWORD_FILE" not in variables


def test_cluster_nodes_are_waited_for_and_kept() -> None:
    """`make up` waits until all three are healthy; a second call keeps the same nodes."""
    one = Compose.decide(CLUSTER)
    assert set(NODES) <= set(one.services)
    assert Compose.decide(one.stack_state().variables()) == one
    assert set(Compose.decide({}).services) & set(NODES) == {"rabbitmq"}


@pytest.mark.parametrize(
    "said", [{"CLUSTER": "3"}, {"CLUSTER": "yes"}, {**CLUSTER, "AMQP_URL": "amqp://x/"}]
)
def test_cluster_setting_refuses_wrong_combinations(said: dict[str, str]) -> None:
    """A number other than 1, and ``CLUSTER`` together with a broker of the caller's own."""
    with pytest.raises(ConfigurationError, match=r"CLUSTER="):
        Compose.decide(said)


@pytest.mark.parametrize("name", NODES)
def test_cluster_nodes_are_configured_like_the_single_node(name: str) -> None:
    """It has the single node's image, health check, hardening, definitions, and data of its own."""
    node = SERVICES[name]
    hostname = {**BASE["services"]["rabbitmq"], **node}["hostname"]
    assert hostname == name  # its data and the other nodes know it by this name
    assert f"rabbit@{hostname}" in [line.split(" = ")[1] for line in lines("cluster-nodes.conf")]
    if name != "rabbitmq":
        assert node["extends"] == {"file": "docker-compose.yml", "service": "rabbitmq"}
        assert node["ports"] == []
    assert BASE["services"]["rabbitmq"]["user"] == "rabbitmq"  # the owner of the cookie's file
    weaker = {"image", "user", "cap_add", "privileged", "security_opt", "networks", "environment"}
    assert not weaker & set(node)
    volume, *files = node["volumes"]
    assert volume.split(":")[0] in OVERRIDE["volumes"]
    assert all(Path(FOLDER, file.split(":")[0]).exists() for file in files)
    assert all(file.endswith(":ro") for file in files)


def test_cluster_nodes_have_separate_volumes() -> None:
    """Three volumes, and none is that of a single node."""
    found = [node["volumes"][0].split(":")[0] for node in SERVICES.values()]
    assert len({*found, *BASE["volumes"]}) == len(NODES) + len(BASE["volumes"])


def test_cluster_prometheus_scrapes_every_node() -> None:
    """The single node's list is replaced by one of three, where Prometheus looks for it."""
    [mount] = OVERRIDE["services"]["prometheus"]["volumes"]
    there, here, _ = mount.split(":")
    assert here == "/etc/prometheus/rabbitmq.json"
    [three] = json.loads((FOLDER / there).read_text())
    [one] = json.loads((FOLDER / "prometheus" / "rabbitmq.json").read_text())
    assert three["targets"] == [f"{node}:15692" for node in NODES]
    assert one["targets"] == three["targets"][:1] == [prometheus.BROKER]
    config = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())
    jobs = [job for job in config["scrape_configs"] if job["job_name"].startswith("rabbitmq")]
    assert [job["file_sd_configs"] for job in jobs] == [[{"files": ["rabbitmq.json"]}]] * 2


def test_cluster_last_node_declares_the_queues_and_a_minority_stops() -> None:
    """So each queue has three members, and a partitioned minority accepts nothing it could lose."""
    assert set(lines("cluster.conf")) == {
        "cluster_formation.peer_discovery_backend = classic_config",
        f"cluster_formation.target_cluster_size_hint = {len(NODES)}",
        "cluster_partition_handling = pause_minority",
    }
    assert len(lines("cluster-nodes.conf")) == len(NODES)


def test_cluster_cookie_is_a_secret_created_once(tmp_path: Path) -> None:
    """It is mounted from a file and is in no environment; the nodes copy it for themselves."""
    folder = tmp_path / "secrets"
    passwords.write_for_containers(folder, {}, ())
    cookie = (folder / passwords.COOKIE).read_text()
    assert len(cookie.strip()) >= passwords.PASSWORD_BYTES
    passwords.write_for_containers(folder, {}, ())
    assert (folder / passwords.COOKIE).read_text() == cookie
    assert (folder / passwords.MOUNTED / "rabbitmq" / passwords.COOKIE).read_text() == cookie
    node = BASE["services"]["rabbitmq"]
    assert f"../.secrets/{passwords.MOUNTED}/rabbitmq:/run/secrets:ro" in node["volumes"]
    assert f"/run/secrets/{passwords.COOKIE}" in node["command"][-1]
    assert not [name for name in node["environment"] if "COOKIE" in name]
    for other in SERVICES.values():
        assert not {"secrets", "command", "environment"} & set(other)


def test_clean_removes_the_data_of_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if a single node ran since."""
    monkeypatch.setattr(stack, "STATE", tmp_path)
    monkeypatch.setattr(stack, "SECRETS", tmp_path / "secrets")
    monkeypatch.setattr(compose, "USED", tmp_path / "docker")
    Compose.decide({}).write_files()
    assert not compose.used_as_cluster()
    Compose.decide(CLUSTER).write_files()
    Compose.decide({}).write_files()
    assert compose.used_as_cluster()
    assert env.clustered(CLUSTER)
