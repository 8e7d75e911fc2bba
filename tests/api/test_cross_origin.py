"""Which requests may come from a page that is not the api's own."""

from __future__ import annotations

import pytest

from api.auth import cross_origin_problem

HERE = "localhost:7000"


@pytest.mark.parametrize(
    "host",
    ["", HERE, "LOCALHOST", "127.0.0.1:7000", "[::1]:7000", "10.1.2.3", "a.localhost"],
)
def test_cross_origin_check_passes_local_host_names(host: str) -> None:
    """DNS rebinding cannot use these names: nobody else controls what they resolve to."""
    assert cross_origin_problem("GET", {"host": host}) is None
    assert cross_origin_problem("POST", {"host": host}) is None


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7000",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "printer:7000",
        "[x",
    ],
)
def test_cross_origin_check_rejects_foreign_host_names(method: str, host: str) -> None:
    """DNS rebinding: the browser takes the page for the api's own, but the host name shows it."""
    own = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    assert host in str(cross_origin_problem(method, own))


@pytest.mark.parametrize(
    "said",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": f"http://{HERE}"},
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:8000"},
        {"origin": "null"},
        {"origin": ""},
    ],
)
def test_cross_origin_check_rejects_writes_for_another_site(said: dict[str, str]) -> None:
    """It can change nothing; a link on it still leads to the api's own pages."""
    assert "Origin" in str(cross_origin_problem("POST", {"host": HERE, **said}))
    assert cross_origin_problem("GET", {"host": HERE, **said}) is None


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin", "origin": f"http://{HERE}"},
        {"origin": f"http://{HERE}"},
        {"origin": f"HTTP://{HERE}".upper()},
    ],
)
def test_cross_origin_check_passes_programs_and_own_pages(said: dict[str, str]) -> None:
    """curl sends neither header; a page served under the api's own name is trusted."""
    assert cross_origin_problem("POST", {"host": HERE, **said}) is None
