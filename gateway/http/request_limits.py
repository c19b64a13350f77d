"""Limits on what one connection and one request may take.

`HeaderTimeoutProtocol` limits the time for the header of a request, `RequestLimitsMiddleware` the number of
requests in flight and the size and time of a body. Both run before anything is parsed.
"""

import asyncio
from contextlib import suppress
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from orderplane.gateway.http.problems import Problem, render, unavailable

MAX_BODY = 64 * 1024
BODY_SECONDS = 10.0
MAX_IN_FLIGHT = 256

HEADER_SECONDS = 10.0
"""From the connection, or the first byte of a later request, to the end of the header."""

_DRAIN_BYTES = 4 * 1024 * 1024
_DRAIN_SECONDS = 1.0


class HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's HTTP protocol with a deadline for each request header.

    uvicorn itself waits for a header without limit, so a client that sends a byte now and then could hold
    connections until no more can be opened ("slowloris").
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._update_deadline()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def _update_deadline(self) -> None:
        is_reading_header = self.cycle is None or self.cycle.response_complete
        if not is_reading_header:
            self._cancel_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._time_out)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _time_out(self) -> None:
        # Without a response: there is no complete request that it could answer.
        self.transport.close()


class RequestLimitsMiddleware:
    """Refuses too many requests at once (503), too large a body (413) and too slow a body (408).

    The whole body is read here and passed on in one piece. At 64 kB that is cheap, and the routes need no
    protection of their own against slow or endless bodies.
    """

    def __init__(self, app: ASGIApp, *, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self._app = app
        self._max_in_flight = max_in_flight
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._in_flight >= self._max_in_flight:
            busy = f"{self._max_in_flight} requests are being answered already. Repeat this one shortly."
            await _send_problem(unavailable(busy, code="overloaded"), send)
            return
        self._in_flight += 1
        try:
            await self._call_with_body(scope, receive, send)
        finally:
            self._in_flight -= 1

    async def _call_with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length")
        if length is None and b"transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        try:
            if length is not None and int(length) > MAX_BODY:
                raise _too_large()
            body = await _read(receive)
        except Problem as problem:
            await _send_problem_and_drain(problem, receive, send)
            return
        if body is None:
            return
        await self._app(scope, _replay(body, receive), send)


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None if the client disconnected."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                chunk: bytes = message.get("body", b"")
                size += len(chunk)
                if size > MAX_BODY:
                    raise _too_large()
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        detail = f"The body did not arrive within {BODY_SECONDS:.0f} s. Send it in one go."
        raise Problem("request_timeout", detail) from None


def _replay(body: bytes, receive: Receive) -> Receive:
    is_sent = False

    async def replay() -> Message:
        nonlocal is_sent
        if is_sent:
            return await receive()
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _send_problem_and_drain(problem: Problem, receive: Receive, send: Send) -> None:
    """Send the response at once, then read and drop a bounded part of the body.

    Closing a socket with unread bytes resets the TCP connection, and the client would see the reset instead
    of the response.
    """
    body, headers = render(problem)
    headers |= {"Content-Length": str(len(body)), "Connection": "close"}
    await send(_start(problem, headers))
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            await _drain(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drain(receive: Receive) -> None:
    size = 0
    while size < _DRAIN_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return
        size += len(message.get("body", b""))


async def _send_problem(problem: Problem, send: Send) -> None:
    body, headers = render(problem)
    await send(_start(problem, headers | {"Content-Length": str(len(body))}))
    await send({"type": "http.response.body", "body": body})


def _start(problem: Problem, headers: dict[str, str]) -> Message:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": problem.type.status, "headers": raw}


def _too_large() -> Problem:
    return Problem(
        "body_too_large", f"A body may have {MAX_BODY} bytes at most. An order needs a few hundred."
    )
