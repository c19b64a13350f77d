"""What all sandboxes do with every request: check its key, play faults, keep silent, wait for the disk."""

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

SILENCE_SECONDS = 60.0
"""How long a request that gets no answer is held before its connection is closed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. A silent one is never sent; with a body it was carried out, without one it was not."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_silent: bool = False


SILENT = Reply(0, is_silent=True)

Operation = Callable[[web.Request, bytes], Awaitable[Reply]]
Perform = Callable[[], Awaitable[Reply]]
Around = Callable[[web.Request, bytes, Perform], Awaitable[Reply]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _plainly(_request: web.Request, _body: bytes, perform: Perform) -> Reply:
    return await perform()


class Dialect(Protocol):
    """How a provider words the errors that have nothing to do with the request's content.

    `id_header` is the header in which it names each request.
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
    """A provider's routes, and what they share."""

    app: web.Application
    exchange: "Exchange"


class Exchange:
    """Wraps operations into handlers.

    aiohttp lets a handler run on when its client goes away, so what was accepted is carried out.
    """

    def __init__(self, key: str, store: Store, dialect: Dialect) -> None:
        # A key with a colon is a user and a password.
        login = key if ":" in key else f"{key}:"
        self._tokens = (
            f"Bearer {key}".encode(),
            b"Basic " + base64.b64encode(login.encode()),
        )
        self._store = store
        self._dialect = dialect
        self._faults = Faults()
        self.stopping = asyncio.Event()

    def serve(self, operation: Operation, around: Around = _plainly) -> Handler:
        """A handler for the provider's own surface; `around` may answer from memory instead."""

        async def handler(request: web.Request) -> web.StreamResponse:
            if not self._is_authorized(request):
                return self._response(self._dialect.unauthorized())
            body = await request.read()
            reply = await self._answer(operation, around, request, body)
            await self._store.settled()
            return await self._keep_silent(request) if reply.is_silent else self._response(reply)

        return handler

    def control(self, operation: Callable[[bytes], object]) -> Handler:
        """A handler for `/_sandbox`: never faulty; a ValueError or LookupError is a 400."""

        async def handler(request: web.Request) -> web.StreamResponse:
            if not self._is_authorized(request):
                return self._response(self._dialect.unauthorized())
            try:
                document = operation(await request.read())
            except (ValueError, LookupError) as problem:
                return self._response(Reply(400, orjson.dumps({"error": str(problem)})))
            await self._store.settled()
            return self._response(Reply(200, orjson.dumps(document)))

        return handler

    def add_control(self, app: web.Application) -> None:
        """Routes that all sandboxes have."""
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
                return SILENT

    def _response(self, reply: Reply) -> web.Response:
        request_id = {self._dialect.id_header: f"req_{secrets.token_hex(8)}"}
        return web.Response(
            status=reply.status,
            body=reply.body,
            headers={**request_id, **reply.headers},
            content_type="application/json",
        )

    async def _keep_silent(self, request: web.Request) -> web.StreamResponse:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
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
