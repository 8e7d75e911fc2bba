"""Waiting until all is ready: how long, and what for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deploy import ready
from deploy.ready import Look
from grid.errors import STILL_READING

READING = Look({"api": f"http://127.0.0.1:7000/readyz: 503 {STILL_READING}"})


class Clock:
    """A clock that moves only in ``sleep()``."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        """Return the seconds that have passed."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds


def wait(look_at: Iterator[tuple[float, Look]]) -> tuple[dict[str, str], float, list[str]]:
    """Wait while each look holds until its second; return the problems, the time and the output."""
    clock, said = Clock(), list[str]()
    until, seen = next(look_at)

    def look() -> Look:
        nonlocal until, seen
        while clock.seconds >= until:
            until, seen = next(look_at)
        return seen

    problems = ready.wait(look, said.append, now=clock.now, sleep=clock.sleep)
    return dict(problems), clock.seconds, said


def test_wait_until_ready_ends_when_all_is_ready() -> None:
    """What is not ready at first is waited for, and no longer."""
    problems, seconds, _ = wait(iter([(20, Look({"api": "not yet"})), (1e9, Look())]))
    assert problems == {}
    assert seconds == pytest.approx(20, abs=1)


def test_wait_until_ready_ends_at_its_timeout() -> None:
    """What never becomes ready is returned with its reason."""
    problems, seconds, _ = wait(iter([(1e9, Look({"api": "a link is down"}))]))
    assert problems == {"api": "a link is down"}
    assert seconds == pytest.approx(ready.READY_SECONDS, abs=1)


def test_wait_until_ready_ends_when_a_program_failed() -> None:
    """A program that will not run any more ends the waiting at once."""
    problems, seconds, _ = wait(iter([(1e9, Look({"api": "refused"}, ["api"]))]))
    assert problems == {"api": "refused"}
    assert seconds == 0


def test_wait_until_ready_waits_longer_for_the_event_log() -> None:
    """Reading it may take longer than anything else: it is waited for, and this is printed."""
    problems, seconds, said = wait(iter([(500, READING), (1e9, Look())]))
    assert problems == {}
    assert seconds == pytest.approx(500, abs=1)
    assert len(said) == 1


def test_wait_until_ready_restarts_its_timeout_after_the_event_log() -> None:
    """What needs the api is given the usual time once the log is read."""
    late = Look({"dispatcher": "no substation is eligible yet"})
    problems, _, _ = wait(iter([(500, READING), (560, late), (1e9, Look())]))
    assert problems == {}


def test_wait_until_ready_bounds_the_time_for_the_event_log() -> None:
    """An api that never finishes reading is given up."""
    problems, seconds, _ = wait(iter([(1e9, READING)]))
    assert set(problems) == {"api"}
    assert seconds <= ready.READING_SECONDS + ready.READY_SECONDS + 1


def test_wait_until_ready_uses_the_usual_timeout_without_rabbitmq() -> None:
    """Without RabbitMQ no log is read, so the longer time does not apply."""
    both = Look({"api": f"http://x/readyz: 503 RabbitMQ link api-events is down; {STILL_READING}"})
    _, seconds, _ = wait(iter([(1e9, both)]))
    assert seconds == pytest.approx(ready.READY_SECONDS, abs=1)


@contextmanager
def page(status: int, content: str) -> Iterator[str]:
    """Serve one page, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer."""
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/page"
        finally:
            server.shutdown()
            thread.join()


def test_readiness_problem_is_that_of_the_page() -> None:
    """The problems on a service's page are reported, or that there is no page."""
    with page(503, f'{{"status":"not ready","problems":["{STILL_READING}"]}}') as url:
        assert ready.problem(url) == f"{url}: 503 {STILL_READING}"
    with page(500, "broken") as url:
        assert ready.problem(url) == f"{url}: 500 broken"
    assert "refused" in str(ready.problem(url))
