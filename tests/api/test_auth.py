"""Keys and rate limits of the api, and the security headers of every answer."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api import auth, new_key
from api.auth import NOBODY, OPEN_PATHS, RateLimit, Scope
from api.middleware import SECURITY_HEADERS
from api.settings import ApiSettings
from grid.errors import ConfigurationError
from grid.settings import parse
from tests.api.harness import Answer, Bench, problem

KEY = "a fleet's key"
KEYS = auth.parse_keys(f"fleet client {sha256(KEY.encode()).hexdigest()}")
CLIENT_LINE = f"fleet client {'a' * 64}"
OPERATOR_LINE = f"depot operator {'b' * 64}"


def closed(**more: Any) -> Bench:  # noqa: ANN401  # see Bench
    """Return an api that admits only requests with a key."""
    return Bench(keys=KEYS, closed=True, **more)


async def ask(api: Bench, path: str, key: str | None = KEY, method: str = "GET") -> Answer:
    """Ask with a key."""
    return await api.ask(method, path, None, [("Authorization", f"Bearer {key}")] if key else [])


@pytest.mark.parametrize("path", ["/charges", "/charge/x", "/substations", "/nothing"])
async def test_api_that_requires_keys_answers_401_without_one(path: str) -> None:
    """401 on every path without a key or with a wrong one, whether or not the path exists."""
    async with closed().serve() as api:
        for key in (None, "another", KEY[:-1]):
            answer = await ask(api, path, key)
            assert "Authorization" in problem(answer, 401)["detail"]
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert (await ask(api, path)).status != 401
        assert api.publisher.sent == []


async def test_client_key_is_admitted_and_counted_by_its_name() -> None:
    """A client's key is enough to ask for charging; the metric names it, and never shows it."""
    async with closed().serve() as api:
        assert (await ask(api, "/charge", None, "POST")).status == 401
        assert (await ask(api, "/charge", KEY, "POST")).status == 202
        assert api.count("admissions_total", key="fleet", outcome="admitted") == 1
        assert api.count("admissions_total", key=NOBODY, outcome="no key") == 1
        assert KEY not in (await api.get("/metrics")).body


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
async def test_monitoring_paths_need_no_key(path: str) -> None:
    """Health checks and metrics are answered without a key."""
    async with closed().serve() as api:
        assert (await ask(api, path, None)).status == 200


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/docs/problems", "/openapi.json"])
async def test_documentation_needs_no_key(path: str) -> None:
    """A browser has no key to send before the page is there; it is the same for everybody."""
    async with closed().serve() as api:
        assert (await ask(api, path, None)).status == 200
        for other in ("/docs/nothing", "/docs/../charges", "/docs/%2e%2e/charges", "/docsx"):
            assert (await ask(api, other, None)).status in (401, 404)


async def test_api_without_required_keys_still_rejects_an_unknown_key() -> None:
    """An unknown key is rejected though no key is needed: the client has made a mistake."""
    async with Bench(keys=KEYS).serve() as api:
        assert (await ask(api, "/charges", None)).status == 200
        assert (await ask(api, "/charges", "wrong")).status == 401


async def test_cross_origin_requests_without_a_key_are_rejected() -> None:
    """Without a key its requests are refused, except to open paths; with one they are allowed."""
    key = ("Authorization", f"Bearer {KEY}")
    page = [("Origin", "https://elsewhere.example"), ("Sec-Fetch-Site", "cross-site")]
    renamed = [("Host", "elsewhere.example:7000"), ("Sec-Fetch-Site", "same-origin")]
    async with Bench(keys=KEYS).serve() as api:
        for method, path, headers in [
            ("POST", "/charge", page),
            ("POST", "/charges", page),
            ("PUT", "/substations/s1", page),
            ("POST", "/charge", renamed),
            ("GET", "/charges", renamed),
        ]:
            problem(await api.ask(method, path, None, headers), 403)
        assert api.publisher.sent == []
        assert api.count("admissions_total", key=NOBODY, outcome="misused") == 5
        for path in OPEN_PATHS:
            assert (await api.ask("GET", path, None, renamed)).status == 200
        assert (await api.ask("POST", "/charge", None, [*page, key])).status == 202
        assert (await api.ask("GET", "/charges", None, [*renamed, key])).status == 200


async def test_rate_limit_answers_429_with_retry_after() -> None:
    """429 with Retry-After beyond the key's rate; after that time it is admitted again."""
    async with closed(rate=2).serve() as api:
        assert [(await ask(api, "/charges")).status for _ in range(3)] == [200, 200, 429]
        answer = await ask(api, "/charges")
        assert answer.headers["Retry-After"] == "1"
        assert "fleet" in answer.body["detail"]
        assert (await ask(api, "/healthz")).status == 200
        api.now = 1.0
        assert (await ask(api, "/charges")).status == 200


@given(
    rate=st.floats(0.1, 1e4),
    pauses=st.lists(st.floats(0, 5), max_size=60),
)
@example(rate=0.2, pauses=[0.2, 0.0, 5.0])  # a sum that ends just below a token
def test_rate_limit_never_admits_more_than_rate_and_burst(rate: float, pauses: list[float]) -> None:
    """Never more than rate and burst are admitted; a client that waits for so long is admitted."""
    limit, now, came = RateLimit(rate), 0.0, 0
    for pause in pauses:
        now += pause
        wait = limit.acquire("one", now)
        if wait:
            now += wait * 1.001
            assert limit.acquire("one", now) == 0
        came += 1
    assert came <= max(1.0, rate) + now * rate + 1


def test_each_key_has_a_rate_limit_of_its_own() -> None:
    """Requests with one key do not count towards the rate of another."""
    limit = RateLimit(1)
    assert limit.acquire("one", 0) == 0
    assert limit.acquire("one", 0) > 0
    assert limit.acquire("other", 0) == 0


@pytest.mark.parametrize("path", ["/healthz", "/charges", "/charge/unknown", "/nothing"])
async def test_every_answer_has_the_security_headers(path: str) -> None:
    """Every answer, errors too, carries the headers that limit what a browser does with it."""
    async with Bench().serve() as api:
        headers = (await api.get(path)).headers
        assert SECURITY_HEADERS.items() <= dict(headers).items()


def settings(**values: str) -> ApiSettings:
    """Read the settings of an api."""
    return parse(ApiSettings, values)


@pytest.mark.parametrize(
    ("values", "closed"),
    [
        ({}, False),
        ({"HTTP_HOST": "::1"}, False),
        ({"HTTP_HOST": "localhost"}, False),
        ({"API_KEYS": OPERATOR_LINE}, True),
        ({"API_KEYS": f"{CLIENT_LINE}, {OPERATOR_LINE}"}, True),
        ({"API_KEYS": OPERATOR_LINE, "HTTP_HOST": "0.0.0.0"}, True),  # noqa: S104
        ({"HTTP_HOST": "0.0.0.0", "API_ADDRESS": "127.0.0.1"}, False),  # noqa: S104
    ],
)
def test_keys_are_required_beyond_the_loopback_address(
    values: dict[str, str],
    closed: bool,  # noqa: FBT001
) -> None:
    """The api needs keys where API_KEYS names some, and on an address that other machines reach."""
    assert settings(**values).key_required is closed


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "depot.example"])  # noqa: S104
def test_api_on_a_reachable_address_does_not_start_without_keys(host: str) -> None:
    """The error names the variable, and how to make a key."""
    with pytest.raises(ConfigurationError, match=f"HTTP_HOST={host}: .*api.new_key"):
        settings(HTTP_HOST=host).api_keys()


def test_key_file_makes_keys_required_whatever_it_holds(tmp_path: Path) -> None:
    """Removing the last client's line admits no one; a file without any line is an error."""
    file = tmp_path / "keys"
    for content in (OPERATOR_LINE, f"{OPERATOR_LINE}\n{CLIENT_LINE}", "# nobody\n"):
        file.write_text(content)
        assert settings(API_KEYS_FILE=str(file)).key_required
    with pytest.raises(ConfigurationError, match=f"API_KEYS_FILE={file}: there is no key in it"):
        settings(API_KEYS_FILE=str(file)).api_keys()


def test_operator_key_file_does_not_make_keys_required(tmp_path: Path) -> None:
    """Charging stays open on this machine; a client's line in that file is an error."""
    file = tmp_path / "operators"
    file.write_text(OPERATOR_LINE)
    found = settings(OPERATOR_KEYS_FILE=str(file))
    assert not found.key_required
    assert found.api_keys().has_scope(Scope.OPERATOR)
    both = settings(OPERATOR_KEYS_FILE=str(file), API_KEYS=CLIENT_LINE)
    assert both.key_required
    assert both.api_keys().has_scope(Scope.CLIENT)
    assert both.api_keys().has_scope(Scope.OPERATOR)
    file.write_text(CLIENT_LINE)
    with pytest.raises(ConfigurationError, match=f"OPERATOR_KEYS_FILE={file}: it is for operators"):
        found.api_keys()


def test_api_keys_variable_with_an_invalid_line_is_named() -> None:
    """The error says which line is wrong, or that there is none."""
    with pytest.raises(ConfigurationError, match="API_KEYS: line 2: must be"):
        settings(API_KEYS=f"{CLIENT_LINE},oops").api_keys()
    with pytest.raises(ConfigurationError, match="no key in it"):
        settings(API_KEYS=",").api_keys()
    with pytest.raises(ConfigurationError, match="not none, got 'none'"):
        settings(API_KEYS=f"none client {'a' * 64}").api_keys()


def test_new_key_prints_a_line_that_admits_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    """The printed line admits the key that is shown, and no other."""
    assert new_key.main(["fleet-7", "client"]) == 0
    line, shown = capsys.readouterr()
    secret = shown.strip().rpartition(" ")[2]
    assert secret not in line
    [found] = auth.parse_keys(line).entries_for(secret.encode())
    assert (found.name, found.scope) == ("fleet-7", "client")
    assert auth.parse_keys(line).entries_for(b"another") == []


@pytest.mark.parametrize("arguments", [[], ["fleet"], ["fleet", "chief"], ["a b", "client"]])
def test_new_key_rejects_an_invalid_name_or_scope(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, with the error and the usage; no line is printed."""
    assert new_key.main(arguments) == 2
    line, said = capsys.readouterr()
    assert line == ""
    assert "usage" in said


async def test_unexpected_error_is_answered_and_logged_once_under_one_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """500 with the same headers and the id under which the error is logged, once."""
    bench = Bench()

    @bench.app.get("/broken")
    async def broken() -> None:
        raise KeyError("a detail that is nobody's business")

    async with bench.serve() as api:
        answer = await api.get("/broken")
        said_to_client = problem(answer, 500)["detail"]
        assert SECURITY_HEADERS.items() <= dict(answer.headers).items()
        assert "nobody's business" not in str(answer.body)
        [said] = [each for each in caplog.records if each.levelname == "ERROR"]
        assert said.getMessage().rpartition(" ")[2] in said_to_client
        assert said.exc_info
