"""Where each HTTP request of a connection ends, and whether it may be read at all. Pure.

It looks at the bytes before uvicorn does, with the parser that uvicorn uses (httptools), and by
stricter rules where two readers could take one request for two. Source: RFC 9112.
"""

from __future__ import annotations

import re
from typing import Final

import httptools

HEAD_MOST: Final = 16 * 1024  # bytes without anything of a body in them: of a head, of trailers
_METHODS: Final = (b"POST ", b"GET ", b"HEAD ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ")
_METHOD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ")
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_END: Final = b"\r\n\r\n"


class BadRequest(ValueError):  # HTTP's own word
    """What arrived is no HTTP request, or one that two readers may read in two ways."""


def with_known_method(head: bytes) -> tuple[bytes, str | None]:
    """Return a head that httptools reads whatever its method is, and that method.

    It knows some methods alone, while any word may be one: the app says which it has. None stands
    for the method that is there.
    """
    if head.startswith(_METHODS) or (found := _METHOD.match(head)) is None:
        return head, None
    return _METHODS[0] + head[found.end() :], found[1].decode()


class Framing:
    """Follows the requests of one connection, a piece after the other.

    ``complete`` says that a request is there to its last byte; ``begin`` goes on with the next.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self.begin()

    def begin(self) -> None:
        """Begin with the next request."""
        self.complete = False
        self.begun = False
        self.upgrade = False  # another protocol is asked for: nothing behind it is HTTP
        self._has_head = self._is_chunked = False
        self._body_left: int | None = None  # None where only its end says how long it is
        self._url = b""
        self._hosts = 0
        self._quiet = 0  # bytes since there was anything of a body

    def size_of_piece(self, data: bytes | bytearray) -> int:
        """Return how much of the data to feed at once: nothing of the next request is in it."""
        if self._body_left is not None:
            return min(len(data), self._body_left)
        if not self.begun and (end := data.find(_END)) >= 0:
            return end + len(_END)
        if not self.begun:
            return len(data)
        return data.find(b"\n") + 1 or len(data)

    def feed(self, piece: bytes) -> None:
        """Read the next piece.

        Raises:
            BadRequest: with what is wrong.
        """
        self.begun = True
        self._quiet += len(piece)
        if not self._has_head:
            self._check_quiet()
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self.upgrade = True
        except httptools.HttpParserError as error:
            raise BadRequest(str(error.__context__ or error)) from error
        if not self.complete:
            self._check_quiet()

    def _check_quiet(self) -> None:
        if self._quiet > HEAD_MOST:
            raise BadRequest(f"there is no end to its head within {HEAD_MOST} bytes")

    # What httptools calls. An exception comes out of its feed_data, as the context of its own.

    def on_message_begin(self) -> None:
        """Refuse another request in the same piece."""
        if self.complete:
            raise BadRequest("it does not end where its lines do")

    def on_url(self, url: bytes) -> None:
        """Collect the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Look at the headers that say where a request goes and where it ends."""
        size = len(name)
        if size == 4 and name.lower() == b"host":  # noqa: PLR2004  # most names need no more
            self._hosts += 1
        elif size == 14 and name.lower() == b"content-length":  # noqa: PLR2004
            self._body_left = int(value)
        elif size == 17 and name.lower() == b"transfer-encoding":  # noqa: PLR2004
            if self._is_chunked or value.lower() != b"chunked":
                raise BadRequest("its Transfer-Encoding must be chunked, and stand there once")
            self._is_chunked = True

    def on_headers_complete(self) -> None:
        """Check the head as a whole."""
        self._has_head = True
        version = self._parser.get_http_version()
        if version not in _VERSIONS:
            raise BadRequest(f"its version must be 1.1, or 1.0, got {version}")
        if self._hosts > 1 or (not self._hosts and version != "1.0"):
            raise BadRequest(f"it must have the header Host once, got {self._hosts}")
        if not httptools.parse_url(self._url).path:
            raise BadRequest("its target has no path")

    def on_body(self, body: bytes) -> None:
        """Count a part of the body."""
        self._quiet = 0
        if self._body_left is not None:
            self._body_left -= len(body)

    def on_message_complete(self) -> None:
        """Note that the request is there."""
        self.complete = True
