"""Settings of a service, parsed from environment variables; errors name variable and value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from grid import tls
from grid.errors import ConfigurationError
from grid.files import text_of
from grid.messages import shown

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _split_list(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class Settings(BaseModel):
    """The settings of every service. A service adds its own fields, one variable each.

    ``AMQP_URL`` may list several addresses, separated by commas, tried in turn. The password may be
    in a file instead, ``AMQP_PASSWORD_FILE``, so that no environment and no list of processes shows
    it. What TLS needs (``amqps://``) are files too: see ``grid.tls``.
    """

    # an invalid value may hold a password
    model_config = ConfigDict(frozen=True, populate_by_name=True, hide_input_in_errors=True)

    amqp_urls: Annotated[tuple[str, ...], BeforeValidator(_split_list)] = Field(
        default=("amqp://127.0.0.1:5672/",),
        alias="AMQP_URL",
        description=(
            "RabbitMQ's addresses, separated by commas, which are tried in turn; `make up` "
            "starts a broker of its own if it is not set"
        ),
        repr=False,
    )
    amqp_user: str | None = Field(
        default=None,
        alias="AMQP_USER",
        description="The user, instead of the one within the address",
    )
    amqp_password_file: Path | None = Field(
        default=None,
        alias="AMQP_PASSWORD_FILE",
        description="A file with the password, instead of the one within the address",
    )
    amqp_ca_file: Path | None = Field(
        default=None,
        alias=tls.CA_FILE,
        description=(
            "With `amqps://`: the certificate authority of the broker, as PEM; read again "
            "for each connection"
        ),
    )
    amqp_certificate_file: Path | None = Field(
        default=None,
        alias=tls.CERTIFICATE_FILE,
        description="With `amqps://`: the client's own certificate, as PEM",
    )
    amqp_key_file: Path | None = Field(
        default=None,
        alias=tls.KEY_FILE,
        description="With `amqps://`: the key of that certificate, as PEM, not encrypted",
    )
    http_host: str = Field(
        default="127.0.0.1",
        alias="HTTP_HOST",
        description="The address that a service listens on; `make up` publishes on 127.0.0.1 alone",
    )
    http_timeout: PositiveSeconds = Field(
        default=20,
        alias="HTTP_TIMEOUT_SECONDS",
        description="How long a request may take to arrive, and its answer to be read",
    )
    http_keep_alive: PositiveSeconds = Field(
        default=75,
        alias="HTTP_KEEP_ALIVE_SECONDS",
        description=(
            "How long a connection may be idle between two requests: longer than a proxy "
            "in front keeps it, usually 60 s"
        ),
    )
    http_connections: Annotated[int, Field(ge=1)] = Field(
        default=2000,
        alias="HTTP_CONNECTIONS",
        description=(
            "HTTP connections at once; at most half of the process's limit of open files "
            "(`ulimit -Hn`)"
        ),
    )
    http_connections_per_address: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        alias="HTTP_CONNECTIONS_PER_ADDRESS",
        description=(
            "HTTP connections from one address (IPv6: /64), half of `HTTP_CONNECTIONS` if "
            "not set. Behind a proxy all come from its address: set it to "
            "`HTTP_CONNECTIONS`, and limit clients in the proxy"
        ),
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", alias="LOG_LEVEL", description="The least severe lines that are logged"
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        alias="LOG_FORMAT",
        description="`json`: one object a line, as in containers",
    )

    otlp_endpoint: str | None = Field(
        default=None,
        alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description=(
            "A collector of OpenTelemetry, `http://host:4318`, to which the spans of sampled "
            "requests are sent (OTLP over HTTP). It needs `requirements-otel.lock`"
        ),
        repr=False,
    )

    @model_validator(mode="after")
    def _check_collector(self) -> Self:
        """Check the address of the collector, which is not shown: it may hold a password."""
        if self.otlp_endpoint is not None and not is_plain_url(self.otlp_endpoint):
            raise ValueError(
                "OTEL_EXPORTER_OTLP_ENDPOINT must be http://host[:port][/path] or https://…, "
                "without a user, a query or a fragment"
            )
        return self

    @model_validator(mode="after")
    def _check_urls(self) -> Self:
        for url in self.amqp_urls:
            if (problem := _url_problem(url)) is not None:
                raise ValueError(
                    f"AMQP_URL must be amqp://[user:password@]host[:port]/[vhost], got {problem}"
                )
        return self

    @model_validator(mode="after")
    def _check_tls_is_used(self) -> Self:
        """Check that the TLS files are used by every address, and not just by some."""
        given = {
            tls.CA_FILE: self.amqp_ca_file,
            tls.CERTIFICATE_FILE: self.amqp_certificate_file,
            tls.KEY_FILE: self.amqp_key_file,
        }
        named = [name for name, path in given.items() if path is not None]
        if named and any(urlsplit(url).scheme != tls.SCHEME for url in self.amqp_urls):
            raise ValueError(
                f"{' and '.join(named)} set, but an address of AMQP_URL is amqp://, without TLS: "
                "write amqps:// (usually port 5671)"
            )
        return self

    def broker_urls(self) -> tuple[str, ...]:
        """Return the broker's addresses with user, password and the files for TLS filled in.

        Raise ``ConfigurationError`` if a file cannot be used.
        """
        password = self._password()
        files = tls.TlsFiles(self.amqp_ca_file, self.amqp_certificate_file, self.amqp_key_file)
        urls = [_with_credentials(url, self.amqp_user, password) for url in self.amqp_urls]
        return tuple(_with_tls(url, files) for url in urls)

    def _password(self) -> str | None:
        if self.amqp_password_file is None:
            return None
        password = text_of("AMQP_PASSWORD_FILE", self.amqp_password_file).strip()
        if not password:
            raise ConfigurationError(f"AMQP_PASSWORD_FILE={self.amqp_password_file}: is empty")
        return password


AnySettings = TypeVar("AnySettings", bound=Settings)


def parse(kind: type[AnySettings], values: Mapping[str, str]) -> AnySettings:
    """Return a service's settings, from its variables; an empty variable counts as unset.

    Raise ``ConfigurationError`` that lists every variable that is wrong, with its value.
    """
    try:
        return kind.model_validate({name: value for name, value in values.items() if value != ""})
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        name = ".".join(map(str, problem["loc"]))
        if not name:
            lines.append(message)
        elif problem["type"] == "missing":
            lines.append(f"{name} is not set: {message}")
        else:
            lines.append(f"{name}={shown(problem['input'])}: {message}")
    return "; ".join(lines)


def is_plain_url(url: str) -> bool:
    """Return whether an address is that of an HTTP server, with a path at most."""
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port != 0
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and port_is_valid
        and "@" not in parts.netloc
        and not (parts.query or parts.fragment)
        and url.isascii()
        and url.isprintable()
        and " " not in url
    )


def _url_problem(url: str) -> str | None:
    """Return what is wrong with an address, or None; its password is not shown."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # urllib checks it only now
    except ValueError:
        return (
            "an address whose host or port is wrong; in a password write /?#[]@:% as %2F and so on"
        )
    if parts.scheme in ("amqp", "amqps") and parts.hostname:
        return None
    return f"an address with scheme {shown(parts.scheme)} and host {shown(parts.hostname)}"


def _with_credentials(url: str, user: str | None, password: str | None) -> str:
    parts = urlsplit(url)
    user = user or unquote(parts.username or "guest")
    password = password if password is not None else unquote(parts.password or "guest")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    where = f"{host}:{parts.port}" if parts.port else host
    netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{where}"
    return urlunsplit(parts._replace(netloc=netloc))


def _with_tls(url: str, files: tls.TlsFiles) -> str:
    if urlsplit(url).scheme != tls.SCHEME:
        return url
    whole = tls.with_files(url, files)
    tls.split(whole)[1].context()  # fails now if a file is wrong
    return whole
