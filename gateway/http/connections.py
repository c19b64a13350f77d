"""Limits on what one connection may take, and problem documents for what is no HTTP."""

import asyncio
import resource
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from orderplane.gateway.http.client_address import Networks, is_trusted, subscriber
from orderplane.gateway.http.problems import Problem, render
from orderplane.gateway.http.waiting_room import Place, WaitingRoom

HEADER_SECONDS = 10.0
"""From the connection, or the first byte of a later request, to the end of the header."""
MAX_HEADER = 16 * 1024
"""Bytes of a request line and its header fields. Somewhat more may pass, because data comes in pieces."""
MAX_CHUNKS = 1024
"""Chunks of one body. Each costs 10 microseconds, whether it brings 64 kB or one byte."""

MAX_IDLE_PER_ADDRESS = 256
MAX_IDLE = 4096
"""Connections without a request; each takes a file descriptor."""

UNREAD_SECONDS = 30
"""How long a client may leave an answer unread before its connection ends."""
MAX_UNREAD_PER_ADDRESS = 64
MAX_UNREAD = 256
"""Connections whose client reads more slowly than it asks; each may hold answers of 400 kB."""

_PIECE = 4 * 1024


class Connection(h11.Connection):
    """h11's connection, with a bound on the number of chunks of a body."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEADER)
        self._chunks = 0

    def next_event(self) -> Any:
        """As h11's.

        Raises:
            h11.RemoteProtocolError: the client violates HTTP, or its body has too many chunks.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = 0
        elif isinstance(event, h11.Data) and event.chunk_start:
            self._chunks += 1
            if self._chunks > MAX_CHUNKS:
                raise h11.RemoteProtocolError("too many chunks")
        return event


class BoundedProtocol(H11Protocol):
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
        self.conn = Connection()
        self._place: Place | None = None
        self._unread_place: Place | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _limit_unread(transport)
        self._update_deadline()
        self._update_place()

    def data_received(self, data: bytes) -> None:
        # In pieces, because h11 compares a header with its limit only while it is incomplete.
        for start in range(0, len(data), _PIECE):
            if not self.transport.is_closing():
                super().data_received(data[start : start + _PIECE])
        self._update_deadline()
        self._update_place()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._update_place()

    def pause_writing(self) -> None:
        super().pause_writing()
        address = self._counted_address()
        if self._unread_place is None and address:
            # `close` would wait until all is read.
            self._unread_place = self.unread.enter(address, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._leave_unread()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self._leave()
        self._leave_unread()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        if self._is_reading_header() and len(self.conn.trailing_data[0]) > MAX_HEADER:
            self._refuse(Problem("header_too_large", f"A header may have {MAX_HEADER} bytes."))
        else:
            self._refuse(Problem("bad_request", "This is not HTTP/1.1 as this server reads it."))

    def _is_reading_header(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

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
        elif self._place is None and (address := self._counted_address()):
            self._place = self.idle.enter(address, self.transport.close)

    def _counted_address(self) -> str | None:
        """Whose places this connection takes; None if it takes none."""
        if self.client is None or is_trusted(self.client[0], self.trusted):
            return None
        return subscriber(self.client[0])

    def _leave(self) -> None:
        if self._place is not None:
            self.idle.leave(self._place)
            self._place = None

    def _leave_unread(self) -> None:
        if self._unread_place is not None:
            self.unread.leave(self._unread_place)
            self._unread_place = None

    def _time_out(self) -> None:
        if self.conn.trailing_data[0]:
            self._refuse(Problem("request_timeout", f"No header came within {HEADER_SECONDS:.0f} s."))
        else:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answer with a problem, if no answer has begun, and end the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body, headers = render(problem)
            headers |= {"Content-Length": str(len(body)), "Connection": "close"}
            answer = h11.Response(status_code=problem.type.status, headers=list(headers.items()))
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
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
