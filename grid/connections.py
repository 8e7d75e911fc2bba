"""HTTP connections with limits: on their number, and on the time for a request and its answer.

uvicorn itself closes only a connection that is idle between two requests. It can refuse
connections as well, but logs each refusal, which would keep a service under load busy. So it gets
a protocol that wraps one of uvicorn's, and passes it one request after the other.
"""

from __future__ import annotations

import asyncio
import json
import logging
from asyncio import TimerHandle
from copy import copy
from http import HTTPStatus
from typing import Any, Final

import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from grid.connection_limits import Limits, OpenConnections, client_of
from grid.http_framing import BadRequest, Framing
from grid.logs import LogThrottle

log = logging.getLogger(__name__)

TOO_MANY_SECONDS: Final = 1.0  # for a connection beyond the limit to be answered
WRITTEN_AT_ONCE: Final = 4 * 1024  # bytes that are joined at most
MAX_BUFFERED: Final = 64 * 1024  # bytes behind a request that is not answered yet
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Retry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)
_BAD: Final = (
    "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n"
    "Content-Length: {}\r\nConnection: close\r\n\r\n"
)


def http_protocol(seconds: float, limits: Limits) -> type[LimitedProtocol]:
    """Return a protocol that closes a connection whose request, or answer, takes too long.

    Args:
        seconds: how long a request may take to arrive, and its answer to be taken.
        limits: how many connections there may be.

    A request on a connection beyond ``limits`` is answered 503, before anything of it is read.
    Before one is refused, the one that has been idle longest between two requests is closed.
    """

    class Limited(LimitedProtocol):
        timeout = seconds
        open_connections: OpenConnections[LimitedProtocol] = OpenConnections(limits)
        refusals = LogThrottle()
        failures = LogThrottle()

    return Limited


class LimitedProtocol(asyncio.Protocol):
    """A protocol that closes a connection whose client is too slow, or fails.

    It is constructed with the same arguments as uvicorn's own protocols.
    """

    timeout: float
    open_connections: OpenConnections[LimitedProtocol]
    refusals: LogThrottle
    failures: LogThrottle

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._app = config.loaded_app
        own = copy(config)
        own.loaded_app = self._answer
        self._http = HttpToolsProtocol(own, server_state, app_state, _loop)
        self.loop = _loop or asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self._client: tuple[str, int] | None = None
        self._framing = Framing()
        self._buffered = bytearray()  # not passed to uvicorn yet
        self._answer_begun = self._is_answered = False
        self._arrival = _Deadline(self)
        self._taking = _Deadline(self)
        self._is_refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for the first request, if there is room for the connection."""
        self.transport = _JoinedWrites(transport, self.loop)  # type: ignore[arg-type]  # as uvicorn
        self._client = transport.get_extra_info("peername")
        self._http.connection_made(self.transport)
        decision = self.open_connections.enter(self, client_of(self._client))
        if decision.evicted is not None:
            decision.evicted.transport.close()
        if decision.refusal is None:
            self._arrival.begin()
            return
        self._is_refused = True
        if self.refusals.acquire(self.loop.time()):
            log.warning("an HTTP connection was refused: %s", decision.refusal)
        if decision.may_wait:
            self._arrival.begin(min(TOO_MANY_SECONDS, self.timeout))
        else:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read what arrived; a request must be complete soon after its first byte."""
        if self._is_refused:
            self.transport.write(_FULL)
            self.transport.close()
            return
        self.open_connections.set_idle(self, idle=False)
        self._buffered += data
        if not self._framing.complete:
            self._read()
        if len(self._buffered) > MAX_BUFFERED:
            self.transport.pause_reading()

    def _read(self) -> None:
        """Pass uvicorn what has arrived of the current request, and nothing of the next one."""
        if self.transport.is_closing():
            return
        while self._buffered and not self._framing.complete and not self.transport.is_closing():
            try:
                piece = self._framing.take(self._buffered)
                if not piece:
                    break
                self._http.data_received(piece)
            except BadRequest as error:
                self._refuse(error)
            except Exception as error:  # noqa: BLE001  # no client may end another's
                self._fail(error)
        if self._framing.complete:
            self._arrival.end()
            self._go_on()
        else:  # a timer for each request that arrives whole would be for nothing
            self._arrival.begin()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the app answer a request, and record when it has."""

        ended = False
        if self._framing.method is not None:
            scope["method"] = self._framing.method
        # uvicorn adds trailers if they have arrived by now: they are no headers
        scope["headers"] = scope["headers"][: self._framing.headers]

        async def note(message: Message) -> None:
            nonlocal ended
            self._answer_begun = True
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                ended = True
                self._end_answer()

        try:
            await self._app(scope, receive, note)
        finally:
            if not ended:  # uvicorn ends it, in this turn of the loop
                self.loop.call_soon(self._end_answer)

    def _end_answer(self) -> None:
        self._is_answered = True
        self._go_on()

    def _go_on(self) -> None:
        """Continue with the next request, once this one has arrived and is answered."""
        if not (self._is_answered and self._framing.complete) or self.transport.is_closing():
            return
        self._framing.begin()
        self._answer_begun = self._is_answered = False
        if self._buffered:
            self._arrival.begin()
            self.loop.call_soon(self._read)
            self.transport.resume_reading()
        else:
            self.open_connections.set_idle(self, idle=True)

    def _refuse(self, error: BadRequest) -> None:
        """Answer an invalid request with what is wrong with it; uvicorn does not say."""
        if not self._answer_begun:  # else it was answered before it had fully arrived
            detail = f"Invalid HTTP request received: {error}"
            problem = {"title": HTTPStatus.BAD_REQUEST.phrase, "status": 400, "detail": detail}
            body = json.dumps({"type": "about:blank", "code": "malformed-request", **problem})
            self.transport.write((_BAD.format(len(body)) + body).encode())
        self.transport.close()

    def _fail(self, error: Exception) -> None:
        if self.failures.acquire(self.loop.time()):
            log.error("an HTTP connection from %s failed and was closed: %r", self._client, error)
        self.transport.abort()

    def pause_writing(self) -> None:
        """Start waiting for the client to read its answer."""
        self._http.pause_writing()
        self._taking.begin()

    def resume_writing(self) -> None:
        """Stop waiting: the client has read it."""
        self._http.resume_writing()
        self._taking.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all waiting."""
        self.open_connections.leave(self)
        self._arrival.end()
        self._taking.end()
        self._http.connection_lost(exc)


class _JoinedWrites(asyncio.Transport):
    """A transport that joins the writes of a turn: uvicorn writes head and body separately."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._unwritten = bytearray()

    def write(self, data: bytes) -> None:  # type: ignore[override]  # uvicorn writes nothing else
        """Write soon; large data now, since flow control does not see what is joined."""
        if not self._unwritten:
            self._loop.call_soon(self._flush)
        self._unwritten += data
        if len(self._unwritten) > WRITTEN_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._unwritten:
            data = bytes(self._unwritten)
            self._unwritten.clear()
            self._transport.write(data)

    def close(self) -> None:
        """Close, once everything is written."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether it is closing, or closed."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401  # as asyncio
        """Return what asyncio's transport knows."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Pause reading."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading."""
        self._transport.resume_reading()


class _Deadline:
    """A time by which something must have ended, or the connection is closed."""

    def __init__(self, protocol: LimitedProtocol) -> None:
        self._protocol = protocol
        self._timer: TimerHandle | None = None

    def begin(self, seconds: float | None = None) -> None:
        """Start waiting, unless started: so many seconds, or the protocol's own timeout."""
        if self._timer is None:
            one = self._protocol
            time = one.timeout if seconds is None else seconds
            self._timer = one.loop.call_later(time, self._expire)

    def end(self) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        self._protocol.transport.abort()
