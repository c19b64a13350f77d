"""`python -m orderplane.console.main`: the console as a process."""

import asyncio
import sys
import time

import aiohttp
import uvicorn

from orderplane.adapters.http_server import Server
from orderplane.adapters.process import Process, run_process
from orderplane.client.transport import connect
from orderplane.console.app import create_app
from orderplane.console.context import Console
from orderplane.console.oidc import Provider
from orderplane.console.prometheus import Prometheus
from orderplane.console.rendering import Pages, StaticFiles
from orderplane.console.sessions import Sessions
from orderplane.console.settings import ConsoleSettings

DRAIN_SECONDS = 10
API_SECONDS = 10.0
"""The most that one request to the API may take."""

_API_RETRY_SECONDS = 3.0
_API_CONNECTIONS = 64
_OTHERS = aiohttp.ClientTimeout(total=5, connect=2)
"""For the provider of OpenID Connect, and Prometheus."""


async def serve(settings: ConsoleSettings, process: Process) -> None:
    """Serve pages until the process is asked to stop; then end the streams, and what is under way."""
    async with (
        connect(
            settings.gateway_url,
            seconds=API_SECONDS,
            retry_seconds=_API_RETRY_SECONDS,
            connections=_API_CONNECTIONS,
        ) as transport,
        aiohttp.ClientSession(timeout=_OTHERS, cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        static = StaticFiles()
        console = Console(
            sessions=Sessions(time.monotonic),
            transport=transport,
            provider=_provider(settings, process, http),
            static=static,
            pages=Pages(static),
            is_secure=settings.own_url.startswith("https:"),
            stopping=process.stopping,
            open_breakers=Prometheus(http, settings.prometheus_url).open_breakers,
        )
        server = Server(
            uvicorn.Config(
                create_app(console),
                host=settings.http_host,
                port=settings.http_port,
                # It bounds the header of a request; nobody measures the console by its parser.
                http="h11",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=16_384,
                timeout_keep_alive=30,
                limit_concurrency=500,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        process.serving(lambda: server.started, address=f"{settings.own_url}/console/")
        stop = asyncio.create_task(server.exit_when(process.stopping, 0.0), name="stop")
        try:
            await server.serve()
        finally:
            stop.cancel()


def _provider(settings: ConsoleSettings, process: Process, http: aiohttp.ClientSession) -> Provider | None:
    if settings.oidc_issuer is None or settings.oidc_client_id is None:
        return None
    return Provider(
        http,
        settings.oidc_issuer,
        settings.oidc_client_id,
        process.secrets.reader("oidc_client_secret") if settings.oidc_client_secret else None,
        redirect_uri=f"{settings.own_url}/console/sign-in/callback",
        scopes=settings.oidc_scopes,
        resource=settings.oidc_resource,
    )


def main() -> int:
    """Run the console; returns the exit code."""
    return run_process("console", ConsoleSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
