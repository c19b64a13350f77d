"""The application of the console in this process, in front of an API that a test has made."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from aiohttp import web

from orderplane.client.client import Client
from orderplane.client.transport import Transport, connect
from orderplane.console.app import create_app
from orderplane.console.context import Console
from orderplane.console.oidc import Provider
from orderplane.console.rendering import Pages, StaticFiles
from orderplane.console.sessions import Sessions


async def none() -> None:
    """Nothing is known of breakers, and nobody has to be logged out."""


@dataclass
class Desk:
    """A console, and a browser without scripts at it."""

    console: Console
    http: httpx.AsyncClient

    def signed_in(self) -> None:
        """Have somebody of the staff signed in."""

        class Token:
            async def token(self, *, rejected: str | None = None) -> str:
                return "staff"

        client = Client(self.console.transport, tokens=Token())
        begin = self.console.sessions.begin
        identifier = begin(client, none, user="ada", merchant="demo", is_admin=False)
        self.http.cookies.set(self.console.cookie, identifier)


@asynccontextmanager
async def desk_before(
    api: str, *, provider: Provider | None = None, is_secure: bool = False
) -> AsyncIterator[Desk]:
    """A console whose API is at that address."""
    async with connect(api, retry_seconds=0.1) as transport:
        yield desk(transport, provider=provider, is_secure=is_secure)


def desk(transport: Transport, *, provider: Provider | None, is_secure: bool) -> Desk:
    static = StaticFiles()
    console = Console(
        sessions=Sessions(time.monotonic),
        transport=transport,
        provider=provider,
        static=static,
        pages=Pages(static),
        is_secure=is_secure,
        stopping=asyncio.Event(),
        open_breakers=none,
    )
    app: Any = create_app(console)
    url = f"{'https' if is_secure else 'http'}://shop.example"
    return Desk(console, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=url))


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """An application on a port of its own; gives its address."""
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
