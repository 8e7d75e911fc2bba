"""Where an HTTP request ends: the same place, however its bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.http_framing import (
    MAX_HEAD_BYTES,
    MAX_METHOD_BYTES,
    BadRequest,
    Framing,
    with_known_method,
)

HOST = b"Host: x\r\n"
GET = b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc"
CHUNKED = (
    b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: Chunked\r\n\r\n"
    b"3\r\na\nb\r\n1;x=y\r\n\n\r\n0\r\nTrailer: z\r\n\r\n"
)
EMPTY = b"PUT /a HTTP/1.1\r\nContent-Length: 0\r\nX: y\r\n" + HOST + b"\r\n"
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUPGRADE: h2c\r\nHTTP2-Settings: AAM\r\n"
GOOD = [
    GET,
    POST,
    CHUNKED,
    b"\r\n" + GET,
    b"\r\n\r\n" + EMPTY,
    EMPTY,
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    POST.replace(b"POST", b"FLY"),
    GET.replace(b"GET", b"PRI"),
    POST.replace(HOST, OFFER + HOST),
    CHUNKED.replace(HOST, HOST + OFFER),
    GET.replace(b"/a", b"http://X/a"),
]
LAST = [GET.replace(HOST, b"Connection: close\r\n" + HOST), b"GET /a HTTP/1.0\r\n\r\n"]


def pieces(data: bytes, cuts: list[int]) -> list[list[bytes]]:
    """Return the pieces of each request in data that arrives in parts, cut at these places."""
    framing, received = Framing(), bytearray()
    found: list[list[bytes]] = [[]]
    places = sorted({min(each, len(data)) for each in cuts} | {len(data)})
    for begin, end in zip([0, *places], places, strict=False):
        received += data[begin:end]
        while piece := framing.take(received):
            found[-1].append(piece)
            if framing.complete:
                found.append([])
                framing.begin()
    assert not received
    assert not found.pop()
    return found


def ends(data: bytes, cuts: list[int]) -> list[int]:
    """Return where each request ends, of those that nothing is left out of."""
    lengths = [len(b"".join(each)) for each in pieces(data, cuts)]
    return [sum(lengths[: number + 1]) for number in range(len(lengths))]


def passed_on(request: bytes) -> bytes:
    """Return what httptools is given of a good request."""
    request = request.removeprefix(b"\r\n").removeprefix(b"\r\n").replace(b"UPGRADE: h2c\r\n", b"")
    return request.replace(b"FLY /", b"POST /").replace(b"PRI /", b"POST /")


@given(
    st.lists(st.sampled_from(GOOD), max_size=4),
    st.sampled_from(GOOD + LAST),
    st.lists(st.integers(0, 600), max_size=12),
)
def test_framing_separates_requests_split_at_any_byte(
    requests: list[bytes], last: bytes, cuts: list[int]
) -> None:
    """One after the other, in any parts: no piece contains bytes of the next request."""
    requests = [*requests, last]
    found = [b"".join(each) for each in pieces(b"".join(requests), cuts)]
    assert found == [passed_on(each) for each in requests]


@pytest.mark.parametrize("request_", GOOD)
def test_framing_passes_on_whole_heads(request_: bytes) -> None:
    """uvicorn begins to answer with the end of the head, and must know all of it."""
    for cuts in ([], list(range(len(request_)))):
        [[head, *_]] = pieces(request_, cuts)
        assert head == passed_on(request_)[: len(head)]
        assert head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (b"GET /a HTTP/1.1\r\n\r\n", "Host once, got 0"),
        (b"GET /a HTTP/1.1\r\n" + HOST + HOST + b"\r\n", "Host once, got 2"),
        (b"GET /a HTTP/1.0\r\n" + HOST + HOST + b"\r\n", "Host once, got 2"),
        (b"GET /a HTTP/2.0\r\n" + HOST + b"\r\n", "version must be 1.1"),
        (POST.replace(b"Content-Length: 3", b"Content-Length: 3\r\nContent-Length: 3"), "Length"),
        (POST.replace(b"Content-Length: 3", b"Content-Length: 3, 3"), "Length"),
        (POST.replace(b"Content-Length: 3", b"Content-Length: +3"), "Length"),
        (POST.replace(b"Content-Length: 3", b"Content-Length: " + b"9" * 40), "Length"),
        (CHUNKED.replace(b"Transfer", b"Content-Length: 3\r\nTransfer"), "Transfer-Encoding"),
        (CHUNKED.replace(b"Chunked", b"Chunked\r\nContent-Length: 3"), "Length"),
        (CHUNKED.replace(b"Chunked", b"gzip, chunked"), "Transfer-Encoding"),
        (
            CHUNKED.replace(b"Chunked", b"chunked\r\nTransfer-Encoding: chunked"),
            "Transfer-Encoding",
        ),
        (CHUNKED.replace(b"Chunked", b"chunked, identity"), "Transfer-Encoding"),
        (CHUNKED.replace(b"Transfer-Encoding:", b"Transfer-Encoding :"), "header"),
        (CHUNKED.replace(b"\r\n3\r\n", b"\r\n0x3\r\n"), "chunk size"),
        (CHUNKED.replace(b"\r\n3\r\n", b"\r\n-3\r\n"), "chunk size"),
        (GET.replace(b"\r\n", b"\n"), "CRLF"),
        (GET.replace(HOST, HOST + b" folded\r\n"), "whitespace"),
        (GET.replace(HOST, HOST + b"X: \x00\r\n"), "header value"),
        (GET.replace(b"/a", b"/\xff"), "url"),
        (b"\x16\x03\x01\x02\x00", "method"),
        (b"x" * (MAX_METHOD_BYTES + 1), "method"),
        (GET.replace(b"/a", b"http://y/a"), "the same host"),
        (GET.replace(b"/a", b"http://x:81/a"), "the same host"),
        (GET.replace(HOST, b"Upgrade : h2c\r\n" + HOST), "header"),
        (GET.replace(HOST, HOST + b"Upgrade: h2c\r\n folded\r\n"), "whitespace"),
    ],
)
def test_framing_refuses_ambiguous_requests(request_: bytes, why: str) -> None:
    """Before any of it is passed on, with the reason."""
    with pytest.raises(BadRequest, match=why):
        ends(request_, [])


@pytest.mark.parametrize(
    "head",
    [
        GET.replace(HOST, HOST + b"X: " + b"x" * MAX_HEAD_BYTES + b"\r\n"),
        CHUNKED.replace(b"3\r\n", b"3;" + b"x" * MAX_HEAD_BYTES + b"\r\n"),
        CHUNKED.replace(b"z\r\n", b"z\r\n" * MAX_HEAD_BYTES),
        CHUNKED.replace(b"Trailer: z\r\n", b"T: z\r\n" * MAX_HEAD_BYTES),
    ],
)
@pytest.mark.parametrize("cuts", [[], list(range(0, 500_000, 1_000))])
def test_framing_bounds_heads_chunk_lines_and_trailers(head: bytes, cuts: list[int]) -> None:
    """So are chunk lines and trailers."""
    with pytest.raises(BadRequest):
        ends(head, cuts)


def test_framing_does_not_bound_a_body_like_a_head() -> None:
    """With or without a declared length."""
    size = 10 * MAX_HEAD_BYTES
    body = b"x" * size
    counted = POST.replace(b": 3\r\n\r\nabc", f": {size}\r\n\r\n".encode() + body)
    chunked = CHUNKED.replace(b"3\r\na\nb", f"{size:x}\r\n".encode() + body)
    cuts = list(range(0, size, MAX_HEAD_BYTES))
    assert ends(counted + chunked, cuts) == [len(counted), len(counted + chunked)]


@pytest.mark.parametrize("word", [b"GET", b"FLY", b"M-SEARCH", b"get", b"CONNECT", b"PRI"])
def test_framing_accepts_any_token_as_method(word: bytes) -> None:
    """A method that httptools does not know keeps its name."""
    head, method = with_known_method(GET.replace(b"GET", word))
    assert method == (None if word == b"GET" else word.decode())
    assert ends(head, []) == [len(head)]
    for cuts in ([], [1], list(range(len(head)))):
        framing, received = Framing(), bytearray()
        places = [*cuts, len(head)]
        whole = GET.replace(b"GET", word)
        for begin, end in zip([0, *places], [*places[:-1], len(whole)], strict=False):
            received += whole[begin:end]
            framing.take(received)
        assert (framing.complete, framing.method) == (True, method)
    for other in (b"", b"F", b"(x) / HTTP/1.1", b" GET /"):
        assert with_known_method(other) == (other, None)
