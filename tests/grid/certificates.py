"""Certificates for tests of TLS: made anew, of authorities that nobody else trusts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from grid.tls import TlsFiles


class Authority:
    """An authority; each certificate it issues is a pair of files in ``folder``."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._ca = trustme.CA(organization_name=name)
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, file: str, *names: str, days: float = 1) -> TlsFiles:
        """Issue a certificate for these names or addresses, that ends in so many days.

        One that ended already is had with ``days`` below 0.
        """
        issued = self._ca.issue_cert(
            *names,
            not_before=datetime.now(UTC) - timedelta(days=30),
            not_after=datetime.now(UTC) + timedelta(days=days),
        )
        certificate, key = self._folder / f"{file}.pem", self._folder / f"{file}-key.pem"
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        return TlsFiles(self.file, certificate, key)
