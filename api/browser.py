"""The cross-origin check: whether a browser may send a request for another site's page. Pure.

An api that is open to its own machine is open to every page that a browser there shows. Sources:
``CrossOriginProtection`` of Go's net/http; for names, OWASP on DNS rebinding.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from grid.messages import shown

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # a page cannot read another site's answer
OWN: Final = frozenset({"same-origin", "none"})  # "none": the user opened it


def misuse(method: str, headers: Mapping[str, str]) -> str | None:
    """Return why a request may be forged by another site, or None; header names are lower-case.

    A page whose name was made to mean this machine sends that name as Host. A page of another site
    cannot read answers, only cause effects, and browsers mark such requests.
    """
    host = headers.get("host", "")
    if not _is_local(host):
        return (
            "without a key, ask by localhost or by an address: another name may be anybody's, got "
            f"the Host {shown(host)}"
        )
    if method in READING or not _is_foreign(host, headers):
        return None
    return (
        "by its Sec-Fetch-Site or Origin, a browser sends this for another site's page: send it "
        "from a program, or with a key"
    )


def _is_foreign(host: str, headers: Mapping[str, str]) -> bool:
    if (site := headers.get("sec-fetch-site")) is not None:
        return site not in OWN
    origin = headers.get("origin")
    return origin is not None and origin.lower().partition("//")[2] != host.lower()


def _is_local(host: str) -> bool:
    """Return whether a Host is an address, or a name that DNS cannot point elsewhere.

    A name without dots can be: a local network may answer for it (search domains, LLMNR).
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
