"""The compose file: hardened, on the loopback address only, and complete."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from api.settings import ApiSettings
from deploy import passwords, stack
from deploy.docker.compose import FOLDER, SUBSTATIONS_FILE, Compose
from dispatcher.settings import DispatcherSettings
from grid.settings import Settings
from substation.settings import SubstationSettings

COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SUBSTATIONS = [name for name in SERVICES if name.startswith("substation")]
OURS = ["api", "dispatcher", *SUBSTATIONS]


@pytest.mark.parametrize("name", OURS)
def test_our_services_may_do_little(name: str) -> None:
    """Not root, a root that is read-only, no capability, no new privilege."""
    service = SERVICES[name]
    assert service["user"].split(":")[0].isdigit()
    assert not service["user"].startswith("0")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_checked_and_published_on_loopback_only(name: str) -> None:
    """Each has a health check, which `--wait` waits for, and no port is open to the network."""
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - set(OURS)))
def test_images_are_pinned(name: str) -> None:
    """The official images are named by a full version."""
    assert re.search(r":v?\d+\.\d+\.\d+(-management)?$", SERVICES[name]["image"])


def test_every_port_is_moved_by_its_variable() -> None:
    """The variables and usual ports are those that `make up` checks and prints."""
    text = str([service["ports"] for service in SERVICES.values()])
    found = dict(re.findall(r"\$\{(\w+):-(\d+)\}", text))
    expected = {name: str(port) for name, port in stack.PORTS.items()}
    first = int(expected.pop(stack.SUBSTATIONS))
    for number, name in enumerate(SUBSTATIONS):
        expected[f"{name.upper()}_METRICS_PORT"] = str(first + number)
    assert found == expected


def test_the_targets_are_the_substations() -> None:
    """Dispatcher and Prometheus read exactly the substations that run."""
    groups = json.loads(SUBSTATIONS_FILE.read_text())
    assert [group["labels"]["substation"] for group in groups] == SUBSTATIONS
    assert [group["targets"] for group in groups] == [[f"{name}:9100"] for name in SUBSTATIONS]
    for name in SUBSTATIONS:
        assert SERVICES[name]["environment"]["SUBSTATION_ID"] == name


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("api", ApiSettings),
        ("dispatcher", DispatcherSettings),
        ("substation1", SubstationSettings),
    ],
)
def test_every_setting_reaches_its_service(name: str, settings: type[Settings]) -> None:
    """Whatever a service can be told is passed on, but for the port inside its container."""
    known = {field.alias for field in settings.model_fields.values()}
    own_port = {settings.model_fields["port"].alias}
    assert set(SERVICES[name]["environment"]) == known - own_port


def test_each_service_sees_its_own_password_only() -> None:
    """The secret a service mounts is that of its own user, and `make up` writes it."""
    for name in OURS:
        user = re.sub(r"\d+$", "", name)
        assert SERVICES[name]["secrets"] == [user]
        assert SERVICES[name]["environment"]["AMQP_USER"] == user
        assert SERVICES[name]["environment"]["AMQP_PASSWORD_FILE"] == f"/run/secrets/{user}"
    files = {secret["file"].rsplit("/", 1)[1] for secret in COMPOSE["secrets"].values()}
    assert files <= {*passwords.USERS, passwords.DEFINITIONS_FILE}


def test_an_outside_broker_replaces_ours_everywhere() -> None:
    """With AMQP_URL no service keeps a user of our own broker, and none of it is started."""
    outside = yaml.safe_load((FOLDER / "docker-compose.outside-broker.yml").read_text())["services"]
    assert set(outside) == {*OURS, "rabbitmq"}
    for name in OURS:
        assert outside[name]["environment"]["AMQP_USER"] == ""
    assert outside["rabbitmq"]["profiles"]


def test_published_ports_follow_the_environment() -> None:
    """One base moves all substations' ports, and a taken one is told with that base."""
    compose = Compose.decide({stack.SUBSTATIONS: "19101"}, None)
    assert compose.substations() == {name: 19101 + n for n, name in enumerate(SUBSTATIONS)}
    assert stack.SUBSTATIONS in compose.listening()[19103]
