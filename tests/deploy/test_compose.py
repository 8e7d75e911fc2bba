"""The compose file: hardened, on the loopback address only, and complete."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.settings import ApiSettings
from deploy import environment as env
from deploy import passwords, ready, stack
from deploy.docker import compose, containers, secrets
from deploy.docker.compose import FOLDER, SUBSTATIONS_FILE, Compose
from deploy.rabbitmq.users import substation_user
from dispatcher.settings import DispatcherSettings
from grid.errors import ConfigurationError
from grid.settings import Settings
from substation.settings import SubstationSettings

COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SUBSTATIONS = [name for name in SERVICES if name.startswith("substation")]
OURS = ["api", "dispatcher", *SUBSTATIONS]
FIXED = {
    "HTTP_HOST",
    "SUBSTATIONS_FILE",
    "SUBSTATION_ID",
    "OPERATOR_KEYS_FILE",
    "API_ADDRESS",
}  # what holds inside a container


def substituted(text: str, variables: dict[str, str]) -> str:
    """Put variables in as Compose does: ${A-b} where A is not set, ${A:-b} also where empty."""

    def value(found: re.Match[str]) -> str:
        name, colon, default = found.groups()
        there = bool(variables.get(name)) if colon else name in variables
        return variables[name] if there else default

    return re.sub(r"\$\{(\w+)(:?)-([^}]*)\}", value, text)


def test_image_has_what_exports_spans_where_a_collector_is_named() -> None:
    """Each lock file that the image may be built from is sent to the engine."""
    argument = SERVICES["api"]["build"]["args"]["LOCK"]
    assert argument == "requirements${OTEL_EXPORTER_OTLP_ENDPOINT:+-otel}.lock"
    sent = (stack.ROOT / ".dockerignore").read_text().split()
    for name in ("requirements.lock", "requirements-otel.lock"):
        assert f"!{name}" in sent
        assert ("opentelemetry-sdk==" in (stack.ROOT / name).read_text()) is ("otel" in name)


def resolved(name: str, variables: dict[str, str]) -> dict[str, str]:
    """Return the variables that have a value in a service's container, for these of Compose."""
    environment = SERVICES[name]["environment"]
    return {
        each: substituted(value, variables)
        for each, value in environment.items()
        if value is not None
    }


def mounted_secrets(service: str) -> str:
    """Return the folder that a service sees as /run/secrets."""
    volumes = [each.split(":") for each in SERVICES[service].get("volumes", ())]
    [folder] = [source for source, target, *_ in volumes if target == "/run/secrets"]
    return str(folder)


@pytest.mark.parametrize("name", OURS)
def test_compose_services_of_ours_are_hardened(name: str) -> None:
    """No root user, a read-only root file system, no capability, no new privilege."""
    service = SERVICES[name]
    assert service["user"].split(":")[0].isdigit()
    assert not service["user"].startswith("0")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_compose_services_have_minimal_privileges(name: str) -> None:
    """None is root, keeps a capability, gains a privilege, fills the disk, writes to its image."""
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in ("", "0", "root")
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service.get("privileged", False) is False
    assert "cap_add" not in service


def test_compose_networks_connect_services_only_where_needed() -> None:
    """Services share networks only where needed, and no network leads out of this machine."""
    joined = {name: set(service["networks"]) for name, service in SERVICES.items()}
    meets = {name: {other for other in joined if joined[name] & joined[other]} for name in joined}
    observed = {"dispatcher", "rabbitmq", "prometheus"}
    assert all(meets[name] == {*SUBSTATIONS, *observed} for name in SUBSTATIONS)
    assert meets["api"] == {"api", *observed}
    assert meets["grafana"] == {"grafana", "prometheus"}
    masquerade = "com.docker.network.bridge.enable_ip_masquerade"
    assert all(
        each["driver_opts"] == {masquerade: "false"} for each in COMPOSE["networks"].values()
    )


@pytest.mark.parametrize("name", SERVICES)
def test_compose_services_have_health_checks_and_loopback_ports(name: str) -> None:
    """Each has a health check, which `make up` waits for, and publishes ports on loopback only."""
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - set(OURS)))
def test_compose_images_are_pinned(name: str) -> None:
    """The official images are named by a full version."""
    assert re.search(r":v?\d+\.\d+\.\d+(-management)?$", SERVICES[name]["image"])


def test_compose_ports_follow_their_variables() -> None:
    """The variables and usual ports are those that `make up` checks and prints."""
    text = str([service["ports"] for service in SERVICES.values()])
    found = dict(re.findall(r"\$\{(\w+):-(\d+)\}", text))
    expected = {name: str(port) for name, port in stack.PORTS.items()}
    first = int(expected.pop(stack.SUBSTATIONS))
    for number, name in enumerate(SUBSTATIONS):
        expected[f"{name.upper()}_METRICS_PORT"] = str(first + number)
    assert found == expected


def test_compose_targets_are_the_substations() -> None:
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
def test_compose_passes_every_setting_to_its_service(name: str, settings: type[Settings]) -> None:
    """The caller's variables are passed on unchanged; the file fixes the others."""
    known = {field.alias for field in settings.model_fields.values()}
    own_port = {settings.model_fields["port"].alias}
    environment = SERVICES[name]["environment"]
    assert set(environment) == known - own_port
    passed_on = {each for each, value in environment.items() if value is None}
    replaced = {each for each, value in environment.items() if f"${{{each}" in str(value)}
    more = {env.API_KEYS_FILE, env.PROMETHEUS_URL} if name == "api" else set()
    assert replaced == {*env.BROKER, "LOG_FORMAT", *more}
    assert environment["LOG_FORMAT"] == "${LOG_FORMAT:-json}"
    assert passed_on == set(environment) - replaced - FIXED


def test_compose_tells_the_api_where_prometheus_is_if_it_runs() -> None:
    """Whatever a variable of the caller says, which is meant for Grafana or another program."""
    for services, address in (({}, "http://prometheus:9090"), ({"SERVICES": "api rabbitmq"}, "")):
        variables = Compose.decide(services).environment({"PROMETHEUS_URL": "http://elsewhere"})
        assert resolved("api", variables)["PROMETHEUS_URL"] == address
        assert resolved("grafana", variables)["PROMETHEUS_URL"] == "http://prometheus:9090"


def test_compose_stop_timeout_follows_grace_seconds() -> None:
    """The time until Docker kills it follows from ``GRACE_SECONDS``."""
    variables = Compose.decide({"GRACE_SECONDS": "60"}).environment({})
    assert variables["GRACE_SECONDS"] == "60"
    assert variables["SUBSTATION_STOP_SECONDS"] == "75"
    for name in SUBSTATIONS:
        assert SERVICES[name]["stop_grace_period"] == "${SUBSTATION_STOP_SECONDS:-25}s"
    with pytest.raises(ConfigurationError, match="GRACE_SECONDS=ten"):
        Compose.decide({"GRACE_SECONDS": "ten"})


def test_compose_gives_the_api_time_to_read_its_event_log() -> None:
    """Docker does not call it unhealthy for as long as `make up` waits for it."""
    assert SERVICES["api"]["healthcheck"]["start_period"] == f"{ready.READING_SECONDS:.0f}s"


def test_compose_mounts_only_the_services_own_password() -> None:
    """A service sees its own folder alone, where `make up` writes the password of its own user."""
    handed_out = passwords.mounted(SUBSTATIONS, outside=False)
    with_secrets = {*OURS, "rabbitmq", "grafana"}
    assert set(handed_out) == with_secrets
    for name in with_secrets:
        assert mounted_secrets(name) == f"../.secrets/{passwords.MOUNTED}/{name}"
    for name in OURS:
        user = substation_user(name) if name in SUBSTATIONS else name
        keys = [passwords.KEYS_FILE, passwords.OUTSIDE_KEYS] if name == "api" else []
        assert handed_out[name] == {name: user, **{key: key for key in keys}}
        variables = resolved(name, {})
        assert variables["AMQP_URL"] == "amqp://rabbitmq:5672/"
        assert variables["AMQP_USER"] == user
        assert variables["AMQP_PASSWORD_FILE"] == f"/run/secrets/{name}"
    assert handed_out["grafana"] == {passwords.GRAFANA: passwords.GRAFANA}
    assert set(handed_out["rabbitmq"].values()) == {passwords.DEFINITIONS_FILE, passwords.COOKIE}
    assert "secrets" not in COMPOSE
    assert not [name for name, each in SERVICES.items() if "secrets" in each]
    others = [name for name in SERVICES if name not in with_secrets]
    assert not [name for name in others if ".secrets" in str(SERVICES[name].get("volumes"))]


def test_compose_mounts_operator_and_caller_keys_into_the_api(tmp_path: Path) -> None:
    """The project's keys always, the caller's if set; the operator's key itself is not mounted."""
    own = tmp_path / "keys"
    own.write_text(f"depot operator {'a' * 64}\n")
    for told_keys, file in (({}, ""), ({"API_KEYS_FILE": str(own)}, "outside-api-keys")):
        variables = Compose.decide(told_keys).environment({})
        found = resolved("api", variables)
        assert found["OPERATOR_KEYS_FILE"] == "/run/secrets/api-keys"
        assert found["API_KEYS_FILE"] == (file and f"/run/secrets/{file}")
    handed_out = passwords.mounted(SUBSTATIONS, outside=False)
    assert {passwords.KEYS_FILE, passwords.OUTSIDE_KEYS} <= set(handed_out["api"])
    assert passwords.OPERATOR not in {
        each for names in handed_out.values() for each in names.values()
    }


def test_compose_alone_makes_the_passwords_before_what_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One service does it, once, without a network; `make up` has done it and says so."""
    assert COMPOSE["include"] == ["docker-compose.passwords.yml"]
    text = (FOLDER / "docker-compose.passwords.yml").read_text()
    [(name, service)] = yaml.safe_load(text)["services"].items()
    for each in (*OURS, "rabbitmq", "grafana"):
        condition = SERVICES[each]["depends_on"][name]
        assert condition == {"condition": "service_completed_successfully", "required": False}
    assert service["network_mode"] == "none"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "no"
    assert service["command"] == ["python3", "-m", secrets.__name__]
    written = {name: substituted(each, {}) for name, each in service["environment"].items()}
    assert written == {"WRITTEN": ""}
    by_make_up = Compose.decide({}).environment({})
    assert substituted(service["environment"]["WRITTEN"], by_make_up) == "1"

    monkeypatch.setattr(stack, "SECRETS", tmp_path / "secrets")
    monkeypatch.setenv("WRITTEN", "1")
    assert secrets.main() == 0
    assert not (tmp_path / "secrets").exists()
    monkeypatch.setenv("WRITTEN", "")
    assert secrets.main() == 0
    made = _contents(tmp_path)
    assert {f"secrets/{passwords.MOUNTED}/{each}/{each}" for each in OURS} <= set(made)
    assert f"secrets/{passwords.OPERATOR}" in made
    assert secrets.main() == 0
    assert _contents(tmp_path) == made


def _contents(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_text() for file in files}


def test_compose_recreates_a_container_when_a_mounted_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label has the digest of keys and alerts, since Compose does not look into files."""
    monkeypatch.setattr(stack, "SECRETS", tmp_path)
    assert {file.name for file in compose.PROMETHEUS_FILES} == {
        "prometheus.yml",
        "rules.yml",
        "alerts.yml",
    }
    monkeypatch.setattr(compose, "PROMETHEUS_FILES", [tmp_path / "alerts.yml"])

    def labels() -> list[str]:
        variables = Compose().environment({})
        return [
            substituted(SERVICES[name]["labels"]["reads"], variables)
            for name in ("api", "prometheus")
        ]

    seen = [labels()]
    for name in (passwords.KEYS_FILE, passwords.OUTSIDE_KEYS, "alerts.yml"):
        (tmp_path / name).write_text("changed")
        seen.append(labels())
    assert [[x != y for x, y in zip(a, b, strict=True)] for a, b in pairwise(seen)] == [
        [True, False],
        [True, False],
        [False, True],
    ]


def test_compose_ignores_amqp_user_without_an_address() -> None:
    """Without AMQP_URL, user and password of the caller's shell are not passed on."""
    compose = Compose.decide({})
    stray = {"AMQP_URL": "", "AMQP_USER": "somebody", "AMQP_PASSWORD_FILE": "/x", "PATH": "/bin"}
    assert not set(env.BROKER) & set(compose.environment(stray))
    assert compose.environment(stray)["PATH"] == "/bin"


def test_compose_starts_no_broker_with_an_outside_one() -> None:
    """With AMQP_URL, `make up` starts no broker, waits for none, and needs none of its ports."""
    outside = yaml.safe_load((FOLDER / "docker-compose.outside-broker.yml").read_text())["services"]
    assert list(outside) == ["rabbitmq"]
    assert outside["rabbitmq"]["profiles"]
    compose = Compose.decide({"AMQP_URL": "amqp://x/"})
    assert "rabbitmq" not in compose.services
    assert stack.PORTS[stack.RABBITMQ] not in compose.listening()


@pytest.mark.parametrize("name", OURS)
def test_compose_passes_outside_credentials_to_every_service(name: str) -> None:
    """With a user and a password's file every service logs in with these, and no other."""
    told_by_caller = {
        "AMQP_URL": "amqp://rabbit.example:5671/",
        "AMQP_USER": "grid",
        "AMQP_PASSWORD_FILE": "/etc/grid/password",
    }
    variables = Compose.decide(told_by_caller).environment(told_by_caller)
    found = resolved(name, variables)
    assert found["AMQP_URL"] == "amqp://rabbit.example:5671/"
    assert found["AMQP_USER"] == "grid"
    assert found["AMQP_PASSWORD_FILE"] == f"/run/secrets/{name}"
    handed_out = passwords.mounted(SUBSTATIONS, outside=True)
    assert handed_out[name][name] == passwords.OUTSIDE_BROKER


@pytest.mark.parametrize("name", OURS)
def test_compose_mounts_outside_tls_files_into_every_service(name: str) -> None:
    """Each named file is at its place in the container; without an outside broker, none is."""
    by_caller = {"AMQP_URL": "amqps://rabbit.example/", "AMQP_CA_FILE": "/etc/grid/ca.pem"}
    found = resolved(name, Compose.decide(by_caller).environment(by_caller))
    target = f"{compose.TLS_FOLDER}/AMQP_CA_FILE"
    assert [found[each] for each in env.TLS_FILES] == [target, "", ""]
    mount = f"../.secrets/{passwords.OUTSIDE_TLS}:{compose.TLS_FOLDER}:ro"
    assert mount in SERVICES[name]["volumes"]
    stray = {"AMQP_CA_FILE": "/etc/grid/ca.pem"}
    found = resolved(name, Compose.decide(stray).environment(stray))
    assert [found[each] for each in env.TLS_FILES] == ["", "", ""]


@pytest.mark.parametrize("name", OURS)
def test_compose_keeps_credentials_in_the_address(name: str) -> None:
    """With user and password in the address no service keeps a user of our own broker."""
    address = {"AMQP_URL": "amqp://user:password@rabbit.example/"}
    found = resolved(name, Compose.decide(address).environment({}))
    assert found["AMQP_URL"] == address["AMQP_URL"]
    assert (found["AMQP_USER"], found["AMQP_PASSWORD_FILE"]) == ("", "")


def test_compose_decides_the_same_for_a_running_stack() -> None:
    """A second `make up` without variables decides the same, so that Compose changes nothing."""
    said = {"CONNECTORS": "5", "AMQP_URL": "amqp://x/", "AMQP_USER": "u", stack.API: "7100"}
    first = Compose.decide({**said, "SERVICES": "api rabbitmq"})
    second = Compose.decide(first.stack_state().variables())
    assert second == first
    assert second.environment({"CONNECTORS": ""})["CONNECTORS"] == "5"


def test_compose_does_not_wait_for_a_container_that_keeps_restarting() -> None:
    """Docker's states are understood: healthy, starting, and failed for good."""
    found = containers.parse(
        "api running 0 healthy\ndispatcher running 5 starting\n"
        "substation1 restarting 1 starting\nsubstation2 restarting 4 unhealthy\n"
        "rabbitmq exited 0 unhealthy\n"
    )
    assert [name for name, each in found.items() if each.healthy] == ["api"]
    assert [name for name, each in found.items() if each.ended] == ["substation2", "rabbitmq"]


def test_compose_substation_ports_follow_one_base() -> None:
    """One base moves all substations' ports; a port that is taken is reported with that base."""
    compose = Compose.decide({stack.SUBSTATIONS: "19101"})
    assert compose.substations() == {name: 19101 + n for n, name in enumerate(SUBSTATIONS)}
    assert stack.SUBSTATIONS in compose.listening()[19103]
