"""One connection and its limits, on the real server."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from orderplane.gateway.http import connections
from orderplane.gateway.http.connections import (
    MAX_CHUNKS,
    MAX_HEADER,
    MAX_UNREAD_PER_ADDRESS,
    UNREAD_SECONDS,
    BoundedProtocol,
    protocol_for,
)
from orderplane.gateway.http.request_limits import MAX_IN_FLIGHT
from orderplane.gateway.http.waiting_room import WaitingRoom

from .threaded_server import PROXIES, ThreadedServer, app_without_dependencies, read_all, running

REQUEST = b"GET /.well-known/nothing HTTP/1.1\r\nHost: x\r\n"


class FewPlaces(BoundedProtocol):
    """Three connections may be idle, and two unread."""

    idle = WaitingRoom(per_address=3, total=3)
    unread = WaitingRoom(per_address=2, total=2)
    trusted = PROXIES


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadedServer]:
    with running(app_without_dependencies(), FewPlaces) as server:
        yield server


def problem_in(answer: bytes) -> tuple[int, str]:
    top, _, body = answer.partition(b"\r\n\r\n")
    lines = top.lower().split(b"\r\n")
    assert b"content-type: application/problem+json" in lines
    assert b"connection: close" in lines
    document = json.loads(body)
    assert int(top.split(b" ")[1]) == document["status"]
    return document["status"], document["code"]


@pytest.mark.parametrize(
    "sent",
    [
        b"this is no HTTP\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", REQUEST + b"a b: c\r\n\r\n",
        REQUEST + b"Content-Length: x\r\n\r\n", b"\x16\x03\x01\x02\x00",
        REQUEST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        REQUEST + b"Transfer-Encoding: gzip\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_http_is_answered_with_a_problem(server: ThreadedServer, sent: bytes) -> None:
    status, code = problem_in(server.ask(sent))
    assert (status, code) == (400, "bad_request")


@pytest.mark.parametrize("pieces", [1, 4])
def test_a_long_header_is_refused_also_when_it_comes_at_once(server: ThreadedServer, pieces: int) -> None:
    long = REQUEST + b"X-Long: " + b"x" * (2 * MAX_HEADER) + b"\r\n\r\n"
    size = len(long) // pieces
    answer = server.ask(*(long[start : start + size] for start in range(0, len(long), size)))
    # What was not read any more may come back as a reset, before the answer.
    assert answer == b"" or problem_in(answer) == (431, "header_too_large")


def test_a_body_in_too_many_chunks_is_refused(server: ThreadedServer) -> None:
    start = REQUEST.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\n"
    few = server.ask(
        start.replace(b"Host", b"Connection: close\r\nHost") + b"1\r\na\r\n" * 100 + b"0\r\n\r\n"
    )
    assert few.startswith(b"HTTP/1.1 404 ")
    many = server.ask(start + b"1\r\na\r\n" * (MAX_CHUNKS + 1))
    assert problem_in(many) == (400, "bad_request")


def test_half_a_header_is_not_waited_for(server: ThreadedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.05)
    assert problem_in(server.ask(REQUEST)) == (408, "request_timeout")
    assert server.ask() == b"", "who says nothing is told nothing"


def test_idle_connections_push_out_the_oldest_of_their_address(server: ThreadedServer) -> None:
    idle = [server.connect() for _ in range(3)]
    busy = idle.pop(0)
    busy.sendall(REQUEST + b"\r\n")
    assert busy.recv(65_536).startswith(b"HTTP/1.1 404 ")
    # It is idle again, and the youngest.
    idle += [busy, server.connect()]
    with idle.pop(0) as pushed_out:
        assert read_all(pushed_out) == b""
    for connection in idle:
        connection.sendall(REQUEST + b"Connection: close\r\n\r\n")
        assert b" 404 " in read_all(connection).partition(b"\r\n")[0]
        connection.close()
    assert eventually(server, lambda: len(FewPlaces.idle) == 0)


def test_an_answer_that_nobody_reads_ends_with_its_connection(server: ThreadedServer) -> None:
    connection = server.connect()
    server.cpu_seconds()
    served = [protocol.transport for protocol in server.server.server_state.connections]
    options = [
        transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        for transport in served
    ]
    connection.close()
    assert options
    assert set(options) == {UNREAD_SECONDS * 1000}


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system buffers little, an answer that nobody reads stays with the server."""
    create = socket.create_server

    def create_small(*arguments: Any, **more: Any) -> socket.socket:
        listening = create(*arguments, **more)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        return listening

    monkeypatch.setattr(socket, "create_server", create_small)


def ask_without_reading(server: ThreadedServer) -> socket.socket:
    """Two requests on one connection; the answer to the first one is in the way of the second."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n"
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.settimeout(10)
    connection.connect(server.address)
    connection.sendall(request + b"\r\n" + request + b"Connection: close\r\n\r\n")
    return connection


def eventually(server: ThreadedServer, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        server.cpu_seconds()
    return holds()


@pytest.mark.usefixtures("small_buffers")
def test_who_does_not_read_takes_no_room_from_others() -> None:
    """More connections than there may be requests at once."""
    protocol = protocol_for(PROXIES)
    with running(app_without_dependencies(), protocol) as server:
        with ExitStack() as deaf:
            for _ in range(MAX_IN_FLIGHT + 4):
                deaf.enter_context(ask_without_reading(server))
            assert eventually(server, lambda: len(protocol.unread) == MAX_UNREAD_PER_ADDRESS)
            answer = server.ask(REQUEST + b"Connection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 404 "), answer[:100]
        assert eventually(server, lambda: len(protocol.unread) == 0)


@pytest.mark.usefixtures("small_buffers")
def test_unread_answers_push_out_the_oldest_of_their_address() -> None:
    with running(app_without_dependencies(), FewPlaces) as server, ExitStack() as deaf:
        oldest, second = (deaf.enter_context(ask_without_reading(server)) for _ in range(2))
        assert eventually(server, lambda: len(FewPlaces.unread) == 2)
        served = set(server.server.server_state.connections)
        youngest = deaf.enter_context(ask_without_reading(server))
        assert eventually(server, lambda: not served <= server.server.server_state.connections)
        # Who reads after all gets everything, and gives the place back.
        answers = [
            read_all(connection).count(b'"openapi":"3.1.0"') for connection in (oldest, second, youngest)
        ]
        assert answers == [1, 2, 2]
        assert eventually(server, lambda: len(FewPlaces.unread) == 0)


@pytest.mark.parametrize(
    ("headers", "body", "arrives"),
    [
        ([(b"content-length", b"2"), (b"location", b"/a\r\nset-cookie: b")], b"ok", b""),
        ([(b"content-length", b"2"), (b"location", b"/a\nset-cookie: b")], b"ok", b""),
        ([(b"content-type", b"text/plain")], b"ok", b""),
        ([(b"content-length", b"1")], b"ok", b""),
        ([(b"content-length", b"3")], b"ok", b"ok"),
    ],
)
def test_an_answer_that_could_be_read_as_two_ends_its_connection(
    headers: list[tuple[bytes, bytes]], body: bytes, arrives: bytes
) -> None:
    """A mistake of a route: no header is split, and the next request gets no half answer."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    with running(answer, protocol_for(PROXIES)) as server:
        got = server.ask((REQUEST + b"\r\n") * 2)
    assert got.count(b"HTTP/1.1 ") == (1 if arrives else 0)
    assert got.endswith(arrives)


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [("GET", 200, 2), ("HEAD", 200, 2), ("GET", 304, None), ("GET", 204, None)],
)
def test_an_answer_is_one_packet_and_the_connection_is_used_again(
    method: str, status: int, length: int | None
) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % length)] if length is not None else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = b"ok" if length is not None and scope["method"] != "HEAD" else b""
        await send({"type": "http.response.body", "body": body})

    request = REQUEST.replace(b"GET", method.encode()) + b"\r\n"
    with running(answer, protocol_for(PROXIES)) as server, server.connect() as connection:
        for _ in range(3):
            connection.sendall(request)
            got = connection.recv(65_536)
            assert got.startswith(b"HTTP/1.1 %d " % status)
            assert got.endswith(b"\r\n\r\nok" if method == "GET" and length else b"\r\n\r\n")
            assert (b"content-length" in got) is (length is not None)
            assert b"transfer-encoding" not in got
