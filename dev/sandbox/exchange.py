"""What all sandboxes do with a request: check its key, inject faults, wait until its effect is on disk."""

import asyncio
import base64
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import orjson
from aiohttp import web

from orderplane.dev.sandbox.faults import Faults, Mode, read_faults
from orderplane.dev.sandbox.store import Store

HOLD_SECONDS = 60.0
"""How long a request without a reply is held before its connection is closed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply. One that is never sent has a body if the operation was carried out, and none if not."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_never_sent: bool = False


NO_REPLY = Reply(0, is_never_sent=True)

Operation = Callable[[web.Request, bytes], Awaitable[Reply]]
Perform = Callable[[], Awaitable[Reply]]
Around = Callable[[web.Request, bytes, Perform], Awaitable[Reply]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _directly(_request: web.Request, _body: bytes, perform: Perform) -> Reply:
    return await perform()


class Dialect(Protocol):
    """A provider's format of errors that do not depend on the content of the request.

    `id_header` is the response header with the id of the request.
    """

    id_header: str

    def unauthorized(self) -> Reply:
        """401."""
        ...

    def too_many(self) -> Reply:
        """429."""
        ...

    def broken(self) -> Reply:
        """500."""
        ...


@dataclass(frozen=True, slots=True)
class Surface:
    """The routes of a provider, and the exchange that they use."""

    app: web.Application
    exchange: "Exchange"


class Exchange:
    """Wraps operations into handlers.

    aiohttp does not cancel a handler when its client disconnects, so an accepted request is carried out.
    """

    def __init__(self, key: str, store: Store, dialect: Dialect) -> None:
        # A key with a colon is `user:password`.
        login = key if ":" in key else f"{key}:"
        self._tokens = (
            f"Bearer {key}".encode(),
            b"Basic " + base64.b64encode(login.encode()),
        )
        self._store = store
        self._dialect = dialect
        self._faults = Faults()
        self.stopping = asyncio.Event()

    def serve(self, operation: Operation, around: Around = _directly) -> Handler:
        """A handler for a route of the provider. `around` may reply without calling the operation."""

        async def handler(request: web.Request) -> web.StreamResponse:
            if not self._is_authorized(request):
                return self._response(self._dialect.unauthorized())
            body = await request.read()
            reply = await self._answer(operation, around, request, body)
            await self._store.wait_written()
            return await self._hold(request) if reply.is_never_sent else self._response(reply)

        return handler

    def control(self, operation: Callable[[bytes], object]) -> Handler:
        """A handler for `/_sandbox`: no faults are injected; ValueError and LookupError become 400."""

        async def handler(request: web.Request) -> web.StreamResponse:
            if not self._is_authorized(request):
                return self._response(self._dialect.unauthorized())
            try:
                document = operation(await request.read())
            except (ValueError, LookupError) as problem:
                return self._response(Reply(400, orjson.dumps({"error": str(problem)})))
            await self._store.wait_written()
            return self._response(Reply(200, orjson.dumps(document)))

        return handler

    def add_control(self, app: web.Application) -> None:
        """Add the routes that all sandboxes have."""
        app.router.add_get("/_sandbox/health", _health)
        app.router.add_get("/_sandbox/faults", self.control(lambda _: self._faults.describe(time.time())))
        app.router.add_post("/_sandbox/faults", self.control(self._set_faults))

    def _set_faults(self, body: bytes) -> object:
        now = time.time()
        self._faults = read_faults(orjson.loads(body), now)
        return self._faults.describe(now)

    async def _answer(self, operation: Operation, around: Around, request: web.Request, body: bytes) -> Reply:
        faults = self._faults
        mode = Mode(faults.draw(time.time()))

        async def break_it() -> Reply:
            if faults.after_effect:
                await operation(request, body)
            return self._dialect.broken()

        match mode:
            case Mode.OK:
                return await around(request, body, lambda: operation(request, body))
            case Mode.REFUSE_429:
                return self._dialect.too_many()
            case Mode.ERROR_500:
                return await around(request, body, break_it)
            case Mode.HANG:
                if faults.after_effect:
                    await around(request, body, lambda: operation(request, body))
                return NO_REPLY

    def _response(self, reply: Reply) -> web.Response:
        request_id = {self._dialect.id_header: f"req_{secrets.token_hex(8)}"}
        return web.Response(
            status=reply.status,
            body=reply.body,
            headers={**request_id, **reply.headers},
            content_type="application/json",
        )

    async def _hold(self, request: web.Request) -> web.StreamResponse:
        try:
            async with asyncio.timeout(HOLD_SECONDS):
                await self.stopping.wait()
        except TimeoutError:
            pass
        if request.transport is not None:
            request.transport.close()
        return web.Response(status=500)

    def _is_authorized(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "").encode()
        return any([hmac.compare_digest(given, token) for token in self._tokens])  # noqa: C419 - constant time


async def _health(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")
