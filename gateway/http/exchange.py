"""How an answer goes out over its connection."""

from collections.abc import Iterable

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from orderplane.gateway.http.event_stream import MEDIA_TYPE

_WITHOUT_CONTENT = (204, 304)
_EVENT_STREAM = MEDIA_TYPE.encode()


class Exchange(RequestResponseCycle):
    """One request and its answer, which says how long it is and goes out in one write with its header.

    uvicorn writes the header alone, which is one more system call and one more packet. Event streams do not
    know how long they are: they go out in chunks (RFC 9112, 7.1), or end with the connection.
    """

    _head = b""
    _is_without_content = False
    _has_length = True
    _is_chunked = False

    async def send(self, message: ASGISendEvent) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self.response_started, self.waiting_for_100_continue = True, False
            self._head = self._head_of(message["status"], message.get("headers", ()))
            return
        assert message["type"] == "http.response.body"
        assert self.response_started
        assert not self.response_complete
        body, is_end = message.get("body", b""), not message.get("more_body", False)
        if self._has_length:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("The answer is longer than its Content-Length.")
        elif self._is_chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if is_end else b"")
        self.transport.write(self._head + body)
        self._head = b""
        if is_end:
            if self._has_length and self.expected_content_length > 0:
                raise RuntimeError("The answer is shorter than its Content-Length.")
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    def _head_of(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        lines, length, is_stream = [STATUS_LINE[status]], None, False
        for name, value in (*self.default_headers, *headers):
            if name == b"connection" and value == b"close":
                self.keep_alive = False
                continue
            if name == b"content-length":
                length = int(value)
            elif name == b"content-type":
                is_stream = value.startswith(_EVENT_STREAM)
            lines.append(b"%b: %b\r\n" % (name, value))
        self._is_without_content = self.scope["method"] == "HEAD" or status in _WITHOUT_CONTENT
        self._has_length = not (is_stream or self._is_without_content)
        self._is_chunked = is_stream and not self._is_without_content and self.scope["http_version"] != "1.0"
        if self._is_chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        head = b"".join(lines)
        if not head.count(b"\r") == head.count(b"\n") == len(lines):
            raise RuntimeError("A field of the answer has more than one line.")
        if length is None and self._has_length:
            raise RuntimeError("The answer has no Content-Length.")
        self.expected_content_length = length or 0
        return head
