"""TLS towards RabbitMQ: which files it needs, and how an address names them.

They are named in the query of an ``amqps://`` address as RabbitMQ's own clients name them
(``cacertfile``, ``certfile``, ``keyfile``), so that an address holds all that is needed to
connect. Sources: RabbitMQ's AMQP URI query parameters; the documentation of Python's ssl.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from grid.errors import ConfigurationError
from grid.files import content_of

SCHEME: Final = "amqps"
MAX_BYTES: Final = 16 * 1024 * 1024  # of one file: a machine's authorities take a tenth of that
CA_FILE: Final = "AMQP_CA_FILE"
CERTIFICATE_FILE: Final = "AMQP_CERTIFICATE_FILE"
KEY_FILE: Final = "AMQP_KEY_FILE"
PARAMETERS: Final[Mapping[str, str]] = {
    "ca": "cacertfile",
    "certificate": "certfile",
    "key": "keyfile",
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the broker's authorities (default: the machine's), our certificate and its key.

    The certificate may be followed by intermediate ones; its key is not encrypted.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Read the files; return the context to verify the broker, and to be verified by it.

        Raise ``ConfigurationError`` if a file cannot be used.
        """
        context = self._trusting()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate is not None and self.key is not None:
            _present(context, self.certificate, self.key)
        elif self.certificate is not None or self.key is not None:
            there, missing = CERTIFICATE_FILE, KEY_FILE
            if self.certificate is None:
                there, missing = missing, there
            raise ConfigurationError(f"{there} is set without {missing}: they belong together")
        return context

    def _trusting(self) -> ssl.SSLContext:
        """Return a context that verifies the broker's certificate, and that it names the host."""
        if self.ca is not None:
            _check_readable(CA_FILE, self.ca)
        try:
            return ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError:
            what = "holds no certificate in PEM form"
            raise ConfigurationError(f"{CA_FILE}={self.ca}: {what}") from None


def with_files(url: str, files: TlsFiles) -> str:
    """Return an address with these files in its query, in place of those it names already."""
    named = {
        parameter: str(path)
        for field, parameter in PARAMETERS.items()
        if (path := getattr(files, field)) is not None
    }
    parts = urlsplit(url)
    rest = [(name, value) for name, value in _query(parts.query) if name not in named]
    return urlunsplit(parts._replace(query=urlencode([*rest, *named.items()])))


def split(url: str) -> tuple[str, TlsFiles]:
    """Return the address without its files, and the files that it names."""
    parts = urlsplit(url)
    query = dict(_query(parts.query))
    named = {each: query.pop(parameter, None) for each, parameter in PARAMETERS.items()}
    files = TlsFiles(**{each: Path(value) for each, value in named.items() if value})
    return urlunsplit(parts._replace(query=urlencode(query))), files


def _query(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


def _check_readable(variable: str, path: Path) -> None:
    try:
        content_of(path, MAX_BYTES)
    except OSError as error:
        raise ConfigurationError(f"{variable}={path}: cannot be read: {error.strerror}") from None


def _present(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    _check_readable(CERTIFICATE_FILE, certificate)
    _check_readable(KEY_FILE, key)

    def no_passphrase() -> bytes:  # without this, OpenSSL would ask for it on the terminal
        raise ConfigurationError(f"{KEY_FILE}={key}: is encrypted; give one without a passphrase")

    try:
        context.load_cert_chain(certificate, key, password=no_passphrase)
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        why = "the key is another's" if mismatch else "one of them is not in PEM form"
        raise ConfigurationError(
            f"{CERTIFICATE_FILE}={certificate}, {KEY_FILE}={key}: {why}"
        ) from None
