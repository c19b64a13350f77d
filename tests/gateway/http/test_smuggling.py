"""What another reader of the same bytes could understand as other requests is refused, on the real server.

Where a proxy in front sees one request and this server two, the second one is not the proxy's: it gets past
its checks, or is answered to somebody else ("request smuggling", RFC 9112, 11.2).
"""

import re
from collections.abc import Iterator

import pytest

from orderplane.gateway.http.connections import MAX_FRAMING

from .threaded_server import ThreadedServer, app_without_dependencies, running

POST = b"POST /.well-known/first HTTP/1.1\r\nHost: x\r\n"
HIDDEN = b"GET /api/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n\r\n"
LAST = b"GET /.well-known/last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

REFUSED = {
    "a length and chunks": POST + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "chunks and a length": POST + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "the same length twice": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "a list of lengths": POST + b"Content-Length: 0, 0\r\n\r\n",
    "a signed length": POST + b"Content-Length: +0\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a length in hex": POST + b"Content-Length: 0x0\r\n\r\n",
    "a length with an underscore": POST + b"Content-Length: 0_0\r\n\r\n",
    "an empty length": POST + b"Content-Length:\r\n\r\n",
    "a length beyond 64 bits": POST + b"Content-Length: 18446744073709551616\r\n\r\n",
    "a length after a vertical tab": POST + b"Content-Length: \x0b0\r\n\r\n",
    "a length before a blank": POST + b"Content-Length : 0\r\n\r\n",
    "chunks before a blank": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunks before a tab": POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "another coding": POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "another coding, then chunks": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks, then another coding": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks in chunks": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunks twice": POST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    "chunks, then none": POST + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "nearly chunks": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks with a parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "chunks in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "chunks after a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "no coding": POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n",
    "chunks on a line of their own": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a field of two lines": POST + b"A: b\r\n c\r\n\r\n",
    "a field of two lines with a tab": POST + b"A: b\r\n\tc\r\n\r\n",
    "a blank before the first field": b"POST / HTTP/1.1\r\n Host: x\r\nHost: x\r\n\r\n",
    "lines that end in LF": POST.replace(b"\r\n", b"\n") + b"\n",
    "one line that ends in LF": POST + b"A: b\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "a header that ends in LF": POST + b"A: b\r\n\n",
    "a line that ends in CR": POST + b"A: b\r" + CHUNKED + b"\r\n0\r\n\r\n",
    "a NUL": POST + b"A: b\x00c\r\n\r\n",
    "a control character": POST + b"A: b\x01c\r\n\r\n",
    "a field without a name": POST + b": b\r\n\r\n",
    "a field without a colon": POST + b"abc\r\n\r\n",
    "a name that is no token": POST + b"a(b): c\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "two hosts in HTTP/1.0": b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2 in the line of HTTP/1": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
    "a blank after the version": b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    "a target of a proxy": b"GET http://y/api/orders HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target with a fragment": b"GET /api/orders#a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target with a control character": b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target that is no ASCII": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT y:80 HTTP/1.1\r\nHost: x\r\n\r\n",
}
BROKEN_CHUNKS = {
    "a signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "a size with its base": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a blank before the size": b" 3\r\nabc\r\n0\r\n\r\n",
    "a blank after the size": b"3 \r\nabc\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"1" + b"0" * 16 + b"3\r\nabc\r\n0\r\n\r\n",
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "a size that ends in LF": b"3\nabc\r\n0\r\n\r\n",
    "content that ends in LF": b"3\r\nabc\n0\r\n\r\n",
    "content that is longer": b"3\r\nabcd\r\n0\r\n\r\n",
    "an end in LF": b"3\r\nabc\r\n0\n\n",
    "an extension with LF": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "an extension with CR": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "an extension with a control character": b"3;a\x01b\r\nabc\r\n0\r\n\r\n",
    "a trailer that is no field": b"3\r\nabc\r\n0\r\nA b\r\n\r\n",
    "a length in a trailer": b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n",
    "chunks in a trailer": b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "endless extensions": b"1;" + b"a" * (2 * MAX_FRAMING) + b"\r\na\r\n0\r\n\r\n",
    "endless trailers": b"1\r\na\r\n0\r\n" + b"a: b\r\n" * (MAX_FRAMING // 2) + b"\r\n",
}
REFUSED |= {
    f"chunks with {name}": POST + CHUNKED + b"\r\n" + chunks for name, chunks in BROKEN_CHUNKS.items()
}

TAKEN = {
    "nothing": (b"", []),
    "a length": (POST + b"Content-Length: 3\r\n\r\nabc", [404]),
    "no body": (POST + b"\r\n", [404]),
    "chunks": (POST + CHUNKED + b"\r\n3\r\nabc\r\n0\r\n\r\n", [404]),
    "chunks with an extension": (POST + CHUNKED + b"\r\n3;a=b\r\nabc\r\n0\r\n\r\n", [404]),
    "chunks with a trailer": (POST + CHUNKED + b"\r\n3\r\nabc\r\n0\r\nHost: y\r\n\r\n", [404]),
    "content that looks like a request": (
        POST + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN, [404],
    ),
    "a body of a GET that looks like a request": (
        POST.replace(b"POST", b"GET") + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN, [404],
    ),
    "another protocol": (POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", [404]),
    "another protocol with a body": (
        POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n"
        + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN, [404],
    ),
    "another protocol with chunks": (
        POST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + CHUNKED
        + b"\r\n%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n0\r\n\r\n", [404],
    ),
    "many at once": (POST + b"\r\n" + HIDDEN * 200, [404] + [503] * 200),
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadedServer]:
    with running(app_without_dependencies()) as server:
        yield server


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)]


def single_bytes(sent: bytes) -> list[bytes]:
    return [sent[place : place + 1] for place in range(len(sent))]


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_two_readings_is_refused_and_nothing_after_it_is_read(
    server: ThreadedServer, name: str
) -> None:
    assert statuses(server.ask(REFUSED[name] + HIDDEN)) == [400]
    # Also after another request, whose answer comes first.
    assert statuses(server.ask(POST + b"\r\n" + REFUSED[name] + HIDDEN)) == [404, 400]


@pytest.mark.parametrize("name", REFUSED)
def test_it_does_not_matter_how_it_is_cut(server: ThreadedServer, name: str) -> None:
    sent = REFUSED[name]
    if len(sent) < 1_000:
        # What is sent after the refusal may come back as a reset, before the answer.
        assert statuses(server.ask(*single_bytes(sent))) in ([400], [])


@pytest.mark.parametrize("name", TAKEN)
def test_each_request_has_one_answer(server: ThreadedServer, name: str) -> None:
    sent, answered = TAKEN[name]
    assert statuses(server.ask(sent + LAST)) == [*answered, 404]
    if len(sent) < 1_000:
        assert statuses(server.ask(*single_bytes(sent + LAST))) == [*answered, 404]


def test_what_follows_the_last_request_is_not_read(server: ThreadedServer) -> None:
    assert statuses(server.ask(LAST + HIDDEN)) == [404]
    assert statuses(server.ask(LAST + b"nonsense")) == [404]


def test_a_trailer_is_no_header(server: ThreadedServer) -> None:
    """Else it could replace what a proxy has checked."""
    start = b"POST /api/orders HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + CHUNKED
    named = server.ask(start + b"Authorization: Bearer x\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
    hidden = server.ask(start + b"\r\n2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
    assert statuses(named) != [401]
    assert statuses(hidden) == [401]
