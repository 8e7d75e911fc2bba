"""Where each HTTP request of a connection ends, and whether it may be read at all. Pure.

It checks the bytes before uvicorn does, with the parser that uvicorn uses (httptools), and by
stricter rules where two readers could see different requests. Source: RFC 9112.
"""

from __future__ import annotations

import re
from typing import Final

import httptools

MAX_HEAD_BYTES: Final = 16 * 1024  # also of what is between two parts of a body, or behind it
MAX_METHOD_BYTES: Final = 64
MAX_CHUNKED_PIECE: Final = 4 * 1024  # bytes, so that what is between two parts is counted
_METHODS: Final = (b"POST ", b"GET ", b"HEAD ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ")
_METHOD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)( ?)")
_UPGRADE: Final = re.compile(rb"(?i)\r\nupgrade:[^\r\n]*(?=\r\n)")
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+")
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_END: Final = b"\r\n\r\n"


class BadRequest(ValueError):  # HTTP's own word
    """What arrived is no HTTP request, or one that two readers may read differently."""


class Framing:
    """The requests of one connection, followed piece by piece.

    ``complete`` says that a request has arrived to its last byte; ``begin`` continues with the
    next. ``headers`` is how many its head has. ``method`` is its method if the piece with the head
    has another one, else None.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self.begin()

    def begin(self) -> None:
        """Start with the next request."""
        self.complete = False
        self.headers = 0
        self.method: str | None = None
        self._early: _EarlyCheck | None = None  # of a head that arrives in parts
        self._has_head = self._is_chunked = False
        self._body_left: int | None = None  # None if only its end shows its length
        self._url = b""
        self._host = b""
        self._hosts = 0
        self._quiet = 0  # bytes of a chunked body since the last byte of content
        self._tail = b""  # the last bytes of those

    def take(self, received: bytearray) -> bytes:
        """Remove the next piece of the request from what was received, and return it.

        It is a whole head, or a part of the body, with nothing of the next request. It is empty if
        more must be received first. An offer to switch to another protocol is left out: a server
        may ignore it, and httptools would take the body for that protocol.

        Raises:
            BadRequest: with what is wrong.
        """
        if not self._has_head:
            piece = self._take_head(received)
        elif self._is_chunked:
            piece = self._take_chunked(received)
        else:
            piece = _removed(received, min(len(received), self._body_left or 0))
        if piece:
            _feed(self._parser, piece)
            if not self._has_head:
                raise BadRequest("its head does not end")
        return piece

    def _take_head(self, received: bytearray) -> bytes:
        if empty := _EMPTY_LINES.match(received):
            del received[: empty.end()]
        end = received.find(_END)
        size = len(received) if end < 0 else end + len(_END)
        if size > MAX_HEAD_BYTES:
            raise BadRequest(
                f"there is no end to its head within {MAX_HEAD_BYTES} bytes: send fewer or "
                "shorter headers"
            )
        if end < 0:
            if received and received != b"\r":
                self._early = self._early or _EarlyCheck()
                self._early.look(bytes(received))
            return b""
        head, self.method = with_known_method(_removed(received, size))
        return _UPGRADE.sub(b"", head)

    def _take_chunked(self, received: bytearray) -> bytes:
        """Remove the part up to the next empty line: the last one ends the request."""
        part = self._tail + received[:MAX_CHUNKED_PIECE]
        end = part.find(_END)
        size = len(part) if end < 0 else end + len(_END)
        piece = _removed(received, size - len(self._tail))
        self._tail = part[max(0, size - len(_END) + 1) : size]
        self._quiet += len(piece)
        if self._quiet > MAX_HEAD_BYTES:
            raise BadRequest(
                f"there must not be more than {MAX_HEAD_BYTES} bytes between two chunks of its "
                "body, or after it"
            )
        return piece

    # What httptools calls. feed_data raises an exception of its own, with ours as its context.

    def on_message_begin(self) -> None:
        """Reject another request in the same piece."""
        if self.complete:
            raise BadRequest("there must be nothing after its end on the same line")

    def on_url(self, url: bytes) -> None:
        """Collect the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Check the headers that say where a request goes and where it ends."""
        if self._has_head:
            return  # a trailer, which may not set any of these
        self.headers += 1
        size = len(name)
        if size == 4 and name.lower() == b"host":  # noqa: PLR2004  # most names need no more
            self._hosts += 1
            self._host = value
        elif size == 14 and name.lower() == b"content-length":  # noqa: PLR2004
            self._body_left = int(value)
        elif size == 17 and name.lower() == b"transfer-encoding":  # noqa: PLR2004
            if self._is_chunked or value.lower() != b"chunked":
                given = value.decode("ascii", "backslashreplace")
                raise BadRequest(f"its Transfer-Encoding must be chunked, once, got {given!r}")
            self._is_chunked = True

    def on_headers_complete(self) -> None:
        """Check the head as a whole."""
        self._has_head = True
        version = self._parser.get_http_version()
        if version not in _VERSIONS:
            raise BadRequest(f"its version must be 1.1, or 1.0, got {version}")
        if self._hosts > 1 or (not self._hosts and version != "1.0"):
            raise BadRequest(f"it must have the header Host once, got {self._hosts}")
        target = httptools.parse_url(self._url)
        if not target.path:
            raise BadRequest("its target has no path")
        if target.host is not None:
            port = b"" if target.port is None else b":%d" % target.port
            if self._hosts and (target.host + port).lower() != self._host.lower():
                raise BadRequest("its target must name the same host as its header Host")

    def on_body(self, body: bytes) -> None:
        """Count a part of the body."""
        self._quiet = 0
        if self._body_left is not None:
            self._body_left -= len(body)

    def on_message_complete(self) -> None:
        """Record that the request has arrived."""
        self.complete = True


class _EarlyCheck:
    """A check that rejects an invalid head before all of it has arrived: its end may never come."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._seen = 0

    def look(self, head: bytes) -> None:
        """Check what has arrived of a head, which has grown since the last time.

        Raises:
            BadRequest: with what is wrong.
        """
        if not self._seen:
            begun = _METHOD.match(head)
            if begun and not begun[2] and begun.end() == len(head) <= MAX_METHOD_BYTES:
                return  # the method may be incomplete
            _feed(self._parser, with_known_method(head)[0])
        else:
            _feed(self._parser, head[self._seen :])
        self._seen = len(head)


def with_known_method(head: bytes) -> tuple[bytes, str | None]:
    """Return a head that httptools reads whatever its method is, and that method.

    httptools knows only some methods, while any word may be one: the app says which it has. None as
    the method means that the head is unchanged.
    """
    if head.startswith(_METHODS) or (found := _METHOD.match(head)) is None or not found[2]:
        return head, None
    return _METHODS[0] + head[found.end() :], found[1].decode()


def _feed(parser: httptools.HttpRequestParser, data: bytes) -> None:
    try:
        parser.feed_data(data)
    except httptools.HttpParserError as error:
        raise BadRequest(str(error.__context__ or error)) from error


def _removed(received: bytearray, size: int) -> bytes:
    piece = bytes(received[:size])
    del received[:size]
    return piece
