"""Limits on what one request may take. They hold before anything is parsed."""

import asyncio
from contextlib import suppress

from starlette.types import Message, Receive

from orderplane.gateway.http.calls import Call
from orderplane.gateway.http.problems import Problem, unavailable
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


class RequestLimits:
    """Refuses too many requests at once (503), too long a target (414), too large a body (413) and too slow a
    body (408).

    The whole body is read here and passed on in one piece. At 64 kB that is cheap, and the routes need no
    protection of their own against slow or endless bodies. Until the body has arrived, a request counts for
    its address and takes no room from the others. Nor does an answer that waits for its client to read:
    `connections.py` bounds those.
    """

    def __init__(
        self,
        *,
        max_in_flight: int = MAX_IN_FLIGHT,
        unfinished_per_address: int = MAX_UNFINISHED_PER_ADDRESS,
    ) -> None:
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._unfinished = WaitingRoom(per_address=unfinished_per_address, total=MAX_UNFINISHED)

    async def has_arrived(self, call: Call) -> bool:
        """Check the target, and read the body to `call.content`; False if the client has disconnected.

        Raises:
            Problem: `target_too_long`, `route_not_found`, `unsupported_media_type`, `body_too_large`,
                `request_timeout`. The body is to be drained.
        """
        call.is_body_refused = call.has_body
        check_target(call)
        if call.has_body:
            body = await self._read_body(call)
            if body is None:
                return False
            call.content, call.is_body_refused = body, False
        return True

    def enter(self) -> None:
        """Take a place among the requests that are answered; `leave` gives it back.

        Raises:
            Problem: `overloaded`: there is none.
        """
        if self._in_flight >= self._max_in_flight:
            busy = f"{self._max_in_flight} requests are being answered already. Repeat this one shortly."
            raise unavailable(busy, code="overloaded")
        self._in_flight += 1

    def leave(self) -> None:
        """Undo `enter`, before the answer is sent: sending waits for clients that do not read."""
        self._in_flight -= 1

    async def _read_body(self, call: Call) -> bytes | None:
        """The whole body; None if the client disconnected."""
        if call.fields.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
            # RFC 9110, 15.5.16 and 12.5.3.
            raise Problem(
                "unsupported_media_type",
                "Send the body as it is, without Content-Encoding.",
                headers={"Accept-Encoding": "identity"},
            )
        if int(call.fields.get(b"content-length", b"0")) > MAX_BODY:
            raise _too_large()
        why = f"The body did not arrive within {BODY_SECONDS:.0f} s. Send it in one go."
        try:
            async with asyncio.timeout(BODY_SECONDS) as deadline:

                def give_up() -> None:
                    nonlocal why
                    why = "Too many requests of your address are unfinished, and this one is the oldest."
                    deadline.reschedule(0)

                place = self._unfinished.enter(call.subscriber, give_up)
                try:
                    return await _read(call.receive)
                finally:
                    self._unfinished.leave(place)
        except TimeoutError:
            raise Problem("request_timeout", why) from None


def check_target(call: Call) -> None:
    """Require a path that is not too long, in its one spelling.

    Raises:
        Problem: `target_too_long`, `route_not_found`.
    """
    scope = call.scope
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET:
        raise Problem("target_too_long", f"Path and query may have {MAX_TARGET} bytes together.")
    if not call.is_canonical:
        raise Problem(
            "route_not_found",
            "Paths are written without percent-encoding, without empty or dotted segments, and without a "
            "slash at the end. See /openapi.json for what there is.",
        )


async def drain(receive: Receive) -> None:
    """Read and drop a bounded part of a body, after the answer and before the end of the connection.

    Closing a socket with unread bytes resets the TCP connection, and the client would see the reset instead
    of the response.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            size = 0
            while size < _DRAIN_BYTES:
                message = await receive()
                if _is_last(message):
                    return
                size += len(message.get("body", b""))


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
        if _is_last(message):
            return b"".join(chunks)


def _is_last(message: Message) -> bool:
    return message["type"] == "http.disconnect" or not message.get("more_body", False)


def _too_large() -> Problem:
    return Problem(
        "body_too_large", f"A body may have {MAX_BODY} bytes at most. An order needs a few hundred."
    )
