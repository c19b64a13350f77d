"""What every request passes: telemetry, rate limits, limits on its size, admission of orders, its route.
And back: one answer, whatever was raised.

Each concern is a file of its own. They are called one after the other, and not each within the next as ASGI
middleware is, because an answer is whole before its first byte is sent: nothing needs to wrap `send`. Streams
are the exception: what they send comes after all that is counted and measured here.
"""

import asyncio

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orderplane.gateway.http.binding import routes_of
from orderplane.gateway.http.calls import Call
from orderplane.gateway.http.client_address import Networks, Subscribers
from orderplane.gateway.http.event_stream import ABORT, EventStreamResponse, Stream
from orderplane.gateway.http.exceptions import response_of
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.request_limits import RequestLimits, drain
from orderplane.gateway.http.telemetry import Observation
from orderplane.gateway.traffic.load_shedding import OrderAdmission
from orderplane.gateway.traffic.rate_limits import RateLimits, RouteClass, class_of, rate_limit_of

_NOSNIFF = (b"x-content-type-options", b"nosniff")
_CLOSE = (b"connection", b"close")


class FrontDoor:
    """The ASGI application: serves the routes that `api` declares.

    Args:
        trusted: Proxies, whose X-Forwarded-For is believed.
    """

    def __init__(
        self,
        api: FastAPI,
        *,
        trusted: Networks = (),
        limits: RequestLimits | None = None,
        rate_limits: RateLimits | None = None,
        admission: OrderAdmission | None = None,
    ) -> None:
        self.api = api
        self._routes = routes_of(api)
        self._subscribers = Subscribers(trusted)
        self._limits = limits or RequestLimits()
        self._rate_limits = rate_limits
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "neither lifespan nor WebSockets are served"
        scope["app"] = self.api
        call = Call(scope, receive, self._routes, self._subscribers)
        observation = Observation(call)
        try:
            response = await self._respond(call)
            if response is not None:
                observation.code = response.status_code
                if not isinstance(response, EventStreamResponse):
                    await _send(call, response, send)
        finally:
            observation.end()
        # How long a stream lasts is no latency.
        if isinstance(response, EventStreamResponse):
            await _send_stream(call, response.stream, _headers(call, response), send)

    async def _respond(self, call: Call) -> Response | None:
        """The answer; None if the client has disconnected."""
        try:
            if self._rate_limits is not None:
                await self._rate_limits.count_address(call)
            if not await self._limits.has_arrived(call):
                return None
            self._limits.enter()
            try:
                return await self._admitted(call)
            finally:
                self._limits.leave()
        except Exception as error:  # whatever it is: the client gets an answer
            return response_of(error, call)

    async def _admitted(self, call: Call) -> Response:
        if call.route is None:
            raise self._not_served(call)
        if self._admission is None or class_of(call.method, call.template) is not RouteClass.ORDERS:
            return await call.route.answer(call)
        with self._admission.place():
            return await call.route.answer(call)

    def _not_served(self, call: Call) -> Problem:
        if allowed := ", ".join(self._routes.allowed_methods(call.scope["path"])):
            return Problem("method_not_allowed", f"Use {allowed}.", headers={"Allow": allowed})
        return Problem("route_not_found", "See /openapi.json for what there is.")


def _headers(call: Call, response: Response) -> list[tuple[bytes, bytes]]:
    headers = [*response.raw_headers, _NOSNIFF]
    if rate_limit := rate_limit_of(call.scope):
        headers += rate_limit.headers()
    if call.is_body_refused:
        headers.append(_CLOSE)
    return headers


async def _send(call: Call, response: Response, send: Send) -> None:
    headers = _headers(call, response)
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    # HEAD is GET without the content of the answer (RFC 9110, 9.3.2).
    body = b"" if call.method == "HEAD" else response.body
    if call.is_body_refused:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await drain(call.receive)
        body = b""
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _send_stream(call: Call, stream: Stream, headers: list[tuple[bytes, bytes]], send: Send) -> None:
    async def write(data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})

    async def close_when_left() -> None:
        while (await call.receive())["type"] != "http.disconnect":
            pass
        stream.close()

    leaving = asyncio.create_task(close_when_left())
    try:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if call.method != "HEAD":
            await stream.run(write, call.scope.get("extensions", {}).get(ABORT, stream.close))
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        leaving.cancel()
        stream.close()
