"""Limits on what one connection may take, and problem documents for what is no HTTP."""

import asyncio
import resource
import socket
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from orderplane.gateway.http.client_address import Networks, is_trusted, subscriber
from orderplane.gateway.http.event_stream import ABORT
from orderplane.gateway.http.exchange import Exchange
from orderplane.gateway.http.problems import Problem, render
from orderplane.gateway.http.waiting_room import Place, WaitingRoom

HEADER_SECONDS = 10.0
"""From the connection, or the first byte of a later request, to the end of the header."""
MAX_HEADER = 16 * 1024
"""Bytes of a request line and its header fields. Somewhat more may pass, because data comes in pieces."""
MAX_CHUNKS = 1024
"""Chunks of one body. Each costs a microsecond, whether it brings 64 kB or one byte."""
MAX_FRAMING = 16 * 1024
"""Bytes of a body that are not its content: sizes of chunks, their extensions, and trailers."""

MAX_IDLE_PER_ADDRESS = 256
MAX_IDLE = 4096
"""Connections without a request; each takes a file descriptor."""

UNREAD_SECONDS = 30
"""How long a client may leave an answer unread before its connection ends."""
MAX_UNREAD_PER_ADDRESS = 64
MAX_UNREAD = 256
"""Connections whose client reads more slowly than it asks; each may hold answers of 400 kB."""

_PIECE = 4 * 1024
"""Bytes that are parsed at once. So few requests of one connection are begun before the first is answered."""
_VERSIONS = ("1.1", "1.0")

RawHeaders = list[tuple[bytes, bytes]]


class NotHttp(Exception):  # noqa: N818 - httptools passes it on as an error of its own
    """The request violates HTTP in a way that httptools does not see."""


def check_head(version: str, target: bytes, headers: RawHeaders) -> None:
    """Refuse what llhttp lets through and another reader of the same bytes may understand differently.

    Raises:
        NotHttp: it is no HTTP/1, it has no path (RFC 9112, 3.2.1), not exactly one Host (3.2), or a body that
            is coded in another way than in chunks (6.1).
    """
    if version not in _VERSIONS or not target.startswith(b"/") or b"#" in target:
        raise NotHttp
    hosts = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding" and (value.lower() != b"chunked" or version == "1.0"):
            raise NotHttp
    if hosts > 1 or (hosts == 0 and version != "1.0"):
        raise NotHttp


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with a deadline for each request header and bounds on connections that are idle
    or are not read.

    uvicorn itself waits for a header without limit, so a client that sends a byte now and then could hold
    connections until no more can be opened ("slowloris").

    `idle` has the places for connections without a request, `unread` those for connections whose client does
    not read what is answered. Connections of trusted proxies take none: they carry the requests of many.
    """

    idle: WaitingRoom
    unread: WaitingRoom
    trusted: Networks

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._unparsed = b""
        self._is_in_header = False
        self._is_prelude = False
        self._framing = 0
        self._chunks = 0
        self._refusal: Problem | None = None
        self._counted_address: str | None = None
        self._place: Place | None = None
        self._unread_place: Place | None = None
        self._deadline: asyncio.TimerHandle | None = None

    # The transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _limit_unread(transport)
        if self.client is not None and not is_trusted(self.client[0], self.trusted):
            self._counted_address = subscriber(self.client[0])
        self._update_deadline()
        self._update_place()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        data, self._unparsed = self._unparsed + data, b""
        for start in range(0, len(data), _PIECE):
            if self._refusal is not None or self.transport.is_closing():
                break
            if self._is_answering():
                self._unparsed = data[start:]
                self.flow.pause_reading()
                break
            self._parse(data[start : start + _PIECE])
        self._update_deadline()
        self._update_place()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread_place is None and self._counted_address:
            # `close` would wait until all is read.
            self._unread_place = self.unread.enter(self._counted_address, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._leave_unread()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self._leave()
        self._leave_unread()
        super().connection_lost(exc)

    # The parser

    def on_message_begin(self) -> None:
        if not self._is_prelude:
            super().on_message_begin()
            self._is_in_header = True
            self._chunks = 0

    def on_url(self, url: bytes) -> None:
        if not self._is_prelude:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        # After the header come trailers, which are not used (RFC 9110, 6.5.1).
        if self._is_in_header:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """As uvicorn's, with our checks and our `Exchange`."""
        self._framing = 0
        if self._is_prelude:
            return
        version = self.parser.get_http_version()
        check_head(version, self.url, self.headers)
        self._is_in_header = False
        raw_path, _, query = self.url.partition(b"?")
        self.scope["http_version"] = version
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["path"] = unquote(raw_path.decode("ascii"))
        self.scope["raw_path"] = raw_path
        self.scope["query_string"] = query
        self.scope["extensions"] = {ABORT: self.transport.abort}  # type: ignore[dict-item]
        before = self.cycle
        self.cycle = Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > MAX_CHUNKS:
            raise NotHttp

    def on_body(self, body: bytes) -> None:
        self._framing -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._framing = 0
        # Of a request that asks for another protocol, the body is still to come: see `_decline_upgrade`.
        if not (self.parser.should_upgrade() and self._body_headers()):
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline and not self.transport.is_closing():
            if self._refusal is not None:
                self._end_with(self._refusal)
            elif self._unparsed:
                self.data_received(b"")
        self._update_place()

    def send_400_response(self, msg: str) -> None:
        if self._is_reading_header() and self._framing > MAX_HEADER:
            self._refuse(Problem("header_too_large", f"A header may have {MAX_HEADER} bytes."))
        else:
            self._refuse(Problem("bad_request", "This is not HTTP/1.1 as this server reads it."))

    def _parse(self, piece: bytes) -> None:
        self._framing += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(piece[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")
        else:
            if self._framing > (MAX_HEADER if self._is_reading_header() else MAX_FRAMING):
                self.send_400_response("")

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read on as HTTP/1.1: a server may ignore Upgrade (RFC 9110, 7.8). Java's client always sends it.

        httptools takes what follows the header for another protocol. So that the body is not read as the next
        request, the parser is told once more how the body ends.
        """
        if body := self._body_headers():
            self._is_prelude = True
            fields = b"".join(b"%b: %b\r\n" % field for field in body)
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + fields + b"\r\n")
            self._is_prelude = False
        if rest:
            self._framing -= len(rest)
            self._parse(rest)

    def _body_headers(self) -> RawHeaders:
        return [field for field in self.headers if field[0] in (b"content-length", b"transfer-encoding")]

    # Bounds

    def _is_reading_header(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_answering(self) -> bool:
        """Whether a request has arrived as a whole and is not answered yet."""
        return self.cycle is not None and not (self.cycle.more_body or self.cycle.response_complete)

    def _update_deadline(self) -> None:
        if not self._is_reading_header():
            self._cancel_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._time_out)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _update_place(self) -> None:
        if not self._is_reading_header() or self.transport.is_closing():
            self._leave()
        elif self._place is None and self._counted_address:
            self._place = self.idle.enter(self._counted_address, self.transport.close)

    def _leave(self) -> None:
        if self._place is not None:
            self.idle.leave(self._place)
            self._place = None

    def _leave_unread(self) -> None:
        if self._unread_place is not None:
            self.unread.leave(self._unread_place)
            self._unread_place = None

    def _time_out(self) -> None:
        if self._is_in_header:
            self._refuse(Problem("request_timeout", f"No header came within {HEADER_SECONDS:.0f} s."))
        else:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answer with a problem once all earlier requests are answered, and end the connection."""
        if self.pipeline and self.cycle.more_body:
            self.pipeline.popleft()  # the newest; its body is wrong, and it was not begun
            self._refusal = problem
        elif self._is_answering():
            self._refusal = problem
        else:
            self._end_with(problem)

    def _end_with(self, problem: Problem) -> None:
        """Answer with a problem, if no answer has begun, and end the connection."""
        if self._is_reading_header() or not self.cycle.response_started:
            body, headers = render(problem)
            headers |= {"Content-Length": str(len(body)), "Connection": "close"}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            self.transport.write(STATUS_LINE[problem.type.status] + lines.encode("latin-1") + b"\r\n" + body)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


def protocol_for(trusted: Networks) -> type[BoundedProtocol]:
    """The protocol of one server.

    At most half of the file descriptors of this process are for idle connections.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    total = MAX_IDLE if descriptors < 0 else min(MAX_IDLE, descriptors // 2)

    class ServerProtocol(BoundedProtocol):
        """With the places of this server."""

    ServerProtocol.idle = WaitingRoom(per_address=min(MAX_IDLE_PER_ADDRESS, total), total=total)
    ServerProtocol.unread = WaitingRoom(per_address=MAX_UNREAD_PER_ADDRESS, total=MAX_UNREAD)
    ServerProtocol.trusted = trusted
    return ServerProtocol


def _limit_unread(transport: asyncio.BaseTransport) -> None:
    """End the connection when its client leaves data unread for `UNREAD_SECONDS` (tcp(7), TCP_USER_TIMEOUT).

    Else an answer that nobody reads would keep its memory and its file descriptor.
    """
    connection = transport.get_extra_info("socket")
    if hasattr(socket, "TCP_USER_TIMEOUT") and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
