"""HTTP connections with limits: on their number, on how long a request and its answer may take.

uvicorn itself closes a connection that idles between two requests, and no other. It could refuse
connections as well, but logs each refusal: a service under load would be busy with that.
"""

from __future__ import annotations

import json
import logging
import sys
from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from grid.connection_limits import Limits, OpenConnections, client_of
from grid.logs import LogThrottle

log = logging.getLogger(__name__)

# the last is where one ends that asked for another protocol; h11 documents it, and does not list it
_SWITCH: Final = h11.MIGHT_SWITCH_PROTOCOL  # type: ignore[attr-defined]
_UNANSWERED: Final = frozenset({h11.IDLE, h11.SEND_RESPONSE})
_ARRIVED: Final = frozenset({h11.DONE, h11.MUST_CLOSE, h11.CLOSED, h11.ERROR, _SWITCH})


TOO_MANY_SECONDS: Final = 1.0  # for a connection beyond the limit to hear that it is
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Retry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


def http_protocol(seconds: float, limits: Limits) -> type[H11Protocol]:
    """Return a protocol that closes a connection whose request, or answer, takes too long.

    Args:
        seconds: how long a request may take to arrive, and its answer to be taken.
        limits: how many connections there may be.

    A request on a connection beyond ``limits`` is answered 503, before anything of it is looked at.
    Before one is refused, the one that has idled longest between two requests is closed.
    """

    class Limited(_LimitedProtocol):
        timeout = seconds
        open_connections: OpenConnections[_LimitedProtocol] = OpenConnections(limits)
        refusals = LogThrottle()
        failures = LogThrottle()

    return Limited


class _LimitedProtocol(H11Protocol):
    """Closes a connection whose client is too slow, or fails: it may be one of very many."""

    timeout: float
    open_connections: OpenConnections[_LimitedProtocol]
    refusals: LogThrottle
    failures: LogThrottle

    def __init__(self, *arguments: Any, **more: Any) -> None:  # noqa: ANN401  # uvicorn's own
        super().__init__(*arguments, **more)
        self._arrival = _Deadline(self)
        self._taking = _Deadline(self)
        self._is_refused = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Begin to wait for the first request, if there is room for the connection."""
        super().connection_made(transport)
        decision = self.open_connections.enter(self, client_of(self.client))
        if decision.evicted is not None:
            decision.evicted.close_idle()
        if decision.refusal is None:
            self._arrival.begin()
            return
        self._is_refused = True
        if self.refusals.is_due(self.loop.time()):
            log.warning("connections are refused: %s", decision.refusal)
        if decision.may_wait:
            self._arrival.begin(min(TOO_MANY_SECONDS, self.timeout))
        else:
            transport.abort()

    def close_idle(self) -> None:
        """Close a connection that idles between two requests."""
        self.timeout_keep_alive_handler()  # uvicorn's own way to do that

    def data_received(self, data: bytes) -> None:
        """Read what arrived; a request must be complete soon after its first byte."""
        if self._is_refused:
            self.transport.write(_FULL)
            self.transport.close()
            return
        self.open_connections.set_idle(self, idle=False)
        self._arrival.begin()
        try:
            super().data_received(data)
        except Exception as error:  # noqa: BLE001  # whatever one client sends, it ends no other's
            self._fail(error)
        if self.conn.their_state in _ARRIVED:
            self._arrival.end()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that idled for too long."""
        try:
            super().timeout_keep_alive_handler()
        except h11.LocalProtocolError as error:
            self._fail(error)

    def shutdown(self) -> None:
        """Close the connection once what was asked is answered."""
        try:
            super().shutdown()
        except h11.LocalProtocolError as error:
            self._fail(error)

    def send_400_response(self, msg: str) -> None:
        """Answer what h11 cannot read, with what is wrong with it; uvicorn does not say."""
        if self.conn.our_state not in _UNANSWERED:
            self.transport.close()  # it was answered before all of it had arrived
            return
        # uvicorn calls this while it handles h11's error
        detail = f"{msg.removesuffix('.')}: {sys.exception() or 'unknown'}"
        problem = {"title": HTTPStatus.BAD_REQUEST.phrase, "status": 400, "detail": detail}
        body = json.dumps({"type": "about:blank", **problem}).encode()
        headers = [
            ("Content-Type", "application/problem+json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        answer = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for its rest where its beginning had come with this one."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]:
            self._arrival.begin()
        elif self.conn.their_state is h11.IDLE:
            self.open_connections.set_idle(self, idle=True)

    def _fail(self, error: Exception) -> None:
        if self.failures.is_due(self.loop.time()):
            log.error("a connection from %s failed: %r", self.client, error)
        self.transport.abort()

    def pause_writing(self) -> None:
        """Begin to wait for the client to take what it asked for."""
        super().pause_writing()
        self._taking.begin()

    def resume_writing(self) -> None:
        """Stop waiting: the client has taken it."""
        super().resume_writing()
        self._taking.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all waiting."""
        self.open_connections.leave(self)
        self._arrival.end()
        self._taking.end()
        super().connection_lost(exc)


class _Deadline:
    """A time by which something must have ended, or the connection is closed."""

    def __init__(self, protocol: _LimitedProtocol) -> None:
        self._protocol = protocol
        self._timer: TimerHandle | None = None

    def begin(self, seconds: float | None = None) -> None:
        """Begin to wait, unless it has begun: so long, or the protocol's own timeout."""
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
