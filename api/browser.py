"""Whether a browser may be asking for a page from elsewhere, which its user has open. Pure.

An api that is open to its own machine is open to every page that a browser there shows. Sources:
``CrossOriginProtection`` of Go's net/http; for names, OWASP on DNS rebinding.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from grid.messages import shown

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # no page sees another's answer to these
OWN: Final = frozenset({"same-origin", "none"})  # "none": the user's own doing


def misuse(method: str, headers: Mapping[str, str]) -> str | None:
    """Say why a request may not be its user's own wish, or None; ``headers`` by small names.

    A page whose name was made to mean this machine asks by that name. A page from elsewhere can
    only have something done, and browsers say that it asks.
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
    """Tell whether a Host is an address, or a name that no DNS may give another meaning.

    A name without dots is none: a local network may answer for it (search domains, LLMNR).
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
