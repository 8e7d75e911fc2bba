"""The settings for TLS: every mistake prevents the start, and the error says which file and why."""

from __future__ import annotations

import os
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from grid.errors import ConfigurationError
from grid.settings import Settings, parse
from grid.tls import TlsFiles, split, with_files
from tests.grid.certificates import Authority

URL = "amqps://rabbit.example/"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return an authority of the test's own."""
    return Authority(tmp_path)


def variables(files: TlsFiles, url: str = URL) -> dict[str, str]:
    """Return the variables that name these files."""
    return {
        "AMQP_URL": url,
        "AMQP_CA_FILE": str(files.ca or ""),
        "AMQP_CERTIFICATE_FILE": str(files.certificate or ""),
        "AMQP_KEY_FILE": str(files.key or ""),
    }


def refused(values: dict[str, str]) -> str:
    """Return the error for invalid settings."""
    with pytest.raises(ConfigurationError) as wrong:
        parse(Settings, values).broker_urls()
    return str(wrong.value)


def test_tls_files_are_part_of_every_address(authority: Authority) -> None:
    """Each address carries the files, whatever their names, and they can be read from it."""
    files = authority.issue("a & b = ü", "client")
    urls = "amqps://u:p@a/v?heartbeat=5,amqps://b/"
    first, second = parse(Settings, variables(files, urls)).broker_urls()
    assert split(first) == ("amqps://u:p@a/v?heartbeat=5", files)
    assert split(second) == ("amqps://guest:guest@b/", files)


def test_tls_file_of_the_settings_overrides_that_of_an_address() -> None:
    """A file named in an address is used for it alone, unless the settings name another."""
    own = f"{URL}?cacertfile=own.pem"
    assert split(own) == (URL, TlsFiles(ca=Path("own.pem")))
    assert split(with_files(own, TlsFiles())) == (URL, TlsFiles(ca=Path("own.pem")))
    assert split(with_files(own, TlsFiles(ca=Path("x")))) == (URL, TlsFiles(ca=Path("x")))


def test_tls_context_verifies_the_broker_and_requires_tls_1_2(authority: Authority) -> None:
    """The certificate, its host name, and TLS 1.2 or later are required, with our CA or without."""
    for files in (TlsFiles(), TlsFiles(ca=authority.file), authority.issue("client", "client")):
        context = files.context()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    alone = TlsFiles(ca=authority.file).context()
    assert len(alone.get_ca_certs()) == 1  # and none of those that the machine trusts


@pytest.mark.parametrize("name", ["AMQP_CA_FILE", "AMQP_CERTIFICATE_FILE", "AMQP_KEY_FILE"])
def test_tls_error_names_a_missing_file(name: str, authority: Authority, tmp_path: Path) -> None:
    """The message names variable and file, and why it cannot be read."""
    missing = str(tmp_path / "missing")
    said = refused({**variables(authority.issue("client", "client")), name: missing})
    assert said == f"{name}={missing}: cannot be read: No such file or directory"


def test_tls_error_says_that_key_and_certificate_do_not_match(authority: Authority) -> None:
    """Certificate and key belong together."""
    one, other = authority.issue("one", "client"), authority.issue("other", "client")
    mixed = TlsFiles(one.ca, one.certificate, other.key)
    assert refused(variables(mixed)) == (
        f"AMQP_CERTIFICATE_FILE={one.certificate}, AMQP_KEY_FILE={other.key}: the key is another's"
    )


def test_tls_error_says_that_a_file_is_no_certificate(authority: Authority, tmp_path: Path) -> None:
    """A file of something else is not accepted as one without certificates."""
    other = tmp_path / "other"
    other.write_text("hello")
    assert refused(variables(TlsFiles(ca=other))) == (
        f"AMQP_CA_FILE={other}: holds no certificate in PEM form"
    )
    client = authority.issue("client", "client")
    said = refused(variables(TlsFiles(client.ca, other, client.key)))
    assert said.endswith("one of them is not in PEM form")


def test_tls_refuses_an_encrypted_key_without_a_prompt(authority: Authority) -> None:
    """A service never waits on a terminal for a passphrase."""
    client = authority.issue("client", "client")
    assert client.key is not None
    key = load_pem_private_key(client.key.read_bytes(), None)
    encrypted = BestAvailableEncryption(b"passphrase")
    client.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encrypted))
    said = refused(variables(client))
    assert said == f"AMQP_KEY_FILE={client.key}: is encrypted; give one without a passphrase"


def test_tls_refuses_a_certificate_without_key(authority: Authority) -> None:
    """Neither is useful without the other."""
    client = authority.issue("client", "client")
    said = refused(variables(TlsFiles(client.ca, client.certificate)))
    assert said.startswith("AMQP_CERTIFICATE_FILE is set without AMQP_KEY_FILE")
    said = refused(variables(TlsFiles(client.ca, key=client.key)))
    assert said.startswith("AMQP_KEY_FILE is set without AMQP_CERTIFICATE_FILE")


@pytest.mark.parametrize("url", ["amqp://a/", "amqps://a/,amqp://b/"])
def test_tls_files_with_a_plain_address_are_refused(url: str, authority: Authority) -> None:
    """With certificates configured, passwords must not be sent in clear text."""
    said = refused(variables(authority.issue("client", "client"), url))
    assert "AMQP_CA_FILE and AMQP_CERTIFICATE_FILE and AMQP_KEY_FILE set" in said
    assert "amqps://" in said


def test_tls_file_that_is_not_regular_is_refused_without_waiting(
    authority: Authority, tmp_path: Path
) -> None:
    """Files are read anew for each connection, and a FIFO without a writer would block."""
    files = authority.issue("client", "client")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for name, wrong in (
        ("AMQP_CA_FILE", replace(files, ca=fifo)),
        ("AMQP_CERTIFICATE_FILE", replace(files, certificate=fifo)),
        ("AMQP_KEY_FILE", replace(files, key=fifo)),
    ):
        assert f"{name}={fifo}: cannot be read: is no regular file" in refused(variables(wrong))
