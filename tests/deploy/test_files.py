"""What `make up` writes: passwords, and the files of RabbitMQ, Prometheus and the supervisor."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from supervisor.datatypes import RestartUnconditionally
from supervisor.options import ServerOptions

from api import auth
from deploy import environment as env
from deploy import files, passwords, stack
from deploy.docker.compose import Compose
from deploy.local import prometheus, substations, supervisor
from deploy.local.paths import from_inside
from deploy.local.programs import Program
from deploy.local.rabbitmq import Node, NodePorts
from deploy.local.setup import ERLANG_PORTS, Setup
from deploy.rabbitmq import definitions
from deploy.rabbitmq.users import permissions, substation_user
from grid import topology
from grid.errors import ConfigurationError

SUBSTATIONS = ("north", "south")
USERS = (*permissions(SUBSTATIONS), passwords.GRAFANA)
PASSWORDS = {user: f"secret of {user}" for user in USERS}


def mode(path: Path) -> str:
    """Return a file's permission bits as `chmod` takes them."""
    return oct(path.stat().st_mode & 0o777)


def test_password_hash_agrees_with_rabbitmqs_documentation() -> None:
    """The hash is the one RabbitMQ's documentation computes for the same password and salt."""
    salt = bytes.fromhex("908DC60A")
    documented = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
    assert definitions.hash_password("test12", salt) == documented


def test_definitions_render_the_same_twice() -> None:
    """Rendered twice they are the same, so that a restarted node need not import them again."""
    assert definitions.render(PASSWORDS, SUBSTATIONS) == definitions.render(PASSWORDS, SUBSTATIONS)
    assert definitions.render(PASSWORDS, SUBSTATIONS) != definitions.render(
        {**PASSWORDS, "api": "another"}, SUBSTATIONS
    )


def test_erlang_cookie_is_random_and_created_once(tmp_path: Path) -> None:
    """Anyone who knows the cookie controls the node; Erlang's own could be guessed."""
    nodes = [Node(tmp_path / name, NodePorts(1, 2, 3, 4, 5)) for name in ("one", "other")]
    found = []
    for node in (*nodes, nodes[0]):
        node.prepare({})
        file = node.folder / ".erlang.cookie"
        assert mode(file) == "0o400"
        found.append(file.read_text())
    assert found[0] == found[2] != found[1]
    files.write(nodes[0].folder / ".erlang.cookie", "ABCDEFGHIJKLMNOPQRST")
    nodes[0].prepare({})
    assert len((nodes[0].folder / ".erlang.cookie").read_text()) >= 32, "an earlier version's"
    assert len(found[0]) >= 32


def test_definitions_hold_no_password_and_no_guest() -> None:
    """The file contains no password, and guest is not a user."""
    rendered = definitions.render(PASSWORDS, SUBSTATIONS)
    assert not any(password in str(rendered) for password in PASSWORDS.values())
    names = {user["name"] for user in rendered["users"]}
    assert names == {*USERS} - {passwords.GRAFANA}
    assert {"substation.north", "substation.south"} < names
    assert "guest" not in names


def test_definitions_of_a_stack_have_the_queue_of_each_substation() -> None:
    """As the dispatcher declares it: a substation that starts before it finds its queue."""
    rendered = definitions.render_stack(PASSWORDS, SUBSTATIONS)
    without = definitions.render(PASSWORDS, SUBSTATIONS)
    queues = [each for each in rendered["queues"] if each not in without["queues"]]
    bindings = [each for each in rendered["bindings"] if each not in without["bindings"]]
    expected = [topology.substation_queue(name) for name in SUBSTATIONS]
    assert [(each["vhost"], each["name"], each["arguments"]) for each in queues] == [
        ("/", each.name, each.arguments) for each in expected
    ]
    assert [(each["source"], each["destination"], each["routing_key"]) for each in bindings] == [
        (each.exchange, each.name, each.key) for each in expected
    ]
    assert rendered["users"] == without["users"]


def test_passwords_are_created_once_and_private(tmp_path: Path) -> None:
    """Each user gets a password of its own, kept from then on, that only the owner reads."""
    folder = tmp_path / "secrets"
    first = passwords.ensure(folder, SUBSTATIONS)
    assert passwords.ensure(folder, SUBSTATIONS) == first
    assert len(set(first.values())) == len(USERS)
    assert mode(folder) == "0o700"
    assert {mode(file) for file in folder.iterdir()} == {"0o600"}


def test_passwords_are_readable_in_containers_and_private_otherwise(tmp_path: Path) -> None:
    """For containers the files are open, the folder is not; without containers they close again."""
    folder = tmp_path / "secrets"
    passwords.ensure(folder, SUBSTATIONS, for_containers=True)
    assert mode(folder) == "0o700"
    assert {mode(file) for file in folder.iterdir()} == {"0o644"}
    passwords.ensure(folder, SUBSTATIONS)
    assert {mode(file) for file in folder.iterdir()} == {"0o600"}


def test_outside_password_is_copied_for_containers(tmp_path: Path) -> None:
    """The copy is readable inside a folder that is not; a missing file is named."""
    source = tmp_path / "mine"
    source.write_text("secret\n")
    outside = {"AMQP_URL": "amqp://x/", "AMQP_PASSWORD_FILE": str(source)}
    folder = tmp_path / "secrets"
    passwords.write_for_containers(folder, outside, SUBSTATIONS)
    copy = folder / passwords.OUTSIDE_BROKER
    for file in (copy, folder / passwords.MOUNTED / "api" / "api"):
        assert file.read_text() == "secret\n"
        assert (mode(file), mode(folder)) == ("0o644", "0o700")
    with pytest.raises(ConfigurationError, match=f"AMQP_PASSWORD_FILE={source}x: cannot be read"):
        passwords.write_for_containers(
            folder, {**outside, "AMQP_PASSWORD_FILE": f"{source}x"}, SUBSTATIONS
        )


def test_each_container_gets_its_own_files_and_a_former_substations_are_removed(
    tmp_path: Path,
) -> None:
    """Its folder has its own password and no other; it can be read there, and not from outside."""
    folder = tmp_path / "secrets"
    passwords.write_for_containers(folder, {}, SUBSTATIONS)
    handed_out = folder / passwords.MOUNTED
    [first, *others] = SUBSTATIONS
    assert [file.name for file in (handed_out / first).iterdir()] == [first]
    own = (handed_out / first / first).read_text()
    assert own == (folder / substation_user(first)).read_text()
    assert mode(handed_out / first) == "0o755"
    passwords.write_for_containers(folder, {}, others)
    assert not (handed_out / first).exists()


def test_tls_files_are_copied_for_containers(tmp_path: Path) -> None:
    """They go to one folder, which exists even if no file is named, since Compose mounts it."""
    folder = tmp_path / "secrets"
    passwords.write_for_containers(folder, {}, SUBSTATIONS)
    assert list((folder / passwords.OUTSIDE_TLS).iterdir()) == []
    files = {name: str(tmp_path / name.lower()) for name in env.TLS_FILES}
    for name, file in files.items():
        Path(file).write_text(name)
    outside = {"AMQP_URL": "amqps://x/", **files}
    passwords.write_for_containers(folder, outside, SUBSTATIONS)
    copies = {copy.name: copy.read_text() for copy in (folder / passwords.OUTSIDE_TLS).iterdir()}
    assert copies == {name: name for name in files}
    assert mode(folder) == "0o700"
    assert mode(folder / passwords.OUTSIDE_TLS) == "0o755"


def test_operator_key_is_created_once_and_the_api_gets_its_hash(tmp_path: Path) -> None:
    """The api's file has the key's hash, not the key; only the owner can read either."""
    folder = tmp_path / "secrets"
    file = passwords.ensure_keys(folder)
    secret = (folder / "operator").read_text().strip()
    assert len(secret) >= 43  # 32 bytes
    assert secret not in file.read_text()
    assert [
        each.scope for each in auth.parse_keys(file.read_text()).entries_for(secret.encode())
    ] == ["operator"]
    assert (mode(folder), mode(folder / "operator"), mode(file)) == ("0o700", "0o600", "0o600")
    before = file.read_text()
    assert passwords.ensure_keys(folder).read_text() == before
    assert (folder / "operator").read_text().strip() == secret


def test_operator_key_itself_is_not_readable_by_containers(tmp_path: Path) -> None:
    """The file of hashes is open to them, inside a folder that is not; the key stays closed."""
    file = passwords.ensure_keys(tmp_path / "secrets", for_containers=True)
    assert mode(file) == "0o644"
    assert mode(file.parent / "operator") == "0o600"


def test_caller_keys_are_copied_for_containers(tmp_path: Path) -> None:
    """They are copied like an outside broker's password."""
    source = tmp_path / "mine"
    source.write_text(f"depot operator {'a' * 64}\n")
    folder = tmp_path / "secrets"
    passwords.write_for_containers(folder, {"API_KEYS_FILE": str(source)}, SUBSTATIONS)
    copy = folder / passwords.OUTSIDE_KEYS
    assert copy.read_text() == source.read_text()
    assert mode(copy) == "0o644"
    passwords.write_for_containers(folder, {}, SUBSTATIONS)
    assert copy.read_text() == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("depot\n", "line 1: must be"),
        (None, "cannot be read"),
        ("# nobody\n", "there is no key in it"),
    ],
)
@pytest.mark.parametrize("decide", [partial(Setup.decide, running=None), Compose.decide])
def test_wrong_keys_file_is_named_before_anything_starts(
    tmp_path: Path, decide: Callable[..., object], content: str | None, words: str
) -> None:
    """In either mode, with the variable, the file and the line."""
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=f"API_KEYS_FILE={file}: {words}"):
        decide({"API_KEYS_FILE": str(file)})


def test_program_lists_the_files_whose_change_restarts_it(tmp_path: Path) -> None:
    """What is read at the start alone counts: RabbitMQ's configuration, the api's keys, alerts."""
    ports = {**stack.PORTS, **dict.fromkeys(ERLANG_PORTS, 25672)}
    running = stack.StackState("local", ports, {}, [*range(1024, 65536)])
    programs = {each.name: each for each in Setup.decide({}, running).programs}
    assert [file.name for file in programs["rabbitmq"].reads] == ["rabbitmq.conf"]
    assert [file.name for file in programs["prometheus"].reads] == [
        "prometheus.yml",
        "rules.yml",
        "alerts.yml",
    ]
    shared = stack.ROOT / "grid" / "topology.py"  # it names the exchanges that services publish to
    for name in ("dispatcher", "substation1"):
        assert programs[name].reads == [shared]
    assert programs["api"].reads == [stack.SECRETS / passwords.KEYS_FILE, shared]
    seen = str(from_inside(stack.SECRETS / passwords.KEYS_FILE))
    assert programs["api"].environment["OPERATOR_KEYS_FILE"] == seen
    assert "API_KEYS_FILE" not in programs["api"].environment
    own = tmp_path / "keys"
    own.write_text(f"depot operator {'a' * 64}\n")
    with_keys = {
        each.name: each for each in Setup.decide({"API_KEYS_FILE": str(own)}, running).programs
    }
    assert with_keys["api"].reads == [stack.SECRETS / passwords.KEYS_FILE, own, shared]
    assert with_keys["api"].environment["API_KEYS_FILE"] == str(own)
    before = files.digest([own, tmp_path / "not there"])
    own.write_text("# none\n")
    assert files.digest([own, tmp_path / "not there"]) != before


def test_api_is_told_where_prometheus_listens() -> None:
    ports = {**stack.PORTS, **dict.fromkeys(ERLANG_PORTS, 25672), stack.PROMETHEUS: 9999}
    running = stack.StackState("local", ports, {}, [*range(1024, 65536)])
    programs = Setup.decide({stack.PROMETHEUS: "9999"}, running).programs
    (api,) = (each for each in programs if each.name == "api")
    assert api.environment["PROMETHEUS_URL"] == "http://127.0.0.1:9999"


def scrape_jobs(text: str) -> dict[str, dict[str, Any]]:
    """Return the scrape jobs of a Prometheus configuration by name."""
    return {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}


@pytest.mark.integration
def test_prometheus_jobs_are_the_same_with_and_without_containers(tmp_path: Path) -> None:
    """The jobs are the same, with this machine's addresses, and Prometheus accepts the file."""
    targets = tmp_path / "substations.json"
    targets.write_text("[]")
    text = prometheus.render(stack.PORTS, targets, own_broker=True)
    file = tmp_path / "prometheus.yml"
    file.write_text(text)
    subprocess.run(["promtool", "check", "config", file], check=True)  # noqa: S603, S607
    jobs = scrape_jobs(text)
    assert list(jobs) == list(scrape_jobs((prometheus.FOLDER / "prometheus.yml").read_text()))
    addresses = [
        address
        for job in jobs.values()
        for group in job.get("static_configs", [])
        for address in group["targets"]
    ]
    assert all(address.startswith("127.0.0.1:") for address in addresses)
    assert jobs["substation"]["file_sd_configs"][0]["files"] == [str(targets)]


def test_prometheus_does_not_scrape_an_outside_broker(tmp_path: Path) -> None:
    """A broker that is not ours is not scraped."""
    text = prometheus.render(stack.PORTS, tmp_path / "x.json", own_broker=False)
    assert not [name for name in scrape_jobs(text) if name.startswith("rabbitmq")]


def test_substations_of_other_machines_are_not_started(tmp_path: Path) -> None:
    """Only this machine's substations are started; moving ports leaves the others unchanged."""
    file = tmp_path / "substations.yml"
    file.write_text(
        "- targets: ['127.0.0.1:9101']\n  labels: {substation: a}\n"
        "- targets: ['10.1.2.3:9100']\n  labels: {substation: b, connectors: '20'}\n"
        "- targets: ['localhost:9103']\n  labels: {substation: c}\n"
    )
    assert substations.read(file) == {"a": 9101, "c": 9103}
    moved = yaml.safe_load(substations.moved(file, 19101))
    assert [group["targets"][0] for group in moved] == [
        "127.0.0.1:19101",
        "10.1.2.3:9100",
        "127.0.0.1:19102",
    ]
    assert moved[1]["labels"] == {"substation": "b", "connectors": "20"}


def test_wrong_targets_file_is_named(tmp_path: Path) -> None:
    """The error for a missing or malformed file has its path."""
    with pytest.raises(ConfigurationError, match=r"missing\.json"):
        substations.read(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"bad\.json"):
        substations.read(tmp_path / "bad.json")


def test_supervisor_configuration_is_read_back_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spaces, quotes, percent signs and commas survive the supervisor's configuration."""
    awkward = 'a "b" %20 c,d=e;f \\ g'
    program = Program("one", ["/bin/echo", "two words", "100%"], {"AMQP_URL": awkward})
    monkeypatch.setattr(supervisor, "LOGS", tmp_path)
    monkeypatch.setattr(supervisor, "PID_FILE", tmp_path / "supervisord.pid")
    file = tmp_path / "supervisord.conf"
    file.write_text(supervisor.config([program], tmp_path / "supervisor.sock"))
    options = ServerOptions()
    options.configfile = str(file)
    options.realize(args=[])
    [group] = options.process_group_configs
    [process] = group.process_configs
    assert process.environment == {"AMQP_URL": awkward}
    assert process.command == '"/bin/echo" "two words" "100%"'
    # whatever the exit status: a service should not end by itself, not even with 0
    assert process.autorestart is RestartUnconditionally


@pytest.mark.parametrize("value", ["two\nlines", "a #b", "a ;b", "'\"", "'"])
def test_supervisor_configuration_refuses_what_it_cannot_hold(tmp_path: Path, value: str) -> None:
    """A value that the supervisor's configuration cannot hold is refused, not cut."""
    program = Program("one", ["/bin/true"], {"AMQP_URL": value})
    with pytest.raises(ConfigurationError):
        supervisor.config([program], tmp_path / "supervisor.sock")


def test_stack_state_file_is_private_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold a password; unknown fields of another version are ignored."""
    monkeypatch.setattr(stack, "STATE", tmp_path / "run")
    monkeypatch.setattr(stack, "STATE_FILE", tmp_path / "run" / "stack.json")
    stack_state = stack.StackState(
        "local", dict(stack.PORTS), {"AMQP_URL": "amqp://user:secret@x/"}, [7000]
    )
    stack_state.write()
    assert mode(stack.STATE_FILE) == "0o600"
    assert stack.StackState.read() == stack_state
    stack.STATE_FILE.write_text(json.dumps({"mode": "local", "ports": {}, "older": 1}))
    assert stack.StackState.read() == stack.StackState("local", {})


def test_summary_does_not_show_an_outside_brokers_address() -> None:
    """An outside broker's address is not printed, in either mode."""
    outside = {"AMQP_URL": "amqp://user:secret@x/"}
    here = Setup.decide(
        outside, stack.StackState("local", {**stack.PORTS}, {}, [*range(1024, 65536)])
    )
    for text in (here.summary(), Compose.decide(outside).summary()):
        assert "the one of AMQP_URL" in text
        assert "secret@" not in text


@pytest.mark.parametrize("value", ["0", "70000", "seven", "-1"])
def test_wrong_port_is_named(value: str) -> None:
    """A value that is not a port is refused, with variable and value."""
    with pytest.raises(ConfigurationError, match=f"API_PORT={value}"):
        stack.choose_ports({stack.API: value})


def test_substation_marked_as_started_elsewhere_is_not_started(tmp_path: Path) -> None:
    """A program marked as started elsewhere is not started, and keeps its port."""
    file = tmp_path / "substations.json"
    groups = [
        {"targets": ["127.0.0.1:9101"], "labels": {"substation": "ours"}},
        {"targets": ["127.0.0.1:9106"], "labels": {"substation": "own", "started": "elsewhere"}},
    ]
    file.write_text(json.dumps(groups))
    assert substations.read(file) == {"ours": 9101}
    assert "127.0.0.1:9106" in substations.moved(file, 19101)


@pytest.mark.parametrize("other", [stack.DISPATCHER, stack.SUBSTATIONS])
def test_port_used_twice_is_named(other: str) -> None:
    """Two programs on one port are refused before anything starts, even if one is a substation."""
    both = {stack.API: "8103", other: "8102" if other == stack.SUBSTATIONS else "8103"}
    with pytest.raises(
        ConfigurationError, match=f"port 8103 is wanted twice.*{stack.API}.*{other}"
    ):
        Compose.decide(both).listening()


def test_cluster_without_docker_is_refused() -> None:
    """Without Docker there is only one node, so asking for three is an error."""
    with pytest.raises(ConfigurationError, match="CLUSTER=1 needs a Docker engine"):
        Setup.decide({"CLUSTER": "1"}, None)
