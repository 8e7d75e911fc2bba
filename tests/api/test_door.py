"""Keys and rate limits of the api, and the security headers of every answer."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api import keys, new_key
from api.admission import OPEN_PATHS
from api.headers import HEADERS
from api.keys import NOBODY, Scope
from api.rates import Rates
from api.settings import ApiSettings
from grid.errors import ConfigurationError
from grid.settings import parse
from tests.api.harness import Answer, Bench, problem

KEY = "a fleet's key"
KEYS = keys.parse(f"fleet client {sha256(KEY.encode()).hexdigest()}")
CLIENT_LINE = f"fleet client {'a' * 64}"
OPERATOR_LINE = f"depot operator {'b' * 64}"


def closed(**more: Any) -> Bench:  # noqa: ANN401  # see Bench
    """Return an api that admits only requests with a key."""
    return Bench(keys=KEYS, closed=True, **more)


async def ask(api: Bench, path: str, key: str | None = KEY, method: str = "GET") -> Answer:
    """Ask with a key."""
    return await api.ask(method, path, None, [("Authorization", f"Bearer {key}")] if key else [])


@pytest.mark.parametrize("path", ["/charges", "/charge/x", "/substations", "/docs", "/nothing"])
async def test_a_closed_door_asks_for_a_key(path: str) -> None:
    """401 on every path without a key or with a wrong one, whether or not the path exists."""
    async with closed().serve() as api:
        for key in (None, "another", KEY[:-1]):
            answer = await ask(api, path, key)
            assert "Authorization" in problem(answer, 401)["detail"]
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert (await ask(api, path)).status != 401
        assert api.publisher.sent == []


async def test_a_key_opens_the_door() -> None:
    """A client's key is enough to ask for charging; the metric names it, and never shows it."""
    async with closed().serve() as api:
        assert (await ask(api, "/charge", None, "POST")).status == 401
        assert (await ask(api, "/charge", KEY, "POST")).status == 202
        assert api.count("admissions_total", key="fleet", outcome="admitted") == 1
        assert api.count("admissions_total", key=NOBODY, outcome="no key") == 1
        assert KEY not in (await api.get("/metrics")).body


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
async def test_who_watches_needs_no_key(path: str) -> None:
    """Health checks and metrics are answered without a key."""
    async with closed().serve() as api:
        assert (await ask(api, path, None)).status == 200


async def test_an_open_door_still_knows_a_wrong_key() -> None:
    """Where no key is needed, a wrong one is still refused: the client has made a mistake."""
    async with Bench(keys=KEYS).serve() as api:
        assert (await ask(api, "/charges", None)).status == 200
        assert (await ask(api, "/charges", "wrong")).status == 401


async def test_a_page_from_elsewhere_may_not_use_a_visitors_browser() -> None:
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


async def test_a_key_that_asks_too_often_waits() -> None:
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
def test_no_key_is_ever_above_its_rate(rate: float, pauses: list[float]) -> None:
    """The number admitted never exceeds rate and burst; a client that waits as told is admitted."""
    rates, now, came = Rates(rate), 0.0, 0
    for pause in pauses:
        now += pause
        wait = rates.take("one", now)
        if wait:
            now += wait * 1.001
            assert rates.take("one", now) == 0
        came += 1
    assert came <= max(1.0, rate) + now * rate + 1


def test_keys_do_not_share_a_rate() -> None:
    """Requests with one key do not count towards the rate of another."""
    rates = Rates(1)
    assert rates.take("one", 0) == 0
    assert rates.take("one", 0) > 0
    assert rates.take("other", 0) == 0


@pytest.mark.parametrize("path", ["/healthz", "/charges", "/charge/unknown", "/nothing"])
async def test_every_answer_trusts_nothing_beyond_it(path: str) -> None:
    """Every answer, errors too, carries the headers that limit what a browser does with it."""
    async with Bench().serve() as api:
        headers = (await api.get(path)).headers
        assert HEADERS.items() <= dict(headers).items()


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
def test_the_door_is_open_on_this_machine_alone(values: dict[str, str], closed: bool) -> None:  # noqa: FBT001
    """The api needs keys where API_KEYS names some, and on an address that other machines reach."""
    assert settings(**values).closed is closed


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "depot.example"])  # noqa: S104
def test_an_api_that_others_reach_does_not_start_without_keys(host: str) -> None:
    """The error names the variable, and how to make a key."""
    with pytest.raises(ConfigurationError, match=f"HTTP_HOST={host}: .*api.new_key"):
        settings(HTTP_HOST=host).api_keys()


def test_a_file_of_keys_closes_the_door_whatever_is_left_in_it(tmp_path: Path) -> None:
    """Removing the last client's line admits no one; a file without any line is an error."""
    file = tmp_path / "keys"
    for content in (OPERATOR_LINE, f"{OPERATOR_LINE}\n{CLIENT_LINE}", "# nobody\n"):
        file.write_text(content)
        assert settings(API_KEYS_FILE=str(file)).closed
    with pytest.raises(ConfigurationError, match=f"API_KEYS_FILE={file}: there is no key in it"):
        settings(API_KEYS_FILE=str(file)).api_keys()


def test_the_file_for_operators_alone_leaves_the_door_open(tmp_path: Path) -> None:
    """Charging stays open on this machine; a client's line in that file is an error."""
    file = tmp_path / "operators"
    file.write_text(OPERATOR_LINE)
    told = settings(OPERATOR_KEYS_FILE=str(file))
    assert not told.closed
    assert told.api_keys().have(Scope.OPERATOR)
    both = settings(OPERATOR_KEYS_FILE=str(file), API_KEYS=CLIENT_LINE)
    assert both.closed
    assert both.api_keys().have(Scope.CLIENT)
    assert both.api_keys().have(Scope.OPERATOR)
    file.write_text(CLIENT_LINE)
    with pytest.raises(ConfigurationError, match=f"OPERATOR_KEYS_FILE={file}: it is for operators"):
        told.api_keys()


def test_a_wrong_key_among_the_variables_is_named() -> None:
    """The error says which line is wrong, or that there is none."""
    with pytest.raises(ConfigurationError, match="API_KEYS: line 2: must be"):
        settings(API_KEYS=f"{CLIENT_LINE},oops").api_keys()
    with pytest.raises(ConfigurationError, match="no key in it"):
        settings(API_KEYS=",").api_keys()
    with pytest.raises(ConfigurationError, match="not none, got 'none'"):
        settings(API_KEYS=f"none client {'a' * 64}").api_keys()


def test_a_new_key_is_known_by_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The printed line admits the key that is shown, and no other."""
    assert new_key.main(["fleet-7", "client"]) == 0
    line, shown = capsys.readouterr()
    secret = shown.strip().rpartition(" ")[2]
    assert secret not in line
    [found] = keys.parse(line).of(secret.encode())
    assert (found.name, found.scope) == ("fleet-7", "client")
    assert keys.parse(line).of(b"another") == []


@pytest.mark.parametrize("arguments", [[], ["fleet"], ["fleet", "chief"], ["a b", "client"]])
def test_a_key_that_no_api_would_take_is_not_made(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, with the error and the usage; no line is printed."""
    assert new_key.main(arguments) == 2
    line, said = capsys.readouterr()
    assert line == ""
    assert "usage" in said


async def test_a_mistake_of_our_own_goes_out_as_a_problem(caplog: pytest.LogCaptureFixture) -> None:
    """500 with the same headers and the id under which the error is logged, once."""
    bench = Bench()

    @bench.app.get("/broken")
    async def broken() -> None:
        raise KeyError("a detail that is nobody's business")

    async with bench.serve() as api:
        answer = await api.get("/broken")
        said_to_client = problem(answer, 500)["detail"]
        assert HEADERS.items() <= dict(answer.headers).items()
        assert "nobody's business" not in str(answer.body)
        [said] = [each for each in caplog.records if each.levelname == "ERROR"]
        assert said.getMessage().rpartition(" ")[2] in said_to_client
        assert said.exc_info
