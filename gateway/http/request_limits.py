"""Limits on what one request may take. They hold before anything is parsed."""

import asyncio
from contextlib import suppress

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orderplane.gateway.http.client_address import Networks, client_address, subscriber
from orderplane.gateway.http.problems import Problem, render, unavailable
from orderplane.gateway.http.served_route import is_canonical
from orderplane.gateway.http.waiting_room import WaitingRoom

MAX_TARGET = 8 * 1024
"""Bytes of a path and its query. RFC 9112, 3, asks for 8,000 at least."""
MAX_BODY = 64 * 1024
BODY_SECONDS = 10.0
MAX_IN_FLIGHT = 256

MAX_UNFINISHED_PER_ADDRESS = 32
MAX_UNFINISHED = 1024
"""Requests whose body has not arrived; each may hold `MAX_BODY` bytes."""

_DRAIN_BYTES = 4 * 1024 * 1024
_DRAIN_SECONDS = 1.0


class RequestLimitsMiddleware:
    """Refuses too many requests at once (503), too long a target (414), too large a body (413) and too slow a
    body (408).

    The whole body is read here and passed on in one piece. At 64 kB that is cheap, and the routes need no
    protection of their own against slow or endless bodies. Until the body has arrived, a request counts for
    its address and takes no room from the others. Nor does an answer that waits for its client to read:
    `connections.py` bounds those.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_in_flight: int = MAX_IN_FLIGHT,
        unfinished_per_address: int = MAX_UNFINISHED_PER_ADDRESS,
        trusted: Networks = (),
    ) -> None:
        self._app = app
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._unfinished = WaitingRoom(per_address=unfinished_per_address, total=MAX_UNFINISHED)
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length")
        has_body = length is not None or b"transfer-encoding" in headers
        try:
            _check_target(scope)
            body = await self._read_body(scope, receive, headers) if has_body else b""
        except Problem as problem:
            await (_send_problem_and_drain if has_body else _send_problem)(problem, receive, send)
            return
        if body is None:
            return
        if self._in_flight >= self._max_in_flight:
            busy = f"{self._max_in_flight} requests are being answered already. Repeat this one shortly."
            await _send_problem(unavailable(busy, code="overloaded"), receive, send)
            return
        _drop_cookies(scope)
        self._in_flight += 1
        is_answered = False

        def leave() -> None:
            nonlocal is_answered
            if not is_answered:
                is_answered = True
                self._in_flight -= 1

        async def leave_and_send(message: Message) -> None:
            # Answers are whole before they are sent, and `send` waits for clients that do not read.
            leave()
            await send(message)

        try:
            await self._app(scope, _replay(body, receive) if has_body else receive, leave_and_send)
        finally:
            leave()

    async def _read_body(self, scope: Scope, receive: Receive, headers: dict[bytes, bytes]) -> bytes | None:
        """The whole body; None if the client disconnected."""
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
            # RFC 9110, 15.5.16 and 12.5.3.
            raise Problem(
                "unsupported_media_type",
                "Send the body as it is, without Content-Encoding.",
                headers={"Accept-Encoding": "identity"},
            )
        if b"content-length" in headers and int(headers[b"content-length"]) > MAX_BODY:
            raise _too_large()
        why = f"The body did not arrive within {BODY_SECONDS:.0f} s. Send it in one go."
        try:
            async with asyncio.timeout(BODY_SECONDS) as deadline:

                def give_up() -> None:
                    nonlocal why
                    why = "Too many requests of your address are unfinished, and this one is the oldest."
                    deadline.reschedule(0)

                address = subscriber(client_address(HTTPConnection(scope), self._trusted))
                place = self._unfinished.enter(address, give_up)
                try:
                    return await _read(receive)
                finally:
                    self._unfinished.leave(place)
        except TimeoutError:
            raise Problem("request_timeout", why) from None


def _check_target(scope: Scope) -> None:
    if len(scope.get("raw_path") or b"") + len(scope.get("query_string", b"")) > MAX_TARGET:
        raise Problem("target_too_long", f"Path and query may have {MAX_TARGET} bytes together.")
    if not is_canonical(scope):
        raise Problem(
            "route_not_found",
            "Paths are written without percent-encoding, without empty or dotted segments, and without a "
            "slash at the end. See /openapi.json for what there is.",
        )


def _drop_cookies(scope: Scope) -> None:
    """Remove the header Cookie. This API has no cookies, but FastAPI parses them for each request.

    Python's parser takes seconds for some headers of a few kB (CVE-2024-7592, fixed in Python 3.11.10).
    """
    scope["headers"] = [header for header in scope["headers"] if header[0] != b"cookie"]


async def _read(receive: Receive) -> bytes | None:
    chunks: list[bytes] = []
    size = 0
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


async def _send_problem(problem: Problem, _: Receive, send: Send) -> None:
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
