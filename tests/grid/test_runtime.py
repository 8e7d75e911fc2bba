"""Running a service: an error ends it, and it ends gracefully."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from time import monotonic

import pytest

from deploy.local.ports import HOST, answers
from grid.runtime import YOUNG_OBJECTS, background
from grid.settings import Settings
from grid.waiting import within
from tests.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 20.0

SERVICE = """
import asyncio, os
from contextlib import asynccontextmanager
from grid.operations import operations_app
from grid.runtime import background, run
from grid.settings import Settings, parse
from grid.telemetry import new_registry

async def work():
    try:
        await asyncio.sleep({seconds})
        raise RuntimeError("this part is broken")
    finally:
        print("cleaned up", flush=True)

@asynccontextmanager
async def lifespan(_):
    async with background(work()):
        yield
        print("said goodbye", flush=True)

def service():
    settings = parse(Settings, os.environ)
    return operations_app(new_registry(), list, lifespan), settings, {port}

run(service)
"""
BROKEN = 'raise RuntimeError("this part is broken")'
WRONG_PAGE = """
        class Page(asyncio.Protocol):
            def data_received(self, data):
                raise RuntimeError("this page is wrong")
        server = await asyncio.get_running_loop().create_server(Page, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        await reader.read()
        print("closed", flush=True)
        await asyncio.sleep(3600)
""".strip()
COLLECTOR = """
        import gc
        print(gc.get_threshold()[0], gc.get_freeze_count(), flush=True)
        raise RuntimeError("this part has an end")
""".strip()
SLOW_END = """
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(1.5)
""".strip()


@pytest.fixture
async def failures() -> list[Exception]:
    """Return the list of uncaught exceptions, which the loop's handler fills."""
    found: list[Exception] = []
    handler = lambda _, context: found.append(context["exception"])  # noqa: E731
    asyncio.get_running_loop().set_exception_handler(handler)
    return found


async def forever(ended: list[str]) -> None:
    """Work until cancelled."""
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("ended")


async def broken() -> None:
    """Fail at once."""
    raise RuntimeError("broken")


async def test_background_tasks_end_with_their_context(failures: list[Exception]) -> None:
    """Leaving the context cancels the work and waits for its end; that is no failure."""
    ended: list[str] = []
    async with background(forever(ended), forever(ended)):
        await asyncio.sleep(0)
    assert ended == ["ended", "ended"]
    assert failures == []


async def test_background_task_that_finishes_is_no_failure(failures: list[Exception]) -> None:
    """A task of a service may finish by itself."""
    async with background(asyncio.sleep(0)):
        await asyncio.sleep(0.01)
    assert failures == []


async def test_background_task_failure_reaches_the_loops_handler_at_once(
    failures: list[Exception],
) -> None:
    """The loop's handler, which ends the service, is told at once; other parts go on until then."""
    ended: list[str] = []
    async with background(broken(), forever(ended)):
        await asyncio.sleep(0.01)
        assert list(map(str, failures)) == ["broken"]
        assert ended == []
    assert ended == ["ended"]


async def test_background_tasks_are_cancelled_when_the_context_fails(
    failures: list[Exception],
) -> None:
    """An error within the context is raised as it is, and leaves no work behind."""
    ended: list[str] = []

    async def failing() -> None:
        async with background(forever(ended)):
            await asyncio.sleep(0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing()
    assert ended == ["ended"]
    assert failures == []


async def test_within_returns_at_its_timeout() -> None:
    """An end that waits for RabbitMQ does not wait for ever."""
    ended: list[str] = []
    assert await within(0.01, forever(ended)) is False
    assert ended == ["ended"]
    assert await within(5, asyncio.sleep(0)) is True


def serve(
    *, fail_after: float, how: str = BROKEN, **environment: str
) -> tuple[subprocess.Popen[str], int]:
    """Start a service of one part, as a process."""
    (port,) = free_ports(1)
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", SERVICE.format(seconds=fail_after, port=port).replace(BROKEN, how)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, port


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for a process's end, or kill it; return its output."""
    try:
        return process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()


def test_service_with_a_failed_task_shuts_down_and_closes_its_links() -> None:
    """A service with a failed part ends by itself, says why, and still closes its links."""
    process, _ = serve(fail_after=0.1)
    out, err = end(process)
    assert process.returncode == 1
    assert "the service ends after an unhandled error: a part of the service failed" in err
    assert "RuntimeError: this part is broken" in err
    assert out.splitlines() == ["cleaned up", "said goodbye"]


def test_service_survives_a_failing_http_connection() -> None:
    """The connection is closed, and the service goes on, whatever the client sent."""
    process, port = serve(fail_after=0, how=WRONG_PAGE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "closed\n"
        assert answered(port, "GET", "/healthz").status == 200
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        _, err = end(process)
    assert process.returncode == 0
    assert "RuntimeError: this page is wrong" in err


def test_service_without_descriptors_shuts_down_cleanly() -> None:
    """asyncio would accept again a second later, at a socket that is closed by then."""
    process, port = serve(fail_after=0, how=SLOW_END)
    try:
        while not answers(port):
            assert process.poll() is None
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, hard))
        assert process.stderr is not None
        with socket.create_connection((HOST, port), timeout=TIMEOUT):
            while "Too many open files" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            out, err = end(process)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "ending" not in err
    assert out.splitlines() == ["said goodbye", "cleaned up"]


def test_service_survives_a_malformed_body_after_the_answer() -> None:
    """It can get no answer any more, but the service goes on."""
    process, port = serve(fail_after=3600)
    try:
        while not answers(port):
            assert process.poll() is None
        with socket.create_connection((HOST, port), timeout=TIMEOUT) as one:
            head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            one.sendall(head)
            assert one.recv(65536).startswith(b"HTTP/1.1 404 ")
            one.sendall(b"zz\r\n")
            while one.recv(65536):
                pass
        assert answered(port, "GET", "/healthz").status == 200
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        _, err = end(process)
    assert process.returncode == 0
    assert "ending" not in err


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_service_pages_answer_head_and_trailing_slash(path: str) -> None:
    """HEAD has GET's headers and no body; a trailing slash does not matter."""
    process, port = serve(fail_after=3600)
    try:
        while not answers(port):
            assert process.poll() is None
        page, head = answered(port, "GET", path), answered(port, "HEAD", path)
        assert (head.status, head.read()) == (page.status, b"")
        assert head.headers["Content-Type"] == page.headers["Content-Type"]
        assert int(head.headers["Content-Length"]) > 0
        assert answered(port, "GET", f"{path}/").status == page.status
        assert answered(port, "GET", f"{path}//").status == 404
        assert answered(port, "HEAD", "/nowhere").status == 404
    finally:
        process.kill()
        end(process)


def test_service_keeps_idle_connections_for_the_configured_time() -> None:
    """Longer than the 60 s of most proxies, unless it is set otherwise."""
    assert Settings().http_keep_alive > 60
    process, port = serve(fail_after=3600, HTTP_KEEP_ALIVE_SECONDS="0.5")
    try:
        while not answers(port):
            assert process.poll() is None
        with socket.create_connection((HOST, port), timeout=TIMEOUT) as one:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
            began = monotonic()
            while one.recv(65536):  # the rest of the answer, and then the end
                pass
            assert 0.3 < monotonic() - began < 4
    finally:
        process.kill()
        end(process)


def answered(port: int, method: str, path: str) -> HTTPResponse:
    """Send a request on a connection of its own, and return the answer."""
    connection = HTTPConnection(HOST, port, timeout=TIMEOUT)
    connection.request(method, path)
    return connection.getresponse()


def test_service_shuts_down_cleanly_on_sigterm() -> None:
    """A supervisor's SIGTERM lets the service finish, and is no failure."""
    process, port = serve(fail_after=3600)
    try:
        while not answers(port):
            assert process.poll() is None
        connection = HTTPConnection(HOST, port, timeout=TIMEOUT)
        connection.request("GET", "/metrics")
        assert "server" not in connection.getresponse().headers
        process.send_signal(signal.SIGTERM)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        out, err = end(process)
    connection.close()
    assert process.returncode == 0
    assert out.splitlines() == ["said goodbye", "cleaned up"]
    assert "Traceback" not in err


def test_service_freezes_startup_objects_for_the_garbage_collector() -> None:
    """It also checks new objects less often than by default, since most are kept for long."""
    process, _ = serve(fail_after=0, how=COLLECTOR)
    out, err = end(process)
    assert process.returncode == 1, err
    threshold, frozen = map(int, out.splitlines()[0].split())
    assert threshold == YOUNG_OBJECTS
    assert frozen > 10_000


def test_service_does_not_start_with_wrong_settings() -> None:
    """A service does not start with an invalid setting; one line says which."""
    process, _ = serve(fail_after=3600, LOG_LEVEL="loud")
    out, err = end(process)
    assert process.returncode == 1
    assert out == ""
    assert err.startswith("cannot start: LOG_LEVEL='loud': ")
    assert len(err.splitlines()) == 1
