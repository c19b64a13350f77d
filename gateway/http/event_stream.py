"""Server-Sent Events: their form, and an answer that goes on until its stream ends.

Source: HTML Living Standard, 9.2.5 (parsing) and 9.2.6 (interpreting an event stream).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from starlette.responses import Response

MEDIA_TYPE = "text/event-stream"

ABORT = "orderplane.abort"
"""The extension of the ASGI scope that ends a connection at once, without what was not sent yet."""

Write = Callable[[bytes], Awaitable[None]]
"""Sends bytes to the client; waits while it has not read what was sent before."""


def event(name: str, data: bytes, *, id_: str | None = None) -> bytes:
    """One event.

    Args:
        data: One line.
        id_: Where a client goes on that has seen it, as its `Last-Event-ID`.
    """
    return b"%bevent: %b\ndata: %b\n\n" % (_id(id_), name.encode(), data)


def comment(text: str, *, id_: str | None = None) -> bytes:
    """What clients ignore, and what keeps a connection open. Its id counts, although there is no event."""
    return b": %b\n%b\n" % (text.encode(), _id(id_))


def reconnect_after(seconds: float) -> bytes:
    """Tells the client how long to wait, when the connection ends, before it connects again."""
    return b"retry: %d\n\n" % round(seconds * 1000)


def _id(id_: str | None) -> bytes:
    return b"id: %b\n" % id_.encode() if id_ is not None else b""


class Stream(Protocol):
    """What is sent, after the header of the answer."""

    async def run(self, write: Write, abort: Callable[[], None]) -> None:
        """Write until the end of the stream.

        Args:
            abort: Ends the connection, also while `write` waits for a client that does not read.
        """
        ...

    def close(self) -> None:
        """The client has gone, or wanted the header only. It may be called more than once."""
        ...


class EventStreamResponse(Response):
    """An answer without an end that is known. It is sent by `FrontDoor`."""

    media_type = MEDIA_TYPE

    def __init__(self, stream: Stream, headers: Mapping[str, str] | None = None) -> None:
        # Not Response.__init__, which would set the length of a body.
        self.status_code = 200
        self.background = None
        self.stream = stream
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})})
