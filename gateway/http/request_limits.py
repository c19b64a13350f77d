"""Limits on what one connection and one request may take."""

import asyncio
from contextlib import suppress
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from orderplane.gateway.http.problems import Problem, render, unavailable

MAX_BODY = 64 * 1024
BODY_SECONDS = 10.0
MAX_IN_FLIGHT = 256

_LINGER_BYTES = 4 * 1024 * 1024
_LINGER_SECONDS = 1.0


class RequestLimitsMiddleware:
    """Refuses what is too much: requests at once (503), bytes (413), seconds for a body (408).

    The body is read here, whole, and handed on in one piece: at 64 kB that is cheap, and nothing behind
    has to think of a client that sends slowly or for ever.
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
            await _answer(unavailable(busy, code="overloaded"), send)
            return
        self._in_flight += 1
        try:
            await self._pass(scope, receive, send)
        finally:
            self._in_flight -= 1

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
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
            await _refuse(problem, receive, send)
            return
        if body is None:
            return
        await self._app(scope, _replay(body, receive), send)


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None where the client left."""
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
    is_told = False

    async def replay() -> Message:
        nonlocal is_told
        if is_told:
            return await receive()
        is_told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _refuse(problem: Problem, receive: Receive, send: Send) -> None:
    """Answer at once, then let the client finish its sentence.

    Closing a socket with unread bytes in it resets the connection, and the client would see the reset
    instead of the answer. So a bounded rest is read and thrown away before the connection goes.
    """
    body, headers = render(problem)
    headers |= {"Content-Length": str(len(body)), "Connection": "close"}
    await send(_start(problem, headers))
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            await _discard(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    size = 0
    while size < _LINGER_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return
        size += len(message.get("body", b""))


async def _answer(problem: Problem, send: Send) -> None:
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


HEAD_SECONDS = 10.0
"""From the connection, or the first byte of a later request, to the end of the head."""


class HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's protocol with a deadline for each head."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _look(self) -> None:
        is_waiting = self.cycle is None or self.cycle.response_complete
        if not is_waiting:
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        # No answer: nobody knows yet what was asked.
        self.transport.close()
