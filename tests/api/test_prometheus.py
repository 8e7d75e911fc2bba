"""Asking Prometheus which alerts fire: when, and what any answer does."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry

from api import prometheus
from api.firing import Firing, MalformedAnswer, Observed, parse
from api.prometheus import KEPT, MAX_BYTES, Poller, fetch
from api.settings import ApiSettings
from deploy.local.ports import HOST
from grid.errors import ConfigurationError
from grid.isolation import Isolation
from grid.settings import parse as parse_settings
from tests.api.harness import Bench
from tests.api.test_events import following
from tests.ports import free_ports
from tests.prometheus import Prometheus

NONE = b'{"status":"success","data":{"alerts":[]}}'
ONE = b'{"status":"success","data":{"alerts":[{"labels":{"alertname":"A"},"state":"firing"}]}}'
FIRING = [Firing("A", "", "", "", "", since=None, runbook=None)]


@contextmanager
def served(
    answer: Callable[[BaseHTTPRequestHandler], None],
    kind: type[HTTPServer] = HTTPServer,
    host: str = HOST,
) -> Iterator[str]:
    """Serve on a free port; return the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with kind((host, 0), Handler) as server:
        thread = threading.Thread(target=partial(server.serve_forever, 0.01))
        thread.start()
        try:
            yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def says(
    body: bytes, status: int = 200, path: str = "/api/v1/alerts"
) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return a page that answers with a body, at one path."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status if request.path == path else 404)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


class Asked:
    """A poller whose clock and whose answers are a test's."""

    def __init__(self) -> None:
        self.now = 100.0
        self.answer: bytes | Exception = NONE
        self.times = 0
        isolation = Isolation(CollectorRegistry())
        self.poller = Poller(self._fetch, isolation, lambda: self.now)

    def _fetch(self) -> bytes:
        self.times += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_answer_is_fetched_below_the_address() -> None:
    with served(says(ONE)) as address:
        assert fetch(address) == ONE
        assert fetch(f"{address}/") == ONE
    with served(says(ONE, path="/prometheus/api/v1/alerts")) as address:
        assert fetch(f"{address}/prometheus") == ONE


def test_address_without_a_port_may_be_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last part is no port."""

    class Server(HTTPServer):
        address_family = socket.AF_INET6

    with served(says(ONE), Server, "::1") as address:
        port = urlsplit(address).port
        monkeypatch.setattr(HTTPConnection, "default_port", port)
        assert fetch("http://[::1]") == ONE
        assert fetch(address) == ONE


def test_answer_that_is_none_of_prometheus_is_refused() -> None:
    with (
        served(says(b"", 503)) as address,
        pytest.raises(MalformedAnswer, match="answers with status 503"),
    ):
        fetch(address)
    with (
        served(says(b"a" * (MAX_BYTES + 1))) as address,
        pytest.raises(MalformedAnswer, match="longer than"),
    ):
        fetch(address)
    (port,) = free_ports(1)
    with pytest.raises(ConnectionRefusedError):
        fetch(f"http://{HOST}:{port}")


def test_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its bytes comes in time, and all of them too late."""
    monkeypatch.setattr(prometheus, "TIMEOUT", 0.2)
    ended = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not ended.wait(0.02):
            request.wfile.write(b" ")

    with served(drip) as address:
        try:
            with pytest.raises(TimeoutError, match="takes longer than"):
                fetch(address)
        finally:
            ended.set()


def test_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "TIMEOUT", 0.1)
    with socket.create_server((HOST, 0)) as server, pytest.raises(TimeoutError):
        fetch(f"http://{HOST}:{server.getsockname()[1]}")


async def test_poller_says_what_fires(caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked()
    assert asked.poller.observed() == Observed()
    asked.answer = ONE
    await asked.poller.ask()
    assert asked.poller.observed() == Observed(FIRING)
    asked.now += KEPT + 1  # nobody has asked since
    assert asked.poller.observed() == Observed()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError("timed out"), "timed out"),
        (b"<html>", "is no list of alerts"),
        (ZeroDivisionError("unforeseen"), "ZeroDivisionError: unforeseen"),
    ],
)
async def test_poller_says_why_it_has_no_answer(
    answer: bytes | Exception, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At once if it never had one, else after a while; the log has it when it begins and ends."""
    caplog.set_level(logging.INFO, "api.prometheus")
    asked = Asked()
    asked.answer = answer
    for _ in range(3):
        await asked.poller.ask()
        assert problem in asked.poller.observed().problem
    asked.answer = ONE
    await asked.poller.ask()
    assert asked.poller.observed() == Observed(FIRING)
    asked.answer = answer
    await asked.poller.ask()
    assert asked.poller.observed() == Observed(FIRING)
    asked.now += KEPT + 1
    await asked.poller.ask()
    assert problem in asked.poller.observed().problem
    lines = [each.message for each in caplog.records if each.name == "api.prometheus"]
    assert [line.partition(",")[0] for line in lines] == [
        "Prometheus cannot be asked for its alerts",
        "Prometheus can be asked for its alerts again",
        "Prometheus cannot be asked for its alerts",
    ]


async def test_poller_asks_one_question_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that hangs is waited for, however often it is to ask."""
    monkeypatch.setattr(prometheus, "TIMEOUT", 0.01)
    goes_on, times = threading.Event(), []

    def hang() -> bytes:
        times.append(1)
        goes_on.wait(10)
        return ONE

    poller = Poller(hang, Isolation(CollectorRegistry()), lambda: 100.0)
    try:
        for _ in range(3):
            await poller.ask()
            assert "no answer" in poller.observed().problem
    finally:
        goes_on.set()
    monkeypatch.setattr(prometheus, "TIMEOUT", 10)
    await poller.ask()
    assert poller.observed() == Observed(FIRING)
    assert len(times) == 1


async def test_poller_takes_no_answer_that_came_while_nobody_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next reader would be told an hour later what was wrong then."""
    monkeypatch.setattr(prometheus, "TIMEOUT", 0.01)
    asked, goes_on = Asked(), threading.Event()

    def hang() -> bytes:
        goes_on.wait(10)
        asked.times += 1
        if asked.times == 1:
            raise ConnectionRefusedError(111, "Connection refused")
        return ONE

    poller = Poller(hang, Isolation(CollectorRegistry()), lambda: asked.now)
    try:
        await poller.ask()
    finally:
        goes_on.set()
    assert poller._asked is not None  # noqa: SLF001
    await asyncio.wait({poller._asked}, timeout=10)  # noqa: SLF001
    asked.now += 3_600
    monkeypatch.setattr(prometheus, "TIMEOUT", 10)
    await poller.ask()
    assert poller.observed() == Observed(FIRING)


async def test_poller_asks_only_while_somebody_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "INTERVAL", 0.001)
    asked, bench = Asked(), Bench()
    polling = asyncio.create_task(asked.poller.run(bench.feed.followed))
    try:
        await asyncio.sleep(0.02)
        assert asked.times == 0
        async with bench.serve(), following(bench):
            await bench.until(lambda: asked.times > 3)
        await bench.until(lambda: bench.feed.readers == 0)
        bench.feed.flush()
        await asyncio.sleep(0.01)
        times = asked.times
        await asyncio.sleep(0.02)
        assert asked.times == times
    finally:
        polling.cancel()


@pytest.mark.parametrize(
    "url",
    [
        "prometheus:9090",
        "ftp://host",
        "http://",
        "http://user:secret@host",
        "http://host:99999",
        "http://host/?query=1",
        "http://a b",
        "http://host/\n",
    ],
)
def test_address_that_cannot_be_one_prevents_the_start(url: str) -> None:
    """The address is not shown: it may hold a password."""
    with pytest.raises(ConfigurationError, match="PROMETHEUS_URL must be http://host") as raised:
        parse_settings(ApiSettings, {"PROMETHEUS_URL": url})
    assert "secret" not in str(raised.value)


def test_address_is_optional() -> None:
    assert parse_settings(ApiSettings, {"PROMETHEUS_URL": ""}).prometheus_url is None
    url = "https://prometheus.example/prometheus"
    assert parse_settings(ApiSettings, {"PROMETHEUS_URL": url}).prometheus_url == url


@pytest.mark.integration
def test_alert_of_a_real_prometheus_is_read(tmp_path: Path) -> None:
    rule = {
        "alert": "AlwaysOne",
        "expr": "vector(1) == 1",
        "labels": {"severity": "critical"},
        "annotations": {"summary": "It is {{ $value }}", "runbook_url": "https://runbooks.example"},
    }
    with Prometheus(tmp_path, tmp_path, [rule]) as running:
        running.until(lambda: bool(parse(fetch(running.url))))
        (found,) = parse(fetch(running.url))
    assert (found.name, found.severity, found.summary) == ("AlwaysOne", "critical", "It is 1")
    assert found.runbook == "https://runbooks.example"
    assert found.since is not None
