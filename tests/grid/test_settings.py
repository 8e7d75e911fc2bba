"""Settings: errors say what to change; credentials arrive unchanged, and are never shown."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from grid.errors import ConfigurationError
from grid.settings import Port, PositiveSeconds, Seconds, Settings, parse
from tests.grid.strategies import THOROUGH

SECRET = "s3cr3t"  # noqa: S105


class OwnSettings(Settings):
    """A service's own settings."""

    port: Port = Field(default=7000, alias="OWN_PORT")
    wait: Seconds = Field(default=1, alias="OWN_WAIT_SECONDS")
    period: PositiveSeconds = Field(default=0.5, alias="OWN_PERIOD_SECONDS")
    jobs: Annotated[int, Field(ge=1)] = Field(default=10, alias="OWN_JOBS")
    id: str = Field(alias="OWN_ID")


def refused(kind: type[Settings], **values: str) -> str:
    """Return the error for invalid settings, with everything a traceback would show."""
    with pytest.raises(ConfigurationError) as wrong:
        parse(kind, values).broker_urls()
    assert SECRET not in "".join(traceback.format_exception(wrong.value))
    return str(wrong.value)


def test_settings_default_to_rabbitmq_on_this_machine() -> None:
    """A service started by hand uses RabbitMQ on its own machine, and serves only that machine."""
    settings = parse(Settings, {})
    assert settings.broker_urls() == ("amqp://guest:guest@127.0.0.1:5672/",)
    assert (settings.http_host, settings.log_level, settings.log_format) == (
        "127.0.0.1",
        "info",
        "text",
    )


def test_settings_treat_an_empty_variable_as_unset() -> None:
    """A compose file passes on variables that nobody set as empty ones."""
    assert parse(Settings, {"LOG_LEVEL": "", "AMQP_URL": "", "AMQP_PASSWORD_FILE": ""}) == parse(
        Settings, {}
    )


def test_settings_ignore_other_variables() -> None:
    """The environment contains many variables of other programs."""
    parse(Settings, {"PATH": "/bin", "OWN_PORT": "none"})


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("OWN_PORT", "0", "greater than or equal to 1"),
        ("OWN_PORT", "65536", "less than or equal to 65535"),
        ("OWN_PORT", "http", "valid integer"),
        ("OWN_WAIT_SECONDS", "-1", "greater than or equal to 0"),
        ("OWN_WAIT_SECONDS", "nan", "finite"),
        ("OWN_WAIT_SECONDS", "inf", "finite"),
        ("OWN_WAIT_SECONDS", "1s", "valid number"),
        ("OWN_PERIOD_SECONDS", "0", "greater than 0"),
        ("OWN_JOBS", "1.5", "valid integer"),
        ("LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("LOG_FORMAT", "xml", "'text' or 'json'"),
    ],
)
def test_settings_error_names_variable_and_value(name: str, value: str, problem: str) -> None:
    """The message says which variable is wrong, what it holds and what it may hold."""
    said = refused(OwnSettings, **{"OWN_ID": "a", name: value})
    assert said.startswith(f"{name}='{value}': ")
    assert problem in said


def test_settings_error_names_all_wrong_variables() -> None:
    """One start is enough to learn of all mistakes."""
    said = refused(OwnSettings, OWN_PORT="x", LOG_LEVEL="loud")
    assert "OWN_PORT='x'" in said
    assert "LOG_LEVEL='loud'" in said
    assert "OWN_ID is not set" in said


def test_settings_are_immutable() -> None:
    """What was checked at the start holds until the end."""
    with pytest.raises(ValueError, match="frozen"):
        parse(Settings, {}).http_host = "0.0.0.0"  # type: ignore[misc]  # noqa: S104


@pytest.mark.parametrize(
    "url",
    [
        "http://host/",
        "host:5672",
        "amqp://",
        "amqp:///vhost",
        ",",
        "amqp://host/,",
        f"amqp://user:{SECRET}@",
        f"amqp://user:{SECRET}/x@host/",
        f"amqp://user:{SECRET}#x@host/",
        f"amqp://user:{SECRET}@host:port/",
        f"amqp://user:{SECRET}@host:70000/",
        f"amqp://user:{SECRET}@[::1",
        f"amqp://user:{SECRET}@good/,amqp://user:{SECRET}@bad:port/",
    ],
)
def test_settings_error_over_an_address_hides_its_password(url: str) -> None:
    """An invalid address prevents the start, and its password is not logged."""
    assert "AMQP_URL" in refused(Settings, AMQP_URL=url)


def test_settings_error_hides_passwords_of_other_variables() -> None:
    """An error over one variable does not repeat the values of others."""
    refused(Settings, AMQP_URL=f"amqp://user:{SECRET}@host/", LOG_LEVEL="loud")


def test_settings_repr_hides_passwords(tmp_path: Path) -> None:
    """Settings can be logged: neither the address's password nor the file's is in them."""
    file = tmp_path / "password"
    file.write_text(SECRET)
    values = {"AMQP_URL": f"amqp://u:{SECRET}@host/", "AMQP_PASSWORD_FILE": str(file)}
    settings = parse(Settings, values)
    settings.broker_urls()
    assert SECRET not in repr(settings) + str(settings)


def test_settings_keep_the_order_of_broker_addresses() -> None:
    """A list of nodes is tried in the order given; blanks around the commas do not matter."""
    urls = "amqp://a:1/v, amqps://b/v ,amqp://[::1]:5672/%2F?heartbeat=5"
    assert parse(Settings, {"AMQP_URL": urls, "AMQP_USER": "u"}).broker_urls() == (
        "amqp://u:guest@a:1/v",
        "amqps://u:guest@b/v",
        "amqp://u:guest@[::1]:5672/%2F?heartbeat=5",
    )


def test_settings_password_file_applies_to_every_address(tmp_path: Path) -> None:
    """The file's password replaces the one in every address."""
    file = tmp_path / "password"
    file.write_text("from the file\n")
    values = {"AMQP_URL": "amqp://u:other@a/,amqp://b/", "AMQP_PASSWORD_FILE": str(file)}
    assert parse(Settings, values).broker_urls() == (
        "amqp://u:from%20the%20file@a/",
        "amqp://guest:from%20the%20file@b/",
    )


@THOROUGH
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text('@:/?#%[] ä\\+&"'))
def test_settings_pass_credentials_unchanged(user: str, password: str) -> None:
    """RabbitMQ gets user and password unchanged, whatever characters they have."""
    in_url = "".join(f"%{byte:02X}" for byte in password.encode()) or "x"
    settings = parse(Settings, {"AMQP_URL": f"amqp://a:{in_url}@host:1/v", "AMQP_USER": user})
    parts = urlsplit(settings.broker_urls()[0])
    assert (parts.hostname, parts.port, parts.path) == ("host", 1, "/v")
    assert unquote(parts.username or "") == user
    assert unquote(parts.password or "") == (password or "x")


def test_settings_error_names_an_unreadable_password_file(tmp_path: Path) -> None:
    """The message names variable and file, and why it cannot be read."""
    missing = tmp_path / "missing"
    said = refused(Settings, AMQP_PASSWORD_FILE=str(missing))
    assert said == f"AMQP_PASSWORD_FILE={missing}: cannot be read: No such file or directory"
    binary = tmp_path / "binary"
    binary.write_bytes(SECRET.encode() + b"\xff\xfe")
    assert f"AMQP_PASSWORD_FILE={binary}: cannot be read" in refused(
        Settings, AMQP_PASSWORD_FILE=str(binary)
    )
    empty = tmp_path / "empty"
    empty.write_text("\n")
    assert f"AMQP_PASSWORD_FILE={empty}: is empty" in refused(
        Settings, AMQP_PASSWORD_FILE=str(empty)
    )
