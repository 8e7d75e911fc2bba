"""The settings in ``.env``."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest
from pydantic.fields import FieldInfo

from api.settings import ApiSettings
from deploy import commands, env_file, stack
from deploy import environment as env
from dispatcher.settings import DispatcherSettings
from grid.errors import ConfigurationError
from substation.settings import SubstationSettings
from tests.deploy.copies import add_venv, copy_project

EXAMPLE: Final = stack.ROOT / ".env.example"
OUTSIDE: Final = {
    "AMQP_URL": "amqps://rabbit.example/",
    "AMQP_USER": "grid",
    "AMQP_PASSWORD_FILE": "/etc/grid/password",
    "AMQP_CA_FILE": "/etc/grid/ca.pem",
}
# whose default is another one under `make up` than in the service alone
DECIDED: Final = {"AMQP_URL", "LOG_FORMAT", "SUBSTATIONS_FILE"}
WITHOUT_SERVICE: Final = {"MODE": "", "SERVICES": "", "BUILD_NETWORK": "default", "CLUSTER": "0"}


def decided(environment: dict[str, str], file: dict[str, str]) -> dict[str, str]:
    """Return the settings of a stack, for these variables and this content of ``.env``."""
    return env.settings(env_file.merged(environment, file))


def test_env_file_keeps_settings_from_one_up_to_the_next() -> None:
    """A variable that is not set keeps its value; one that is set replaces it; empty removes it."""
    file = {"CONNECTORS": "5", "LOG_LEVEL": "debug"}
    assert decided({}, file) == file
    assert decided({"CONNECTORS": ""}, file) == {"LOG_LEVEL": "debug"}
    assert decided({"CONNECTORS": "7"}, file) == {"CONNECTORS": "7", "LOG_LEVEL": "debug"}


def test_env_file_keeps_outside_credentials() -> None:
    """The second `make up` logs in as the first did."""
    for said in ({}, {"AMQP_URL": OUTSIDE["AMQP_URL"]}):
        assert env.broker(decided(said, OUTSIDE)) == OUTSIDE


def test_env_file_empty_amqp_url_restores_our_own_broker() -> None:
    """User, password and files of the outside broker are dropped as well."""
    assert decided({"AMQP_URL": ""}, {**OUTSIDE, "CONNECTORS": "5"}) == {"CONNECTORS": "5"}


def test_env_file_new_amqp_url_drops_the_old_credentials() -> None:
    """With another address, only the user and password set with it are used."""
    other = {"AMQP_URL": "amqp://user:password@other.example/"}
    found = decided(other, {**OUTSIDE, "CONNECTORS": "5"})
    assert found == {**other, "CONNECTORS": "5"}


def test_env_file_moves_ports() -> None:
    """A port comes from the environment, then from the file, then it is the usual one."""
    file = {stack.API: "7100", stack.GRAFANA: "3100"}
    ports = stack.choose_ports(env_file.merged({stack.API: "7200"}, file))
    assert (ports[stack.API], ports[stack.GRAFANA], ports[stack.PROMETHEUS]) == (7200, 3100, 9090)


def test_env_file_is_read_as_people_write_such_files(tmp_path: Path) -> None:
    """Comments, quotes, `export`, blank lines; and a dollar sign is only that."""
    file = tmp_path / ".env"
    file.write_text(
        "# of the depot\n\nCONNECTORS=5\nexport LOG_LEVEL='debug' # for now\n"
        'POLICY = "depot.Spread"\nAMQP_URL=amqp://u:p$HOME#1@x/\n'
        'API_KEYS="a b \\" # c"\nSERVICES=\n'
    )
    assert env_file.settings(file) == {
        "CONNECTORS": "5",
        "LOG_LEVEL": "debug",
        "POLICY": "depot.Spread",
        "AMQP_URL": "amqp://u:p$HOME#1@x/",
        "API_KEYS": 'a b " # c',
        "SERVICES": "",
    }
    assert env_file.settings(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n\nCONNECTORS", "line 3: must be NAME=value"),
        (b"API_PORT=1\nAMQP_URL='amqp://u:s3cret@x/\n", "line 2: must be NAME=value"),
        (b"LOG_LEVEL=info\nCONECTORS=5\n", "line 2: 'CONECTORS' is not a setting of make up: did"),
        (b"connectors=5\n", "did you mean CONNECTORS?"),
        (b"AWS_SECRET=s3cret\n", ".env.example lists them all"),
        (b"PATH=/s3cret\n", "line 1: 'PATH' is not a setting"),
        (b"CONNECTORS=\xff\n", "cannot be read: not UTF-8"),
        (b"CONNECTORS=a\0b\n", "line 1: CONNECTORS: must not hold a null character"),
        (None, "cannot be read: Is a directory"),
    ],
)
def test_env_file_error_names_the_line_and_no_value(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    file = tmp_path / ".env"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        env_file.settings(file)
    assert str(file) in str(caught.value)
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "mode", "warned"),
    [
        ("amqp://u:s3cret@x/", 0o644, True),
        ("amqp://x/,amqp://u:s3cret@y/", 0o640, True),
        ("amqp://u:s3cret@x/", 0o600, False),
        ("amqp://x/", 0o644, False),
    ],
)
def test_env_file_with_a_password_that_others_can_read_is_pointed_out(
    tmp_path: Path, url: str, mode: int, *, warned: bool
) -> None:
    file = tmp_path / ".env"
    file.write_text(f"AMQP_URL={url}\n")
    file.chmod(mode)
    hint = env_file.exposure(file, env_file.settings(file))
    assert (hint is not None) == warned
    assert "s3cret" not in (hint or "")


def test_env_file_that_is_a_dangling_link_is_named(tmp_path: Path) -> None:
    """It was meant to be read: it does not count as absent."""
    (tmp_path / ".env").symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        env_file.settings(tmp_path / ".env")


def test_env_example_lists_every_setting_with_its_default(tmp_path: Path) -> None:
    """Uncommented, it is a valid file that changes nothing."""
    lines = [
        line[1:]
        if line.startswith("#") and line[1:2].isupper() and "=" in line.split()[0]
        else line
        for line in EXAMPLE.read_text().splitlines()
    ]
    (tmp_path / ".env").write_text("\n".join(lines))
    found = env_file.settings(tmp_path / ".env")
    assert set(found) == set(env_file.NAMES)
    assert env_file.settings(EXAMPLE) == {}
    kinds = (ApiSettings, DispatcherSettings, SubstationSettings)
    fields = {field.alias: field for kind in kinds for field in kind.model_fields.values()}
    expected: dict[str, str] = {
        **{name: written(fields[name]) for name in env.VARIABLES if name in fields},
        **{name: str(port) for name, port in stack.PORTS.items()},
        **dict.fromkeys(DECIDED, ""),
        **WITHOUT_SERVICE,
    }
    assert found == expected


def written(field: FieldInfo) -> str:
    """Return a default as it is written in a file."""
    if field.default is None:
        return ""
    return (
        f"{field.default:g}"
        if isinstance(field.default, float)
        else str(int(field.default) if isinstance(field.default, bool) else field.default)
    )


def test_up_says_which_settings_are_no_longer_set(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the environment before, or of a line that is gone; not those that are unset."""
    running = stack.StackState(
        "local", {**stack.PORTS, stack.API: 7100}, {"CONNECTORS": "5", "PREFETCH": "9"}
    )
    wanted = stack.StackState("local", dict(stack.PORTS), {"LOG_LEVEL": "debug"})
    unset = {"PREFETCH": "", "LOG_LEVEL": "debug"}
    assert env.no_longer_set(unset, wanted, running) == [stack.API, "CONNECTORS"]
    assert env.no_longer_set({}, running, running) == []
    commands.say_no_longer_set(unset, wanted, running)
    commands.say_no_longer_set({}, running, running)
    assert capsys.readouterr().out == (
        "No longer set, so back to the default: API_PORT, CONNECTORS. "
        "Settings that are to last belong into .env\n"
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of the project that has a .venv, which nothing has to be installed into."""
    folder = copy_project(tmp_path / "project")
    add_venv(folder)
    return folder


def up(project: Path, **variables: str) -> str:
    """Call `make up`, which is expected to refuse; return what it says."""
    refused = subprocess.run(
        ["make", "up"],  # noqa: S607
        cwd=project,
        env={"PATH": os.environ["PATH"], "HOME": str(project), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == 2, refused.stdout + refused.stderr  # make's own
    return refused.stdout + refused.stderr


def test_make_up_reads_the_env_file_and_the_environment_wins(project: Path) -> None:
    """Also what only its script obeys, such as MODE; a wrong line is named before anything runs."""
    file = project / ".env"
    file.write_text("MODE=cloud\n")
    assert "MODE=cloud: must be docker or local" in up(project)
    assert "MODE=fog: must be docker or local" in up(project, MODE="fog")
    file.write_text("MODE=local\nCLUSTER=1\n")
    assert "CLUSTER=1 needs a Docker engine" in up(project)
    assert "CLUSTER=3: must be 1" in up(project, CLUSTER="3")
    file.write_text("MODE=local\nCONECTORS=1\n")
    assert f"{file}, line 2: 'CONECTORS' is not a setting" in up(project)
    assert not (project / ".run").exists()
